//! What people do wrong, as they see it on a node: a Secret that is not there, that lacks a key, that has a wrong password.

use std::time::Duration;

use artifactapi_services::Postgres;
use artifactapi_tests::{Upstream, http, wait};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::{Bench, PATIENCE, Stores},
    release::{Release, merge, remote},
    site::{secret, secrets, site, values},
};

/// A release with everything that can be wrong about its Secrets.
const MISTAKEN: &str = "mistaken";
/// Its database, and its bucket.
const OWN: &str = "mistaken";
/// What its pods are part of.
const COMPONENTS: [&str; 3] = ["proxy", "operator", "migration"];
/// Longest pause that a kubelet makes before it tries again what could not be mounted.
const REMOUNT: Duration = Duration::from_secs(122);
/// What PostgreSQL does not take.
const WRONG: &str = "a-wrong-password";

/// A Remote that names a Secret which is not there says so, in its condition and by an Event, and is ready once it is.
pub(crate) async fn remote_without_secret(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let upstream = Upstream::start_at(bench.node().machine()).await;
    let auth = json!({ "auth": { "secretRef": { "name": "keys-of-upstream" } } });
    let mut locked = remote(bench, "locked", "generic", &upstream.url(), auth);
    locked["metadata"]["namespace"] = json!(release.name);
    bench.apply(&[locked]).await;
    release.kubectl(&["wait", "--for=condition=Ready=False", "remote/locked", "--timeout=30s"]).await;
    let object = release.get(&["remote", "locked"]).await;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").expect("it was waited for");
    assert_eq!(ready["reason"], "SecretNotFound", "{ready}");
    let sentence = ready["message"].as_str().unwrap_or_default();
    assert!(sentence.contains("\"keys-of-upstream\""), "the Secret is named: {sentence}");
    let told = async || release.get(&["events", "--field-selector=involvedObject.name=locked"]).await;
    let has = |events: &Value, kind: &str, word: &str| {
        let mut events = events["items"].as_array().into_iter().flatten();
        events.any(|event| event["type"] == kind && event.to_string().contains(word))
    };
    wait::until("an Event that names the Secret", PATIENCE, async || {
        has(&told().await, "Warning", "keys-of-upstream")
    })
    .await;
    let keys = json!({ "username": "somebody", "password": "of-upstream" });
    bench.apply(&[secret(release.name, "keys-of-upstream", keys)]).await;
    release.kubectl(&["wait", "--for=condition=Ready", "remote/locked", "--timeout=30s"]).await;
    wait::until("an Event that it is well", PATIENCE, async || has(&told().await, "Normal", "Stored")).await;
    release.kubectl(&["delete", "remote/locked", "secret/keys-of-upstream"]).await;
    Ok(())
}

/// A release whose Secret of the database is not there, then lacks a key, then has a wrong password: each time the pods
/// say what is wrong, none ends, and all of them are ready once it is right. Nobody starts anything again.
pub(crate) async fn wrong_secrets(bench: &Bench) -> Ending {
    // For images and definitions.
    site(bench).await?;
    let (stores, release) = (bench.stores().await?, Release::new(bench, MISTAKEN));
    stores.postgres.database(OWN);
    stores.minio.bucket(OWN);
    bench.namespace(MISTAKEN, "restricted").await;
    let [database, others @ ..] = &secrets(stores, MISTAKEN, OWN)[..] else { panic!("several Secrets") };
    bench.apply(others).await;
    let file = bench.write("values-mistaken.json", &mistaken(bench, stores));
    let install = ["install", MISTAKEN, &crate::bench::chart(), "-n", MISTAKEN, "-f", &file];
    let waiting = [&install[..], &["--wait", "--wait-for-jobs", "--timeout=10s"]].concat();
    let told = bench.client("helm", &waiting).fails().await.unwrap_or_else(|why| panic!("{why}"));
    assert!(told.err.contains("not ready") || told.err.contains("deadline"), "{}", told.err);
    until_told(&release, &["secret", "\"database\" not found"]).await;
    let mut pods = Vec::new();
    for component in COMPONENTS {
        pods.extend(release.pods(component).await);
    }

    let mut wrong = database.clone();
    wrong["stringData"]["password"] = json!(WRONG);
    // With the wrong password already: a volume may follow its Secret later than the environment does.
    let mut lacking = wrong.clone();
    lacking["stringData"].as_object_mut().expect("an object").remove("username");
    bench.apply(&[lacking]).await;
    until_told(
        &release,
        &["CreateContainerConfigError", "couldn't find key username in Secret mistaken/database"],
    )
    .await;

    bench.apply(&[wrong]).await;
    let refused = "refuses: password authentication failed for user";
    let shown = until_refused(&release, refused).await;
    for hidden in [WRONG, Postgres::PASSWORD] {
        assert!(!shown.contains(hidden), "a password is shown: {shown}");
    }

    let began = std::time::Instant::now();
    bench.apply(std::slice::from_ref(database)).await;
    for deployment in ["proxy", "operator"] {
        bench.rolled_out(MISTAKEN, &format!("{MISTAKEN}-artifactapi-{deployment}")).await;
    }
    let selector = "-l=app.kubernetes.io/component=migration";
    release.kubectl(&["wait", "--for=condition=Complete", "jobs", selector, "--timeout=60s"]).await;
    println!("\nfigure: ready {:.1} s after the password was corrected", began.elapsed().as_secs_f64());
    let after = release.get(&["pods"]).await;
    let after = after["items"].as_array().cloned().unwrap_or_default();
    for pod in &after {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        assert!(pods.iter().any(|known| known == name), "{name} is new");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{name} was started again");
    }
    assert_eq!(after.len(), pods.len(), "all of them are there");
    release.helm(&["uninstall", MISTAKEN, "--wait"]).await;
    bench.kubectl(&["delete", "namespace", MISTAKEN, "--wait=false"]).await;
    Ok(())
}

