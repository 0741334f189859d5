//! The engine with real formats: checksums that indexes publish, rewritten documents, chains of documents.

mod support;

use std::{sync::Arc, time::Duration};

use artifactapi_engine::{CacheOutcome, FetchError};
use artifactapi_formats::{Method, PlanError};
use artifactapi_model::{
    Digest, PackageType, Remote, RepoName,
    ports::{MetadataStore as _, UpstreamMethod},
    repository::RemoteSpec,
};
use artifactapi_stores::MemoryBlobs;
use support::*;

fn typed(content_type: &str, bytes: impl Into<bytes::Bytes>) -> Script {
    Script::Body {
        bytes: bytes.into(),
        headers: vec![("content-type", content_type.to_owned())],
        framing: None,
    }
}

fn simple_page(digest: &Digest) -> Script {
    let page = format!(
        r#"{{"meta":{{"api-version":"1.0"}},"name":"pkg","files":[{{"filename":"pkg-1.0-py3-none-any.whl","url":"/packages/pkg-1.0-py3-none-any.whl","hashes":{{"sha256":"{}"}}}}]}}"#,
        digest.to_hex()
    );
    typed("application/vnd.pypi.simple.v1+json", page)
}

const WHEEL: &str = "packages/pkg-1.0-py3-none-any.whl";

#[tokio::test]
async fn rs_09_a_wheel_is_held_against_its_index() {
    let bench = Bench::new(PackageType::Pypi).await;
    let wheel = [b"PK".as_slice(), &pattern(200_000)].concat();
    bench.upstream.put("simple/pkg/", simple_page(&Digest::of(&wheel)));
    let page = bench.fetch("simple/pkg/").await.unwrap();
    assert!(String::from_utf8(page).unwrap().contains(WHEEL));

    let mut wrong = wheel.clone();
    wrong[150_000] ^= 1;
    bench.upstream.put(WHEEL, typed("application/octet-stream", wrong));
    assert!(bench.fetch(WHEEL).await.is_err(), "wrong bytes never end cleanly");
    bench.upstream.put(WHEEL, typed("application/octet-stream", wheel.clone()));
    assert_eq!(bench.fetch(WHEEL).await.unwrap(), wheel);
}

#[tokio::test]
async fn rs_09_a_wheel_fetched_before_its_index_is_judged_when_the_index_comes() {
    let bench = Bench::new(PackageType::Pypi).await;
    let (wrong, right) = (b"PK wrong".to_vec(), b"PK right".to_vec());
    bench.upstream.put(WHEEL, typed("", wrong.clone()));
    assert_eq!(bench.fetch(WHEEL).await.unwrap(), wrong);
    bench.upstream.put("simple/pkg/", simple_page(&Digest::of(&right)));
    bench.fetch("simple/pkg/").await.unwrap();
    assert!(matches!(bench.get(WHEEL).await, Err(FetchError::Mismatch { algorithm: "sha256" })));
    bench.upstream.put(WHEEL, typed("", right.clone()));
    assert_eq!(bench.fetch(WHEEL).await.unwrap(), right);
}

#[tokio::test]
async fn rs_34_the_link_that_one_remote_s_page_became_fetches_nothing_through_another() {
    let mut bench = Bench::new(PackageType::Pypi).await;
    let page = r#"{"meta":{"api-version":"1.0"},"name":"pkg","files":[{"filename":"pkg-1.0-py3-none-any.whl","url":"http://inside.test/pkg-1.0-py3-none-any.whl","hashes":{}}]}"#;
    bench.upstream.put("simple/pkg/", typed("application/vnd.pypi.simple.v1+json", page));
    bench.upstream.put("pkg-1.0-py3-none-any.whl", typed("", "PK inside"));
    let page = String::from_utf8(bench.fetch("simple/pkg/").await.unwrap()).unwrap();
    let link = &page[page.find("-/x/").unwrap()..];
    let link = &link[..link.find(['"', '#']).unwrap()];
    assert_eq!(bench.fetch(link).await.unwrap(), b"PK inside");

    let asked = bench.upstream.all().len();
    let other = RepoName::try_from("other").unwrap();
    let identity = bench.metadata.ensure_repository("default", &other, PackageType::Pypi, "").await.unwrap();
    bench.remote = Remote { identity, spec: Arc::new(RemoteSpec { name: other, ..spec(PackageType::Pypi) }) };
    let refused = bench.get(link).await;
    assert!(matches!(refused, Err(FetchError::Plan(PlanError::ForgedLink))));
    assert_eq!(bench.upstream.all().len(), asked, "nobody was asked");
}

