//! Robots' tokens on the stores of replicas: made by the command line, they count everywhere at once, and revoked
//! nowhere any more; clocks that are wrong change nothing of that (RS-54, RS-95).

use std::{fs, path::Path, time::Duration};

use artifactapi_tests::{
    Registry, Services,
    http::{self, Fetched},
    manifest,
    registry::{Image, sha256},
    replicas::{Cluster, Options},
    wait,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agreement::FAKETIME;

const LOCAL: &str = "team";
const REPLICAS: usize = 3;
/// Longest time from the end of the command to its effect at every replica. README: "within a second or so"; the
/// machine is busy.
const SOON: Duration = Duration::from_secs(5);
/// The same when nobody tells replicas of it. README: "at the latest within a minute".
const LATEST: Duration = Duration::from_secs(60);

/// Life of a token whose end is waited for.
const LIFE: Duration = Duration::from_secs(3);

/// A private Local, and which tags of it are immutable.
fn documents(immutable: &[&str]) -> String {
    let access = json!({ "read": "authenticated" });
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": "Local", "metadata": { "name": LOCAL },
        "spec": { "type": "docker", "access": access, "immutableTags": immutable },
    });
    manifest::join(&[format!("{manifest}\n")])
}

/// A token that the command line has made.
struct Made {
    token: String,
    id: String,
}

impl Made {
    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("anyone:{}", self.token)))
    }
}

async fn tool(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let told = cluster.command_env(&[&["token"], arguments, &["--json"]].concat(), environment).await;
    assert_eq!(told.code, Some(0), "{arguments:?}: {}", told.text);
    serde_json::from_str(&told.text).unwrap_or_else(|error| panic!("{error}: {}", told.text))
}

