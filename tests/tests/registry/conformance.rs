//! The suite of the OCI distribution specification: through the balancer in front of the replicas, standalone,
//! and its reading part on a Remote.

use artifactapi_model::PackageType;
use artifactapi_services::{Distribution, Storage};
use artifactapi_tests::{
    Missing, Proxy, Registry, RemoteManifest,
    fixtures::noise,
    http::PATIENCE,
    manifest,
    registry::{
        Form, Image, Refused, Route,
        conformance::{Suite, Verdict},
        image_of, index_of,
    },
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Ending,
    subject::{LOCAL, Subject, local},
};

/// Reads with a Remote in front of a registry.
const REMOTE: &str = "r";

async fn suite(host: &str, prefix: &str, version: &str) -> Result<Verdict, Missing> {
    let dir = TempDir::new().expect("a temporary directory");
    let plain = version.replace('.', "");
    let images = ["one", "two"].map(|name| format!("{prefix}conformance{plain}/{name}"));
    Suite::new(host, [&images[0], &images[1]], version).run(dir.path()).await
}

/// Everything the suite has, through the balancer: as the released specification asks, and as the next one will, at
/// the same time.
pub(crate) async fn whole(subject: &mut Subject) -> Ending {
    let (host, prefix) = (subject.host(), subject.prefix());
    let (released, next) = tokio::join!(suite(&host, prefix, "1.1"), suite(&host, prefix, "dev"));
    for (version, verdict) in [("1.1", released?), ("dev", next?)] {
        let who = if let Subject::Peer(_) = subject { "Distribution" } else { "a Local on three replicas" };
        println!("\nfigure: OCI conformance {version} of {who}: {verdict}");
        if let Subject::Peer(_) = subject {
            // It is no conformant registry; that the suite came to verdicts is what is asked here.
            assert!(verdict.apis.len() >= 28 && verdict.data.len() >= 20, "{}", verdict.told);
        } else {
            verdict.assert_all_passed();
        }
    }
    Ok(())
}

/// The same on one process and a directory.
pub(crate) async fn standalone() -> Ending {
    let subject = Subject::standalone().await;
    let verdict = suite(&subject.host(), subject.prefix(), "dev").await?;
    println!("\nfigure: OCI conformance dev of a Local standalone: {verdict}");
    verdict.assert_all_passed();
    Ok(())
}

/// What is to be read.
struct Stock {
    manifests: Vec<String>,
    blobs: Vec<String>,
    subject: String,
}

