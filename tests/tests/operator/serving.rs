//! An applied object is served, and what is served ends well.

use std::time::Duration;

use artifactapi_tests::{
    Upstream,
    http::{self, PATIENCE as ANSWER},
    kubernetes::Object,
    upstream::{Behaviour, Gate},
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Ending,
    bench::{Bench, crds},
    stage::{PATIENCE, SOON, Stage},
};

pub(crate) async fn first_byte(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "served").await?;
    let upstream = Upstream::start().await;
    upstream.put("a.bin", vec![7; 10_000]);
    let _operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let name = format!("files{round}");
        let remote = stage.remote(&name, &upstream, json!({}));
        let start = Instant::now();
        stage.api.apply(&remote).await;
        let ready = stage.api.until_ready(&Object::of(&remote), SOON).await;
        let body =
            stage.until_served(&(stage.site.remote(&name) + "a.bin"), SOON, http::Fetched::is_ok).await;
        assert_eq!(body.body.len(), 10_000);
        let all = start.elapsed();
        assert!(all <= SOON, "ready after {ready:?}, the first cached byte after {all:?}");
        slowest = slowest.max(all);
        let found = stage.api.get(&Object::of(&remote)).await.expect("it was just applied");
        assert_eq!(found["status"]["url"], json!(stage.site.remote(&name)), "a person finds the way to it");
        assert_eq!(found["status"]["effective"]["mutableTTL"], "15m");
    }
    println!("figure: apply to the first cached byte: {slowest:.1?} at most in 5");
    Ok(())
}

pub(crate) async fn readme(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "readme").await?;
    // As whoever installs it has it: nothing is allowed that nobody has allowed.
    let mut operator = stage.idle_operator("one").await;
    operator.unset("ARTIFACTAPI_ALLOW_CIDRS");
    operator.start().await;
    let (directory, namespace) = (crds("examples"), stage.namespace.as_str());
    let directory = directory.to_string_lossy();
    bench.kubectl(&["apply", "-n", namespace, "-f", &directory]);
    let kinds = "remotes,virtuals,locals,robots";
    bench.kubectl(&["wait", "--for=condition=Ready", "--timeout=30s", "-n", namespace, "--all", kinds]);
    let table = bench.kubectl(&["get", "remotes", "-n", namespace, "-o", "wide"]);
    for line in table.lines().skip(1) {
        assert!(
            line.contains(" True ") && line.contains("/api/v1/remote/") || line.contains("/v2/"),
            "{table}"
        );
    }
    let described = bench.kubectl(&["describe", "-n", namespace, "remote/dockerhub"]);
    for word in ["Observed Generation:", "Ready", "Stored", "Events:"] {
        assert!(described.contains(word), "{word}: {described}");
    }
    let again = bench.kubectl(&["apply", "-n", namespace, "-f", &directory]);
    assert!(
        again.lines().all(|line| line.ends_with(" unchanged")),
        "a status is no change of a spec: {again}"
    );
    Ok(())
}

pub(crate) async fn upstream_down(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "down").await?;
    let _operator = stage.operator().await;
    // Nobody listens on this port.
    let remote = stage.remote_at("down", "http://127.0.0.1:9/", json!({}));
    stage.api.apply(&remote).await;
    bench.kubectl(&["wait", "--for=condition=Ready", "--timeout=5s", "-n", &stage.namespace, "remote/down"]);
    Ok(())
}

/// RS-131.
pub(crate) async fn deleted_while_pulled(bench: &Bench) -> Ending {
    const CLIENTS: usize = 100;
    let stage = Stage::new(bench, "pulled").await?;
    let upstream = Upstream::start().await;
    let (gate, whole) = (Gate::new(), 4 << 20);
    upstream.put("big.bin", vec![3; whole]).put("small.bin", vec![1]);
    upstream.script("big.bin", Behaviour::StallAt(whole / 2, gate.clone()));
    let _operator = stage.operator().await;
    let _proxy = stage.site.proxy().await;
    let remote = stage.remote("files", &upstream, json!({}));
    stage.api.apply(&remote).await;
    stage.api.until_ready(&Object::of(&remote), PATIENCE).await;
    let base = stage.site.remote("files");
    stage.until_served(&(base.clone() + "small.bin"), PATIENCE, http::Fetched::is_ok).await;

    let mut begins = JoinSet::new();
    for _ in 0..CLIENTS {
        let url = base.clone() + "big.bin";
        begins.spawn(async move { http::begin(&url).await });
    }
    // Each is being served, and none has all of it.
    let begun = begins.join_all().await;
    assert!(begun.iter().all(|one| one.status() == 200));
    gate.reached_by(1).await;
    let mut pulls = JoinSet::new();
    for one in begun {
        pulls.spawn(one.finish());
    }
    stage.api.delete(&Object::of(&remote)).await.ok();
    stage.api.until_gone(&Object::of(&remote), PATIENCE).await;
    // Those who come now are told so.
    let told =
        stage.until_served(&(base.clone() + "small.bin"), PATIENCE, |answer| answer.status == 404).await;
    assert!(told.complete);
    gate.open();
    let opened = Instant::now();
    let pulled = pulls.join_all().await;
    let whole_ones = pulled
        .iter()
        .filter(|one| one.complete && one.body.len() == whole && one.body.iter().all(|byte| *byte == 3));
    let whole_ones = whole_ones.count();
    assert!(opened.elapsed() < ANSWER, "{:?}", opened.elapsed());
    assert_eq!(whole_ones, CLIENTS, "none that was being served is cut off");
    println!("figure: a Remote deleted under {CLIENTS} clients: {whole_ones} running pulls ended whole");
    assert_eq!(stage.site.sql("SELECT count(*) FROM objects WHERE kind = 'Remote'"), "0");
    assert_eq!(stage.site.sql("SELECT count(*) FROM repositories WHERE retired_at IS NULL"), "0");
    Ok(())
}