async fn create(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Made {
    let made = tool(cluster, &[&["create", "ci"], arguments].concat(), environment).await;
    let text = |field: &str| made[field].as_str().expect("text").to_owned();
    Made { token: text("token"), id: text("id") }
}

/// What replica `number` says to a login with `authorization`.
async fn login(cluster: &Cluster, number: usize, authorization: &str) -> Fetched {
    let url = format!("{}/v2/", cluster.replicas()[number].url());
    http::request(Method::GET, &url, &[("authorization", authorization)]).await
}

/// A short-lived token that replica `number` signs for `made`, or what it says instead.
async fn try_trade(cluster: &Cluster, number: usize, made: &Made) -> Result<String, String> {
    let url = format!("{}/token?scope=repository:{LOCAL}/app:pull,push", cluster.replicas()[number].url());
    let answer = http::request(Method::GET, &url, &[("authorization", &made.basic())]).await;
    if !answer.is_ok() {
        return Err(format!("replica {number}: {} {}", answer.status, answer.text()));
    }
    Ok(format!("Bearer {}", answer.json()["token"].as_str().expect("a token")))
}

async fn trade(cluster: &Cluster, number: usize, made: &Made) -> String {
    try_trade(cluster, number, made).await.unwrap_or_else(|refused| panic!("{refused}"))
}

/// Pushes a blob of `bytes`, its two requests at two replicas, and reads it at a third.
async fn push(image: &Image, entry: usize, authorization: &str, bytes: &'static str) {
    let digest = sha256(bytes.as_bytes());
    let shown = [("authorization", authorization), ("content-type", "application/octet-stream")];
    let (registry, path) = (image.registry(), format!("/v2/{}/blobs", image.name()));
    let at = |more: usize| (entry + more) % REPLICAS;
    let begun = registry.send(at(0), Method::POST, &format!("{path}/uploads/"), &shown, "").await;
    let begun = begun.expect("an answer");
    assert_eq!(begun.status, 202, "replica {}: {}", at(0), begun.text());
    let (_, session) = begun.header("location").rsplit_once('/').expect("a session");
    let close = format!("{path}/uploads/{session}?digest={digest}");
    let closed = registry.send(at(1), Method::PUT, &close, &shown, bytes).await.expect("an answer");
    assert_eq!(closed.status, 201, "replica {}: {}", at(1), closed.text());
    let read = registry.send(at(2), Method::GET, &format!("{path}/{digest}"), &shown, "").await;
    let read = read.expect("an answer");
    assert!(read.is_ok() && read.body == bytes, "replica {}: {}", at(2), read.text());
}

/// The longest time from `start` until each replica answers a login with `status`.
async fn until_all_say(
    cluster: &Cluster,
    status: u16,
    authorization: &str,
    start: Instant,
    limit: Duration,
) -> Duration {
    for number in 0..REPLICAS {
        let what = format!("replica {number} to say {status}");
        wait::until(&what, limit, async || login(cluster, number, authorization).await.status == status)
            .await;
    }
    let took = start.elapsed();
    assert!(took <= limit, "{status} at every replica after {took:?}");
    took
}

fn registry(cluster: &Cluster) -> Registry {
    Registry::new(cluster.replicas().iter().map(|replica| replica.url()), "")
}

/// RS-54: what the command line makes and takes away counts at every replica.
pub(crate) async fn made_and_revoked(services: &Services) {
    let cluster = Options::new(documents(&[])).start(services).await;
    let image = registry(&cluster).image(&format!("{LOCAL}/app"));
    let first = create(&cluster, &["--allow", &format!("{LOCAL}=pull,push")], &[]).await;
    let counts = until_all_say(&cluster, 200, &first.basic(), Instant::now(), SOON).await;
    let mut signed = Vec::new();
    for number in 0..REPLICAS {
        signed.push(trade(&cluster, number, &first).await);
    }
    for (signer, bearer) in signed.iter().enumerate() {
        for verifier in 0..REPLICAS {
            let answer = login(&cluster, verifier, bearer).await;
            assert_eq!(answer.status, 200, "signed by {signer}, shown to {verifier}: {}", answer.text());
        }
        push(&image, signer, bearer, ["one", "two", "three"][signer]).await;
    }
    let second = create(&cluster, &[], &[]).await;
    let listed = tool(&cluster, &["list"], &[]).await;
    let ids: Vec<_> = listed[0]["tokens"].as_array().expect("a list").iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, [&json!(first.id), &json!(second.id)], "{listed}");

    // What was traded for it goes with it, wherever it was signed.
    assert_eq!(tool(&cluster, &["revoke", &first.id], &[]).await["revoked"], json!(first.id));
    let start = Instant::now();
    let revoked = until_all_say(&cluster, 401, &first.basic(), start, SOON).await;
    for bearer in &signed {
        until_all_say(&cluster, 401, bearer, start, SOON).await;
    }
    for number in 0..REPLICAS {
        assert_eq!(login(&cluster, number, &second.basic()).await.status, 200, "the other one goes on");
    }
    let again = cluster.command(&["token", "revoke", &first.id]).await;
    assert!(again.code == Some(1) && again.text.contains("there is no token"), "{}", again.text);

    // Nobody hears of it: the row goes without a word, and then every connection to the database ends.
    let all = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' \
         AND pid <> pg_backend_pid()",
        cluster.database()
    );
    for sql in [format!("DELETE FROM tokens WHERE id = '{}'", second.id), all] {
        tokio::task::block_in_place(|| services.postgres.sql(cluster.database(), &sql));
    }
    let unheard = until_all_say(&cluster, 401, &second.basic(), Instant::now(), LATEST).await;

    let third = create(&cluster, &[], &[]).await;
    until_all_say(&cluster, 200, &third.basic(), Instant::now(), SOON).await;
    tool(&cluster, &["forget", "ci"], &[]).await;
    let forgotten = until_all_say(&cluster, 401, &third.basic(), Instant::now(), SOON).await;
    println!(
        "\nfigure: tokens at {REPLICAS} replicas: made after {} ms, revoked after {} ms with 3 short-lived ones \
         ({} ms when nobody said so), forgotten after {} ms",
        counts.as_millis(),
        revoked.as_millis(),
        unheard.as_millis(),
        forgotten.as_millis()
    );
}

/// Starts replica `number` again with another clock.
async fn with_clock(cluster: &mut Cluster, number: usize, shift: Option<&str>) {
    let replica = cluster.replica(number);
    replica.terminate();
    assert_eq!(replica.ended().await, Some(0), "an orderly end");
    replica.set_env("LD_PRELOAD", Some(FAKETIME));
    replica.set_env("FAKETIME", shift);
    replica.start_again().await;
}

/// Every short-lived token counts at every replica, and pushes with it go through.
async fn all_agree(cluster: &Cluster, made: &Made, when: &str, pushes: bool) {
    for signer in 0..REPLICAS {
        let bearer = trade(cluster, signer, made).await;
        for verifier in 0..REPLICAS {
            let answer = login(cluster, verifier, &bearer).await;
            let said = answer.text();
            assert_eq!(answer.status, 200, "{when}: signed by {signer}, shown to {verifier}: {said}");
        }
        if pushes {
            push(&registry(cluster).image(&format!("{LOCAL}/app")), signer, &bearer, "bytes").await;
        }
    }
}

