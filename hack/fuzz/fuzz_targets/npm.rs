//! npm packuments: in the full form only tarball and attestation URLs change, every tarball leads to the file
//! that the facts know, and the abbreviated form is a part of the full one; merged with nothing else it is one.
#![no_main]

use artifactapi_fuzz::{
    index::{self, Document},
    merge,
};
use artifactapi_model::PackageType::Npm;
use serde_json::Value;

/// Takes out of `document` what a rewrite may change.
fn without_urls(mut document: Value) -> Value {
    for version in
        document.get_mut("versions").and_then(Value::as_object_mut).into_iter().flat_map(|v| v.values_mut())
    {
        without_urls_of_version(version);
    }
    document
}

fn without_urls_of_version(version: &mut Value) {
    let Some(dist) = version.get_mut("dist").and_then(Value::as_object_mut) else { return };
    if let Some(tarball) = dist.get_mut("tarball").filter(|tarball| tarball.is_string()) {
        *tarball = Value::Null;
    }
    if let Some(url) =
        dist.get_mut("attestations").and_then(|a| a.get_mut("url")).filter(|url| url.is_string())
    {
        *url = Value::Null;
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let full =
        Document { package_type: Npm, target: "express", content_type: "application/json", accept: "" };
    let abbreviated = Document { accept: "application/vnd.npm.install-v1+json", ..full };
    let (full, abbreviated) = (full.read(data), abbreviated.read(data));
    let input = index::parsed(data);
    if input.is_some() {
        assert_eq!(full.output.is_some(), abbreviated.output.is_some(), "one form is refused");
    }
    if let Some(output) = full.copied_json(data) {
        // What serde cannot read (a lone surrogate, an exotic number) is copied as it is.
        if let Some(input) = input.clone() {
            assert_eq!(without_urls(output.clone()), without_urls(input));
        }
        for version in output["versions"].as_object().into_iter().flat_map(|versions| versions.values()) {
            if let Some(tarball) = version["dist"]["tarball"].as_str() {
                full.check_link(tarball);
            }
        }
        if let Some(Ok(short)) =
            abbreviated.output.as_ref().map(|output| serde_json::from_slice::<Value>(output))
        {
            for (name, version) in short["versions"].as_object().into_iter().flatten() {
                let long = &output["versions"][name];
                for (key, value) in version.as_object().into_iter().flatten() {
                    assert!(key == "hasInstallScript" || long[key] == *value, "{key} of {name}");
                }
            }
        }
    }
    if let Some(body) = &full.output {
        merge::check(Npm, "express", &[("express".to_owned(), body.clone())].into());
    }
    let version =
        Document { target: "express/1.0.0", package_type: Npm, content_type: "", accept: "" }.read(data);
    if let (Some(output), Some(mut input)) = (version.output, input) {
        let mut output: Value = serde_json::from_slice(&output).expect("rewritten JSON is JSON");
        without_urls_of_version(&mut output);
        without_urls_of_version(&mut input);
        assert_eq!(output, input);
    }
});
