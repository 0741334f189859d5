//! Credentials that change while they are used (RS-38).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use artifactapi_tests::{Upstream, http, kubernetes::Object, upstream::Guard, wait};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, Stage},
};

/// The bound of RS-38.
const ROTATED: Duration = Duration::from_secs(30);

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("me:{password}")))
}

pub(crate) async fn secrets(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "rotation").await?;
    let upstream = Upstream::start().await;
    upstream.guard(Guard::Basic("me".into(), "first".into()));
    for name in ["cached.bin", "before.bin", "after.bin"] {
        upstream.put(name, name.as_bytes().to_vec());
    }
    let _operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;
    let credentials =
        |password: &str| stage.secret("login", json!({ "username": "me", "password": password }));
    stage.api.apply(&credentials("first")).await;
    let closed = json!({ "auth": { "secretRef": { "name": "login" } }, "access": { "read": "anonymous" } });
    let remote = stage.remote("closed", &upstream, closed);
    stage.api.apply(&remote).await;
    stage.api.until_ready(&Object::of(&remote), PATIENCE).await;
    let base = stage.site.remote("closed");
    stage.until_served(&(base.clone() + "cached.bin"), PATIENCE, http::Fetched::is_ok).await;

    // Clients who ask for what is cached notice nothing of all that follows.
    let (stop, asked, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::default());
    let clients = {
        let (stop, asked, failed): (_, _, Arc<AtomicUsize>) =
            (stop.clone(), asked.clone(), Arc::clone(&failed));
        let url = base.clone() + "cached.bin";
        tokio::spawn(async move {
            while !stop.load(Relaxed) {
                asked.fetch_add(1, Relaxed);
                failed.fetch_add(usize::from(!http::get(&url).await.is_ok()), Relaxed);
                wait::breathe().await;
            }
        })
    };
    upstream.guard(Guard::Basic("me".into(), "second".into()));
    let rotated = Instant::now();
    stage.api.apply(&credentials("second")).await;
    stage.until_served(&(base.clone() + "after.bin"), ROTATED, http::Fetched::is_ok).await;
    let took = rotated.elapsed();
    let seen = upstream.requests().len();
    stage.until_served(&(base.clone() + "before.bin"), PATIENCE, http::Fetched::is_ok).await;
    let shown: Vec<String> = upstream.requests()[seen..]
        .iter()
        .map(|request| request.header("authorization").unwrap_or_default().to_owned())
        .collect();
    assert!(!shown.contains(&basic("first")) && shown.contains(&basic("second")), "{shown:?}");
    stop.store(true, Relaxed);
    clients.await.expect("no client panics");
    assert_eq!(failed.load(Relaxed), 0, "of {} requests for what is cached", asked.load(Relaxed));
    assert!(asked.load(Relaxed) > 0);
    println!("figure: a rotated Secret: its new password is used after {took:.1?}");
    Ok(())
}
