//! Pulls of the node's own runtime: containerd asks the proxy with `?ns=`, and the proxy asks the registry.

use std::fs;

use artifactapi_services::{Distribution, Storage};
use artifactapi_tests::{Fault, Link, Missing, Run, fixtures::oci, proxy, wait};
use serde_json::json;

use crate::{
    Ending,
    bench::{Bench, IDLE, PATIENCE, deployment},
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
    let program = proxy::binary().map_err(Missing)?;
    let there = format!("http://127.0.0.1:{NODE_PORT}");
    let printed =
        Run::new(&program.to_string_lossy(), &directory).args(["setup", "containerd", "--url", &there]);
    bench.node().set_hosts("_default", &printed.ok().await.map_err(Missing)?.out);
    let image = format!("{MIRRORED}/acme/app:1.0");
    let object = deployment(SITE, "mirrored", &image, &IDLE, json!({}));
    let began = now(bench).await?;
    bench.apply(std::slice::from_ref(&object)).await;
    bench.rolled_out(SITE, "mirrored").await;
    let first = answers(bench, began).await?;

    release.kubectl(&["delete", "deployment", "mirrored", "--wait", "--cascade=foreground"]).await;
    forget(bench, &image);
    link.set(Fault::Refuse).await;
    let (asked, began) = (link.counts().connections, now(bench).await?);
    bench.apply(&[object]).await;
    bench.rolled_out(SITE, "mirrored").await;
    let second = answers(bench, began).await?;
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
fn forget(bench: &Bench, image: &str) {
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

/// The time as the access log has it.
async fn now(bench: &Bench) -> Result<i64, Missing> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let told = bench.stores().await?.postgres.sql(artifactapi_services::Postgres::DATABASE, sql);
    Ok(told.parse().expect("a number"))
}

/// Lines of the access log that are answers to a pull through the mirror since `began`, once there are as many as a pull
/// has at least: of a manifest and two blobs.
async fn answers(bench: &Bench, began: i64) -> Result<usize, Missing> {
    let postgres = &bench.stores().await?.postgres;
    let sql = format!(
        "SELECT count(*) FROM access_log WHERE repository = 'mirror' AND method = 'GET' AND status = 200 AND at >= {began}"
    );
    let mut count = 0;
    // It is written in batches, some time later.
    let written = async || {
        count = postgres.sql(artifactapi_services::Postgres::DATABASE, &sql).parse().expect("a number");
        count >= 3
    };
    wait::until("a manifest and blobs in the access log", PATIENCE, written).await;
    Ok(count)
}
