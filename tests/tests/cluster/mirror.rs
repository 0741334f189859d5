//! Pulls of the node's own runtime: containerd asks the proxy with `?ns=`, and the proxy asks the registry.

use std::fs;

use artifactapi_services::{Distribution, Storage};
use artifactapi_tests::{Fault, Link, Missing, Run, fixtures::oci};
use serde_json::json;

use crate::{
    Ending,
    bench::{Bench, IDLE, deployment},
    release::remote,
    site::{MIRRORED, NODE_PORT, SITE, site},
};

/// A Deployment whose image exists in an upstream registry alone starts through the mirror. Once the node has
/// forgotten the image and the registry is gone, it starts again. The access log shows both pulls.
pub(crate) async fn pulled(bench: &Bench) -> Ending {
    let release = site(bench).await?;
    let directory = bench.directory("mirror");
    let storage = Storage::Directory(directory.join("registry"));
    let registry =
        Distribution::start(&storage).map_err(|it| Missing(format!("{} is not installed", it.0)))?;
    let link = Link::at((bench.node().machine(), 0), registry.host()).await.expect("the link to the node");
    oci::layout(&directory.join("multi")).await?;
    let pushed = format!("{}/acme/app:1.0", registry.host());
    push(&directory, &pushed).await;
    release
        .configure(&[remote(
            bench,
            "mirror",
            "docker",
            &format!("http://{}/", link.address()),
            // What was a minute ago is no answer to a registry that is gone.
            json!({ "docker": { "mirrorFor": [MIRRORED] }, "mutableTTL": "1s" }),
        )])
        .await;
    let mirror = format!("[host.\"http://127.0.0.1:{NODE_PORT}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
    bench.node().set_hosts("_default", &mirror);
    let image = format!("{MIRRORED}/acme/app:1.0");
    let object = deployment(SITE, "mirrored", &image, &IDLE, json!({}));
    bench.apply(std::slice::from_ref(&object)).await;
    bench.rolled_out(SITE, "mirrored").await;
    let first = answers(bench).await?;
    assert!(first >= 3, "a manifest and blobs in the access log, not {first}");

    release.kubectl(&["delete", "deployment", "mirrored", "--wait", "--cascade=foreground"]).await;
    forget(bench, &image);
    link.set(Fault::Refuse).await;
    let asked = link.counts().connections;
    bench.apply(&[object]).await;
    bench.rolled_out(SITE, "mirrored").await;
    let second = answers(bench).await? - first;
    assert!(second >= 3, "it was pulled again: {second} answers");
    assert_eq!(link.counts().connections, asked, "nobody was reached");
    release.kubectl(&["delete", "deployment", "mirrored", "--wait=false"]).await;
    println!("\nfigure: {first} answers for a pull through the mirror, {second} with the upstream gone");
    Ok(())
}

async fn push(directory: &std::path::Path, image: &str) {
    let told =
        Run::new("crane", directory).args(["--insecure", "push", "--index", "multi", image]).ok().await;
    told.unwrap_or_else(|why| panic!("{why}"));
    assert!(fs::metadata(directory.join("registry")).is_ok(), "it is there");
}

/// Takes an image and its content from the node.
pub(crate) fn forget(bench: &Bench, image: &str) {
    let ctr = ["exec", "ctr", "-n", "k8s.io"];
    let listed = bench.on_node(&[&ctr[..], &["images", "ls"]].concat());
    // Name, type, digest: Kubernetes gives each other names by digests, and all of them hold the content.
    let words = |line: &'_ str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let lines: Vec<Vec<String>> = listed.lines().map(words).filter(|words| words.len() > 2).collect();
    let digest = lines.iter().find(|words| words[0] == image).map(|words| words[2].clone());
    let listed = lines.iter().filter(|words| Some(&words[2]) == digest.as_ref());
    let listed: Vec<&str> = listed.map(|words| words[0].as_str()).collect();
    bench.on_node(&[&ctr[..], &["images", "rm", "--sync"], &listed].concat());
}

/// Lines of the access log that are answers to a pull through the mirror, once none has come for a while.
async fn answers(bench: &Bench) -> Result<usize, Missing> {
    let postgres = &bench.stores().await?.postgres;
    let sql =
        "SELECT count(*) FROM access_log WHERE repository = 'mirror' AND method = 'GET' AND status = 200";
    let count = || -> usize {
        postgres.sql(artifactapi_services::Postgres::DATABASE, sql).parse().expect("a number")
    };
    // It is written in batches, some time later.
    let mut last = 0;
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let now = count();
        if now > 0 && now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}