#[tokio::test]
async fn rs_07_an_html_page_is_no_wheel() {
    let bench = Bench::new(PackageType::Pypi).await;
    bench.upstream.put(WHEEL, typed("text/html", "<html>please log in</html>"));
    assert!(matches!(bench.get(WHEEL).await, Err(FetchError::WrongKind { .. })));
}

#[tokio::test]
async fn a_rewritten_page_is_made_once_and_described_by_its_own_digest() {
    let bench = Bench::new(PackageType::Pypi).await;
    bench.upstream.put("simple/pkg/", simple_page(&Digest::of(b"")));
    let first = bench.get("simple/pkg/").await.unwrap();
    let page = bench.read(&first).await.unwrap();
    assert_eq!(first.digest, Some(Digest::of(&page)));
    assert_eq!(first.size, Some(page.len() as u64));
    let again = bench.get("simple/pkg/").await.unwrap();
    assert_eq!((again.outcome, again.digest), (CacheOutcome::Hit, first.digest));
    assert_eq!(bench.upstream.gets(), 1);
}

fn manifest(bytes: &'static str) -> Script {
    Script::Body {
        bytes: bytes.into(),
        headers: vec![
            ("content-type", "application/vnd.oci.image.manifest.v1+json".into()),
            ("docker-content-digest", Digest::of(bytes.as_bytes()).to_string()),
        ],
        framing: None,
    }
}

#[tokio::test]
async fn rs_92_a_tag_is_revalidated_by_head_and_fetched_only_on_change() {
    let mut spec = spec(PackageType::Docker);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    let upstream = "v2/app/manifests/1";
    bench.upstream.put(upstream, manifest("{}"));
    let content = bench.get("app/manifests/1").await.unwrap();
    assert_eq!(bench.read(&content).await.unwrap(), b"{}");
    let digest = ("docker-content-digest", Digest::of(b"{}").to_string());
    assert!(content.headers.contains(&digest), "{:?}", content.headers);
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(bench.get("app/manifests/1").await.unwrap().outcome, CacheOutcome::Revalidated);
    assert_eq!((bench.upstream.gets(), bench.upstream.requests(UpstreamMethod::Head)), (1, 1));
    bench.clock.advance(Duration::from_secs(100));
    bench.upstream.put(upstream, manifest("{ }"));
    assert_eq!(bench.fetch("app/manifests/1").await.unwrap(), b"{ }");
    assert_eq!((bench.upstream.gets(), bench.upstream.requests(UpstreamMethod::Head)), (2, 2));
}

#[tokio::test]
async fn a_tag_that_was_asked_for_by_head_is_there_when_upstream_is_not() {
    let mut spec = spec(PackageType::Docker);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    let (tag, digest) = ("v2/app/manifests/1", Digest::of(b"{}"));
    let by_digest = format!("v2/app/manifests/{digest}");
    bench.upstream.put(tag, manifest("{}"));
    bench.upstream.put(&by_digest, Script::Status(429));
    let counts = || (bench.upstream.gets(), bench.upstream.requests(UpstreamMethod::Head));
    // As dockerd and containerd ask. What cannot be fetched costs the answer nothing.
    let told = bench.request(Method::Head, "app/manifests/1").await.unwrap();
    assert_eq!((told.digest, told.outcome), (Some(digest), CacheOutcome::Bypass));
    bench.upstream.put(&by_digest, manifest("{}"));
    bench.request(Method::Head, "app/manifests/1").await.unwrap();
    assert_eq!(counts(), (2, 2));
    assert_eq!(bench.fetch(&format!("app/manifests/{digest}")).await.unwrap(), b"{}");
    bench.request(Method::Head, "app/manifests/1").await.unwrap();
    assert_eq!(counts(), (2, 2), "what the client fetches next is there, and so is the tag");
    bench.upstream.put(tag, Script::Down);
    bench.clock.advance(Duration::from_secs(100));
    let told = bench.request(Method::Head, "app/manifests/1").await.unwrap();
    assert_eq!((told.digest, told.outcome), (Some(digest), CacheOutcome::Stale));
    assert_eq!(bench.fetch("app/manifests/1").await.unwrap(), b"{}");
}

