//! Puppet Forge lists and releases: only links change, they become root-relative, and a release's link leads
//! to the file that the facts know; a merged list has nothing that no request leads to.
#![no_main]

use artifactapi_fuzz::{
    index::{self, Document, Reading},
    merge,
};
use artifactapi_model::PackageType::Puppet;
use serde_json::Value;

/// Hands every release's `file_uri` to `visit`: where the client looks, and no deeper.
fn uris(value: &mut Value, level: usize, visit: &mut dyn FnMut(&mut Value)) {
    let Some(object) = value.as_object_mut() else { return };
    if let Some(uri) = object.get_mut("file_uri").filter(|uri| uri.is_string()) {
        visit(uri);
    }
    if let Some(pages) = object.get_mut("pagination").and_then(Value::as_object_mut) {
        for page in ["first", "previous", "current", "next"] {
            if let Some(page) = pages.get_mut(page).filter(|page| page.is_string()) {
                *page = Value::Null;
            }
        }
    }
    if level == 3 {
        return;
    }
    if let Some(current) = object.get_mut("current_release") {
        uris(current, level + 1, visit);
    }
    for list in ["results", "releases"] {
        for item in object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            uris(item, level + 1, visit);
        }
    }
}

/// puppet appends the link to the URL of its repository.
fn follow(reading: &Reading, uri: &str) {
    if let Some(below) = uri.strip_prefix("/v3/files/")
        && !below.contains(['?', '#'])
        && let Some(path) = reading.follow(&format!("https://own.example/api/v1/remote/fuzz{uri}"))
    {
        assert!(path.as_str().starts_with("v3/"), "{uri} leads to {path:?}");
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for target in [
        "v3/releases?module=puppetlabs-stdlib",
        "v3/releases/puppetlabs-stdlib-9.0.0",
        "v3/modules/puppetlabs-stdlib",
    ] {
        let reading = Document { package_type: Puppet, target, content_type: "application/json", accept: "" }
            .read(data);
        let Some(output) = &reading.output else { continue };
        let Some(mut input) = index::parsed(data) else { continue };
        let mut output: Value = index::parsed(output).expect("rewritten JSON is JSON");
        uris(&mut output, 1, &mut |uri| {
            follow(&reading, uri.as_str().unwrap_or_default());
            *uri = Value::Null;
        });
        uris(&mut input, 1, &mut |uri| *uri = Value::Null);
        assert_eq!(output, input, "more than links has changed");
        const LIST: &str = "v3/releases?module=puppetlabs-stdlib";
        let body = reading.output.unwrap_or_default();
        let documents = merge::needs(Puppet, LIST).into_iter().map(|path| (path, body.clone())).collect();
        if let Some(merged) = merge::check(Puppet, LIST, &documents) {
            for body in merged.files.values() {
                serde_json::from_slice::<Value>(body).expect("what is merged is JSON");
            }
        }
    }
});