/// An index of two images, and an image about it.
async fn stock(image: &Image) -> Result<Stock, Refused> {
    let route = Route::only(0);
    let (mut blobs, mut images) = (Vec::new(), Vec::new());
    for seed in [1, 2] {
        let (config, layer) = (format!("{{\"n\":{seed}}}").into(), noise(seed, 100_000));
        for bytes in [&config, &layer] {
            blobs.push(image.push(Form::PostPut, bytes, &route).await?);
        }
        let manifest = image_of(&config, &[(blobs[blobs.len() - 1].clone(), layer.len())]);
        image.put_manifest(0, &manifest.digest(), &manifest).await?;
        images.push(manifest);
    }
    let index = index_of(&images);
    let about = images[0].clone().about(&index, "application/vnd.example.note");
    image.put_manifest(0, "1.0", &index).await?;
    image.put_manifest(0, &about.digest(), &about).await?;
    let manifests = images.iter().chain([&index]).map(|manifest| manifest.digest()).collect();
    Ok(Stock { manifests, blobs, subject: index.digest() })
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// The reading part of the suite on the image `name` of `proxy`, which has `stock`.
async fn read_part(proxy: &Proxy, name: &str, stock: &Stock, has_referrers: bool, what: &str) -> Ending {
    let dir = TempDir::new().expect("a temporary directory");
    let suite = Suite::new(&proxy.host(), [name, name], "dev");
    let suite = suite.read_only(&["1.0"], &texts(&stock.manifests), &texts(&stock.blobs), &[&stock.subject]);
    let referrers = if has_referrers { "true" } else { "false" };
    let verdict = suite.set("OCI_API_REFERRER", referrers).run(dir.path()).await?;
    println!("\nfigure: OCI conformance dev, reading only, of {what}: {verdict}");
    let read =
        ["Blob get", "Blob head", "Manifest get by digest", "Manifest get by tag", "Tag listing", "Ping"];
    for api in read {
        let status = verdict.apis.iter().find(|(name, _)| name == api).map(|(_, status)| status.as_str());
        assert_eq!(status, Some("Pass"), "{api}: {}", verdict.told);
    }
    assert!(verdict.wrong().is_empty(), "{:?}\n{}", verdict.wrong(), verdict.told);
    let image = Registry::new([proxy.url()], "").image(name);
    for reference in ["1.0", &stock.subject] {
        let manifest = image.manifest(0, reference).await.expect("an answer").expect("a manifest");
        assert_eq!(manifest.header("docker-content-digest"), stock.subject, "{reference}");
    }
    Ok(())
}

/// Distribution with an image of this name.
async fn upstream(directory: &TempDir, name: &str) -> Result<(Distribution, Stock), Missing> {
    let upstream = Distribution::start(&Storage::Directory(directory.path().to_owned()));
    let upstream = upstream.map_err(|missing| Missing(format!("{} is not installed", missing.0)))?;
    let registry = Registry::new([upstream.url()], "");
    let stock = stock(&registry.image(name)).await.expect("Distribution takes it");
    Ok((upstream, stock))
}

/// The reading part of the suite on a Remote in front of Distribution, which has no API for referrers: it says so, and
/// so do we.
pub(crate) async fn of_a_remote() -> Ending {
    let directory = TempDir::new().expect("a temporary directory");
    let (upstream, stock) = upstream(&directory, "app/one").await?;
    let manifest = RemoteManifest::at(REMOTE, PackageType::Docker, &upstream.url());
    let proxy = Proxy::start(manifest.document()).await;
    read_part(&proxy, &format!("{REMOTE}/app/one"), &stock, false, "a Remote").await
}

/// The same on a Virtual over a Local and a Remote, for an image of each. What the Local has is the Local's, whatever
/// the Remote has of that name, and nothing can be pushed.
pub(crate) async fn of_a_virtual() -> Ending {
    let directory = TempDir::new().expect("a temporary directory");
    let (upstream, far) = upstream(&directory, "app/far").await?;
    let documents = [
        local(&Value::Null),
        RemoteManifest::at(REMOTE, PackageType::Docker, &upstream.url()).document(),
        manifest::united("v", PackageType::Docker, &[LOCAL, REMOTE], &Value::Null),
    ];
    let proxy = Proxy::start(manifest::join(&documents)).await;
    let registry = Registry::new([proxy.url()], "");
    let near = stock(&registry.image(&format!("{LOCAL}/app/near"))).await.expect("a Local takes it");
    read_part(&proxy, "v/app/far", &far, false, "a Virtual, an image of its Remote").await?;
    read_part(&proxy, "v/app/near", &near, true, "a Virtual, an image of its Local").await?;
    let manifest = image_of(&"{}".into(), &[]);
    let pushed = registry.image("v/app/near").put_manifest(0, "2.0", &manifest).await;
    let refused = pushed.expect_err("a Virtual takes nothing");
    assert!(refused.status == Some(405) && refused.is("UNSUPPORTED"), "{refused}");
    // From the moment it is pushed to the Local, the name is the Local's.
    let image = registry.image(&format!("{LOCAL}/app/far"));
    stock(&image).await.expect("a Local takes it");
    let tags = registry.image("v/app/far");
    wait::until("the Local's own", PATIENCE, async || {
        tags.referrers(0, &near.subject).await.is_ok_and(|found| found.len() == 1)
    })
    .await;
    Ok(())
}