/// Publishers sign after they have written, and mirrors bring one file after the other.
#[tokio::test]
async fn a_signature_that_came_before_it_was_made_anew_is_asked_for_again() {
    let mut spec = spec(PackageType::Rpm);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    let (document, signature) = ("os/repodata/repomd.xml", "os/repodata/repomd.xml.asc");
    let put = |path: &str, text: &'static str| {
        let headers = vec![("etag", format!("\"{text}\""))];
        bench.upstream.put(path, Script::Body { bytes: text.into(), headers, framing: None });
    };
    let both = async || {
        let document = bench.fetch(document).await.unwrap();
        (
            String::from_utf8(document).unwrap(),
            String::from_utf8(bench.fetch(signature).await.unwrap()).unwrap(),
        )
    };
    let is = |document: &str, signature: &str| (document.to_owned(), signature.to_owned());
    put(document, "first");
    put(signature, "of first");
    assert_eq!(both().await, is("first", "of first"));
    bench.clock.advance(Duration::from_secs(100));
    put(document, "second");
    assert_eq!(both().await, is("second", "of first"), "upstream has no other");
    put(signature, "of second");
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(both().await, is("second", "of second"));

    bench.clock.advance(Duration::from_secs(100));
    put(document, "third");
    put(signature, "of third");
    let served = bench.fetch(signature).await.unwrap();
    assert_eq!(served, b"of second", "for whoever has the second document");
    assert_eq!(both().await, is("third", "of third"));

    // Long after, it stays for as long as the document does.
    for expected in [2, 1, 1] {
        bench.clock.advance(Duration::from_secs(7_200));
        let asked = bench.upstream.all().len();
        assert_eq!(both().await, is("third", "of third"));
        assert_eq!(bench.upstream.all().len() - asked, expected);
    }
}

#[tokio::test]
async fn rs_91_a_refused_head_is_never_followed_by_a_get() {
    let mut spec = spec(PackageType::Docker);
    spec.stale_while_revalidate = Duration::ZERO;
    let bench = Bench::with(spec, Arc::new(MemoryBlobs::default())).await;
    bench.upstream.put("v2/app/manifests/1", manifest("{}"));
    bench.fetch("app/manifests/1").await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    bench.upstream.put("v2/app/manifests/1", Script::Status(429));
    assert_eq!(bench.get("app/manifests/1").await.unwrap().outcome, CacheOutcome::Stale);
    assert_eq!(bench.upstream.gets(), 1);
}

#[tokio::test]
async fn rs_02_a_blob_of_other_bytes_is_refused_whole() {
    let bench = Bench::new(PackageType::Docker).await;
    for size in [10, 300_000] {
        let wanted = Digest::of(&pattern(size));
        let mut wrong = pattern(size).to_vec();
        wrong[size - 1] ^= 1;
        bench.upstream.put(&format!("v2/app/blobs/{wanted}"), body(wrong));
        let path = format!("app/blobs/{wanted}");
        assert!(bench.fetch(&path).await.is_err());
        bench.upstream.put(&format!("v2/app/blobs/{wanted}"), body(pattern(size)));
        assert_eq!(bench.fetch(&path).await.unwrap(), pattern(size));
    }
}

#[tokio::test]
async fn a_terraform_provider_is_found_through_discovery_and_its_download_document() {
    let bench = Bench::new(PackageType::Terraform).await;
    let zip = b"PK provider".to_vec();
    bench.upstream.put(
        ".well-known/terraform.json",
        typed("application/json", r#"{"providers.v1":"/api/providers/"}"#),
    );
    let download = format!(
        r#"{{"protocols":["5.0"],"os":"linux","arch":"amd64","filename":"terraform-provider-p_1.0.0_linux_amd64.zip","download_url":"http://up.test/files/p.zip","shasums_url":"http://up.test/files/SHA256SUMS","shasums_signature_url":"http://up.test/files/SHA256SUMS.sig","shasum":"{}","signing_keys":{{"gpg_public_keys":[]}}}}"#,
        Digest::of(&zip).to_hex()
    );
    bench
        .upstream
        .put("api/providers/acme/p/1.0.0/download/linux/amd64", typed("application/json", download));
    bench.upstream.put("files/p.zip", body(zip.clone()));
    let path = "v1/providers/acme/p/1.0.0/download/linux/amd64";
    let document = String::from_utf8(bench.fetch(path).await.unwrap()).unwrap();
    assert!(!document.contains("up.test"), "{document}");
    let file = "terraform-provider-p_1.0.0_linux_amd64.zip";
    assert_eq!(bench.fetch(&format!("{path}/{file}")).await.unwrap(), zip);
    assert_eq!(bench.upstream.gets(), 3);
}
