//! A backup is put back under running replicas: what the database holds counts, though its version is lower.

use std::time::Duration;

use artifactapi_model::PackageType;
use artifactapi_services::Postgres;
use artifactapi_tests::{RemoteManifest, Services, Upstream, http, replicas::Options, wait};

/// Replicas look every few seconds, and when they have lost the database.
const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn under_replicas(services: &mut Services) {
    let upstream = Upstream::start().await;
    upstream.put("probe.bin", vec![1; 1_000]);
    let manifest = |blocked: bool| {
        let blocklist: &[&str] = if blocked { &["^probe[.]bin$"] } else { &[] };
        RemoteManifest::new("files", PackageType::Generic, &upstream).set("blocklist", blocklist).document()
    };
    let cluster = Options::new(manifest(false)).start(services).await;
    let everywhere = async |status: u16| {
        for replica in cluster.replicas() {
            let url = replica.remote("files") + "probe.bin";
            let answers = async || http::get(&url).await.status == status;
            wait::until(&format!("{status} from {url}"), SOON, answers).await;
        }
    };
    everywhere(200).await;
    let live = cluster.database();
    let backup = format!("{live}_backup");
    let sql = |text: String| services.postgres.sql(Postgres::DATABASE, &text);
    let close = |database: &str| {
        sql(format!("ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false"));
        sql(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"));
    };
    close(live);
    sql(format!("CREATE DATABASE {backup} TEMPLATE {live}"));
    sql(format!("ALTER DATABASE {live} WITH ALLOW_CONNECTIONS true"));
    everywhere(200).await;
    for blocked in [true, false, true] {
        let told = cluster.apply(&manifest(blocked)).await;
        assert_eq!(told.code, Some(0), "{}", told.text);
        everywhere(if blocked { 403 } else { 200 }).await;
    }
    let version = |database: &str| {
        let version = services.postgres.sql(database, "SELECT version FROM config_version");
        version.parse::<i64>().expect("a number")
    };
    let former = version(live);
    close(live);
    sql(format!("DROP DATABASE {live} WITH (FORCE)"));
    sql(format!("ALTER DATABASE {backup} RENAME TO {live}"));
    sql(format!("ALTER DATABASE {live} WITH ALLOW_CONNECTIONS true"));
    assert!(version(live) < former, "it is older");
    everywhere(200).await;
    // From there as many changes as before, of another kind: the same version says something else.
    let told = cluster.apply(&manifest(true)).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    everywhere(403).await;
}

/// Another history of the same length: only its stamp tells it from the one in service.
pub(crate) async fn by_a_twin(services: &mut Services) {
    let upstream = Upstream::start().await;
    upstream.put("probe.bin", vec![1; 1_000]);
    let manifest = RemoteManifest::new("files", PackageType::Generic, &upstream).document();
    let cluster = Options::new(manifest).start(services).await;
    let answers = async |status: u16| {
        let url = cluster.replicas()[0].remote("files") + "probe.bin";
        wait::until(&url, SOON, async || http::get(&url).await.status == status).await;
    };
    answers(200).await;
    services.postgres.sql(
        cluster.database(),
        "BEGIN; DELETE FROM objects; UPDATE config_version SET database_id = gen_random_uuid()::TEXT; COMMIT",
    );
    answers(404).await;
}
