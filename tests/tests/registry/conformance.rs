//! The suite of the OCI distribution specification: through the balancer in front of the replicas, standalone,
//! and its reading part on a Remote.

use artifactapi_model::PackageType;
use artifactapi_services::{Distribution, Storage};
use artifactapi_tests::{
    Missing, Proxy, Registry, RemoteManifest,
    fixtures::noise,
    registry::{
        Form, Image, Refused, Route,
        conformance::{Suite, Verdict},
        image_of, index_of,
    },
};
use tempfile::TempDir;

use crate::{Ending, subject::Subject};

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

/// The reading part of the suite on a Remote in front of Distribution.
pub(crate) async fn of_a_remote() -> Ending {
    let directory = TempDir::new().expect("a temporary directory");
    let upstream = Distribution::start(&Storage::Directory(directory.path().to_owned()));
    let upstream = upstream.map_err(|missing| Missing(format!("{} is not installed", missing.0)))?;
    let registry = Registry::new([upstream.url()], "");
    let stock = stock(&registry.image("app/one")).await.expect("Distribution takes it");
    let manifest = RemoteManifest::at(REMOTE, PackageType::Docker, &upstream.url());
    let proxy = Proxy::start(manifest.document()).await;
    let image = format!("{REMOTE}/app/one");
    let dir = TempDir::new().expect("a temporary directory");
    let suite = Suite::new(&proxy.host(), [&image, &image], "dev");
    let suite = suite.read_only(&["1.0"], &texts(&stock.manifests), &texts(&stock.blobs), &[&stock.subject]);
    // Distribution has no API for referrers: it says so, and so do we.
    let verdict = suite.set("OCI_API_REFERRER", "false").run(dir.path()).await?;
    println!("\nfigure: OCI conformance dev, reading only, of a Remote: {verdict}");
    let read =
        ["Blob get", "Blob head", "Manifest get by digest", "Manifest get by tag", "Tag listing", "Ping"];
    for api in read {
        let status = verdict.apis.iter().find(|(name, _)| name == api).map(|(_, status)| status.as_str());
        assert_eq!(status, Some("Pass"), "{api}: {}", verdict.told);
    }
    assert!(verdict.wrong().is_empty(), "{:?}\n{}", verdict.wrong(), verdict.told);
    let read = Registry::new([proxy.url()], &format!("{REMOTE}/")).image("app/one");
    for reference in ["1.0", &stock.subject] {
        let manifest = read.manifest(0, reference).await.expect("an answer").expect("a manifest");
        assert_eq!(manifest.header("docker-content-digest"), stock.subject, "{reference}");
    }
    Ok(())
}