/// RS-95: replicas whose clocks are ten minutes ahead and behind, and one that is set back an hour while it runs,
/// count the lives of tokens by the database's clock.
pub(crate) async fn under_wrong_clocks(services: &Services) {
    if !Path::new(FAKETIME).is_file() {
        println!("SKIPPED rs_95: faketime is not installed");
        return;
    }
    let mut cluster = Options::new(documents(&[])).start(services).await;
    let kept = create(&cluster, &["--allow", &format!("{LOCAL}=pull,push")], &[]).await;
    let home = tempfile::tempdir().expect("a temporary directory");
    let clock = home.path().join("clock");
    fs::write(&clock, "+0").expect("space");
    let replica = cluster.replica(0);
    // Only what an administrator can set is set back: a monotonic clock never is.
    replica.set_env("FAKETIME_DONT_FAKE_MONOTONIC", Some("1"));
    replica.set_env("FAKETIME_TIMESTAMP_FILE", Some(&clock.to_string_lossy()));
    replica.set_env("FAKETIME_NO_CACHE", Some("1"));
    with_clock(&mut cluster, 0, None).await;
    with_clock(&mut cluster, 1, Some("+10m")).await;
    with_clock(&mut cluster, 2, Some("-10m")).await;
    all_agree(&cluster, &kept, "ten minutes ahead and behind", true).await;
    let before = trade(&cluster, 0, &kept).await;
    let stamped = loaded_at(&cluster, 0, 1).await;
    fs::write(&clock, "-1h").expect("space");
    // It tells its own time when it takes up another configuration.
    let told = cluster.apply(&documents(&["^v"])).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    let back = (stamped - loaded_at(&cluster, 0, 2).await).rem_euclid(24 * 3600);
    assert!((3000..=3600).contains(&back), "the clock was set back by {back} s");
    // An object store refuses requests whose clock is more than a quarter of an hour off: no pushes here.
    all_agree(&cluster, &kept, "after a step back of an hour", false).await;
    until_all_say(&cluster, 200, &before, Instant::now(), SOON).await;

    // The clock of whoever makes a token does not count either.
    let mut over = Vec::new();
    for shift in ["+0", "+10m", "-10m"] {
        let Brief { made, bearer, begun, start } = brief(&cluster, shift).await;
        until_all_say(&cluster, 401, &made.basic(), start, LIFE + SOON).await;
        over.push(begun.elapsed());
        assert!(begun.elapsed() >= LIFE, "over after {:?}", begun.elapsed());
        until_all_say(&cluster, 401, &bearer, start, LIFE + SOON).await;
    }
    println!(
        "\nfigure: 3 replicas 10 min ahead, 10 min behind and set back 1 h while running: 6 x 3 short-lived tokens \
         count everywhere; a token of {} s is over after {over:.1?}",
        LIFE.as_secs()
    );
}

/// A token that lives for [`LIFE`], and what was traded for it. Its life began between `begun` and `start`.
struct Brief {
    made: Made,
    bearer: String,
    begun: Instant,
    start: Instant,
}

/// Makes one with another clock; it counts everywhere. A busy machine may need several, until one is still alive when the
/// last replica is asked.
async fn brief(cluster: &Cluster, shift: &str) -> Brief {
    let wrong = [("LD_PRELOAD", FAKETIME), ("FAKETIME", shift)];
    for _ in 0..10 {
        let begun = Instant::now();
        let made = create(cluster, &["--ttl", &format!("{}s", LIFE.as_secs())], &wrong).await;
        let start = Instant::now();
        let counts = async {
            let bearer = try_trade(cluster, 1, &made).await?;
            for number in 0..REPLICAS {
                let answer = login(cluster, number, &made.basic()).await;
                if answer.status != 200 {
                    return Err(format!("replica {number}: {} {}", answer.status, answer.text()));
                }
            }
            Ok(bearer)
        };
        match counts.await {
            Ok(bearer) => return Brief { made, bearer, begun, start },
            Err(refused) => assert!(begun.elapsed() >= LIFE, "made with {shift}: {refused}"),
        }
    }
    panic!("made with {shift}: the machine is too busy for a token of {LIFE:?}");
}

/// When replica `number` took up its configuration for the `nth` time since its last start, by its own clock: in
/// seconds of the day.
async fn loaded_at(cluster: &Cluster, number: usize, nth: usize) -> i64 {
    let log = || cluster.replicas()[number].logs();
    let start = log().rfind("other replicas reach this one here").expect("it says so when it starts");
    let lines = || -> Vec<String> {
        let log = log();
        log[start..].lines().filter(|line| line.contains("manifests are loaded")).map(str::to_owned).collect()
    };
    wait::until("the configuration to be taken up", SOON, async || lines().len() >= nth).await;
    let line = &lines()[nth - 1];
    let time = line.split_once('T').and_then(|(_, rest)| rest.get(..8));
    let time = time.unwrap_or_else(|| panic!("a time: {line}"));
    time.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().expect("a number"))
}
