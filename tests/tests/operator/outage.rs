//! An API server of its own: watched whole, and gone for a while (RS-40, RS-134).

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_services::{Kubernetes, provided};
use artifactapi_tests::{
    Missing, Upstream, http,
    kubernetes::{Object, roles::install_definitions},
    wait,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, Stage, Wishes, manifest},
};

/// The bound of RS-134 after the return.
const CONVERGED: Duration = Duration::from_secs(30);

/// How long the API server is away: 30 s in `hack/test`, two minutes and more where there is time.
fn outage() -> Duration {
    let seconds = env::var("ARTIFACTAPI_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// What somebody who reads all the time has met.
#[derive(Default)]
struct Seen {
    /// From now on what is read may be refused.
    is_edited: AtomicBool,
    is_over: AtomicBool,
    asked: AtomicUsize,
    failed: AtomicUsize,
    refused: AtomicUsize,
}

async fn read(seen: Arc<Seen>, url: String) {
    while !seen.is_over.load(Relaxed) {
        let answer = http::get(&url).await;
        seen.asked.fetch_add(1, Relaxed);
        let count = match answer.status {
            403 if seen.is_edited.load(Relaxed) => Some(&seen.refused),
            _ if answer.is_ok() && answer.body.len() == 100_000 => None,
            _ => Some(&seen.failed),
        };
        if let Some(count) = count {
            count.fetch_add(1, Relaxed);
        }
        wait::breathe().await;
    }
}

pub(crate) async fn api_server(bench: &Bench) -> Ending {
    let Some(mut kubernetes) = provided(Kubernetes::start(&[]), "api_server") else {
        return Err(Missing("kube-apiserver is not installed".to_owned()));
    };
    install_definitions(&kubernetes);
    let wishes = Wishes { everywhere: true, ..Wishes::default() };
    let stage = Stage::at(bench, &kubernetes, "outage", wishes).await?;
    let upstream = Upstream::start().await;
    upstream.put("a.bin", vec![7; 100_000]).put("b.bin", vec![8; 100_000]);
    let mut operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;

    // The whole cluster is watched, namespaces that come later too.
    stage.api.namespace("later").await;
    let mut far = stage.remote("far", &upstream, json!({}));
    far["metadata"]["namespace"] = json!("later");
    stage.api.apply(&far).await;
    stage.api.until_ready(&Object::of(&far), PATIENCE).await;
    let remote = stage.remote("files", &upstream, json!({}));
    stage.api.apply(&remote).await;
    stage.api.until_ready(&Object::of(&remote), PATIENCE).await;
    let url = stage.site.remote("files") + "a.bin";
    stage.until_served(&url, PATIENCE, http::Fetched::is_ok).await;

    kubernetes.api.kill();
    let away = Instant::now();
    let seen = Arc::new(Seen::default());
    let load = tokio::spawn(read(seen.clone(), url.clone()));
    // What is not cached comes too.
    let cold = http::get(&(stage.site.remote("files") + "b.bin")).await;
    assert!(cold.is_ok(), "{cold:?}");
    sleep(outage().saturating_sub(away.elapsed())).await;
    assert!(!operator.has_ended(), "an operator without an API server waits for one:\n{}", operator.logs());
    let live = http::get(&operator.page("livez")).await;
    assert!(live.is_ok(), "nor does it ask to be restarted: {live:?}");

    let status_before = http::get(&operator.page("readyz")).await.status;
    assert_eq!(status_before, 200, "what it has seen it still knows");
    kubernetes.api.start_again();
    seen.is_edited.store(true, Relaxed);
    let back = Instant::now();
    let edited = stage.remote("files", &upstream, json!({ "blocklist": ["^a[.]bin$"] }));
    stage.api.apply(&edited).await;
    stage.api.delete(&Object::of(&far)).await.ok();
    stage.api.until_ready(&Object::of(&edited), CONVERGED).await;
    let gone = async || stage.site.sql("SELECT count(*) FROM objects WHERE name = 'far'") == "0";
    wait::until("what was deleted to be gone", CONVERGED.saturating_sub(back.elapsed()), gone).await;
    let converged = back.elapsed();
    assert!(converged <= CONVERGED, "{converged:?}");
    let served = stage.until_served(&url, PATIENCE, |answer| answer.status == 403).await;
    assert!(served.complete);
    seen.is_over.store(true, Relaxed);
    load.await.expect("no client panics");
    let count = |of: &AtomicUsize| of.load(Relaxed);
    let (asked, failed, refused) = (count(&seen.asked), count(&seen.failed), count(&seen.refused));
    assert_eq!(failed, 0, "of {asked} reads: the API server is nobody's concern who reads");
    assert!(asked > refused, "{asked} and {refused}");
    println!(
        "figure: no API server for {:.0?}: {asked} reads, {failed} failed, {refused} refused after the edit as they should; converged {converged:.1?} after its return",
        outage()
    );
    let virt = manifest("Virtual", &stage.namespace, "v", json!({ "type": "generic", "members": ["files"] }));
    stage.api.apply(&virt).await;
    stage.api.until_ready(&Object::of(&virt), PATIENCE).await;
    operator.stop().await;
    Ok(())
}