fn mistaken(bench: &Bench, stores: &Stores) -> Value {
    let mut values = values(bench, stores);
    merge(&mut values, json!({ "publicURL": "", "nodePort": { "enabled": false }, "s3": { "bucket": OWN } }));
    values
}

/// Waits until the status of every pod, or what was told about it, has all of these words.
async fn until_told(release: &Release<'_>, words: &[&str]) {
    wait::until(&format!("{words:?} about all pods"), REMOUNT + PATIENCE, async || {
        let (pods, events) = (release.get(&["pods"]).await, release.get(&["events"]).await);
        let list = |of: &Value| of["items"].as_array().cloned().unwrap_or_default();
        let (pods, events) = (list(&pods), list(&events));
        let is_told = |pod: &Value| {
            let name = &pod["metadata"]["name"];
            assert_ne!(pod["status"]["containerStatuses"][0]["ready"], true, "{name} is ready");
            let about = events.iter().filter(|event| event["involvedObject"]["name"] == *name);
            let told = pod["status"].to_string() + &about.map(Value::to_string).collect::<String>();
            words.iter().all(|word| told.replace("\\\"", "\"").contains(word))
        };
        COMPONENTS.iter().all(|component| {
            let mut own = pods
                .iter()
                .filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == *component)
                .peekable();
            own.peek().is_some() && own.all(is_told)
        })
    })
    .await;
}

/// Waits until all pods run and say, in their logs and where they say whether they are ready, that they are refused; all
/// that they have shown. All are looked at side by side: the migration gives up after two minutes.
async fn until_refused(release: &Release<'_>, refused: &str) -> String {
    let mut looks = Vec::new();
    for (component, port) in COMPONENTS.into_iter().zip([Some(8000), Some(9091), None]) {
        for pod in release.pods(component).await {
            looks.push(until_pod_refused(release, pod, port, refused));
        }
    }
    let shown = join_all(looks).await.concat();
    // As a person in front of a pod asks.
    let proxy = release.pods("proxy").await.remove(0);
    let ask = ["exec", "-n", release.name, &proxy, "--", "artifactapi", "probe", "--within", "0"];
    wait::until("a probe in a pod to say so", PATIENCE, async || {
        let told = release.bench.client("kubectl", &ask).fails().await.unwrap_or_else(|why| panic!("{why}"));
        told.err.contains(refused)
    })
    .await;
    shown + &release.kubectl(&["get", "events"]).await
}

/// The same for one pod, whose page at `port` tells whether it is ready.
async fn until_pod_refused(release: &Release<'_>, pod: String, port: Option<u16>, refused: &str) -> String {
    let mut shown = String::new();
    wait::until(&format!("{pod} to say that it is refused"), PATIENCE, async || {
        let object = release.get(&["pod", &pod]).await;
        let status = &object["status"]["containerStatuses"][0];
        assert_eq!(status["restartCount"], 0, "{pod}: {status}");
        // What the API server has of a pod comes after what the node knows.
        if status["started"] != true {
            return false;
        }
        let asked = release.bench.client("kubectl", &["logs", "-n", release.name, &pod]).ok().await;
        shown = asked.map(|told| told.out).unwrap_or_default();
        let (true, Some(port)) = (shown.contains(refused), port) else { return shown.contains(refused) };
        assert_eq!(status["ready"], false, "{pod}");
        let address = object["status"]["podIP"].as_str().expect("an address");
        let page = http::get(&format!("http://{address}:{port}/readyz")).await;
        assert_eq!(page.status, 503, "{pod}");
        shown.push_str(&page.text());
        // A database that answers late is said not to, until the next look.
        page.text().contains(refused)
    })
    .await;
    shown
}
