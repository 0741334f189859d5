//! Terraform registry documents: discovery leads to us, a download document names exactly the files whose
//! facts are told, and the mirror's version document offers nothing without a hash; merged versions are JSON on both
//! faces.
#![no_main]

use artifactapi_formats::{Documents, Location, Step, format_of};
use artifactapi_fuzz::{
    index::{self, Document},
    merge, remote, resource,
};
use artifactapi_model::PackageType::Terraform;
use serde_json::Value;

const DOWNLOAD: &str = "v1/providers/hashicorp/null/3.2.0/download/linux/amd64";
const VERSIONS: &str = "v1/providers/hashicorp/null/versions";
const MIRROR: &str = "upstream.example/hashicorp/null/index.json";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let read = |target| {
        Document { package_type: Terraform, target, content_type: "application/json", accept: "" }.read(data)
    };
    if let Some(discovery) = read(".well-known/terraform.json").json() {
        let ours = discovery.get("providers.v1");
        assert!(ours.is_none_or(|ours| ours == "../v1/providers/"), "{discovery}");
        assert_eq!(discovery.as_object().map(|keys| keys.len()), Some(usize::from(ours.is_some())));
    }
    let download = read(DOWNLOAD);
    if let Some(output) = download.copied_json(data) {
        for key in ["download_url", "shasums_url", "shasums_signature_url"] {
            if let (Some(url), Some(_)) = (output[key].as_str(), &download.facts) {
                let path = download.follow(url).unwrap_or_else(|| panic!("{key} leads away: {url}"));
                assert!(path.as_str().starts_with(DOWNLOAD), "{path:?}");
                download.check_link(url);
            }
        }
        let filename = output["filename"].as_str().expect("a name");
        assert!(filename.ends_with(".zip") && !filename.contains('/'));
    }
    if let Some(index) = read(MIRROR).json() {
        let versions = index["versions"].as_object().expect("versions");
        assert!(versions.values().all(|value| value == &Value::Object(Default::default())));
    }
    for path in [VERSIONS, MIRROR] {
        let documents = [VERSIONS, MIRROR].map(|path| (path.to_owned(), data.to_vec())).into();
        // What serde cannot read (a lone surrogate, an exotic number) is copied as it is.
        if let (Some(merged), Some(_)) = (merge::check(Terraform, path, &documents), index::parsed(data)) {
            for body in merged.files.values() {
                serde_json::from_slice::<Value>(body).expect("what is merged is JSON");
            }
        }
    }
    compose(data);
});

/// The input as `SHA256SUMS`, and as the versions document.
fn compose(data: &[u8]) {
    let remote = remote(Terraform);
    let version = resource(&remote, "upstream.example/hashicorp/null/3.2.0.json", "").expect("a version");
    assert_eq!(version.location, Location::Composed);
    let known = br#"{"versions":[{"version":"3.2.0","platforms":[{"os":"linux","arch":"amd64"},{"os":"darwin","arch":"arm64"}]}]}"#;
    for (versions, sums) in [(&known[..], data), (data, &b""[..])] {
        let mut documents = Documents::new();
        for _ in 0..4 {
            match format_of(Terraform).compose(&version, &documents, &|_| true) {
                Ok(Step::Need(paths)) => {
                    for path in paths {
                        assert!(!documents.contains_key(&path), "{path} is asked for twice");
                        assert!(resource(&remote, &path, "").is_some(), "{path} is no document of ours");
                        let body = match &*path {
                            VERSIONS => versions,
                            path if path.ends_with("SHA256SUMS") => sums,
                            _ => b"{}",
                        };
                        documents.insert(path, body.to_vec());
                    }
                }
                Ok(Step::Done { body, .. }) => {
                    let body: Value = serde_json::from_slice(&body).expect("JSON");
                    for archive in body["archives"].as_object().expect("archives").values() {
                        let hash = archive["hashes"][0].as_str().expect("a hash");
                        assert!(
                            hash.strip_prefix("zh:").is_some_and(|hash| hash.len() == 64
                                && String::from_utf8_lossy(data).to_ascii_lowercase().contains(hash)),
                            "{body}"
                        );
                    }
                    return;
                }
                Ok(Step::Missing) | Err(_) => return,
            }
        }
        panic!("there is no end of documents to ask for");
    }
}
