//! The docker protocol: references and digests against the grammar, tag lists, referrers and `Link`.
#![no_main]

use artifactapi_formats::{Plan, format_of};
use artifactapi_fuzz::{
    index::{self, Document},
    plan, remote, resource,
};
use artifactapi_model::{Mutability, PackageType::Docker};
use serde_json::Value;

fn tags(value: &Value) -> Option<Vec<&str>> {
    match value.get("tags")? {
        Value::Null => Some(Vec::new()),
        list => list.as_array()?.iter().map(Value::as_str).collect(),
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let document = Document {
        package_type: Docker,
        target: "library/alpine/tags/list",
        content_type: "application/json",
        accept: "",
    };
    let reading = document.read(data);
    let input = index::parsed(data);
    if let Some(output) = reading.json() {
        assert_eq!(output["name"], "library/alpine");
        if let Some(input) = &input {
            assert_eq!(
                tags(&output),
                Some(tags(input).unwrap_or_default()),
                "the tags, all and in their order"
            );
        }
    }
    let wanted = "application/spdx";
    let target = format!("a/referrers/sha256:{}?artifactType={wanted}", "0".repeat(64));
    let filtered = Document { target: &target, ..document }.read(data);
    if let (Some(output), Some(Value::Object(mut input))) = (filtered.copied_json(data), input) {
        if let Some(Value::Array(manifests)) = input.get_mut("manifests") {
            manifests.retain(|manifest| manifest["artifactType"] == wanted);
        }
        assert_eq!(output, Value::Object(input), "only descriptors of another type are missing");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    reference(text);
    link(text);
});

/// A reference is a tag, a digest or refused; only a digest is immutable, and it is its own checksum.
fn reference(text: &str) {
    if text.contains('?') {
        return;
    }
    let remote = remote(Docker);
    let planned = match plan(&remote, &format!("a/manifests/{text}"), "") {
        Ok(Plan::Serve(planned)) => planned,
        _ => return,
    };
    let reference = planned.path.file_name();
    let is_digest = reference.split_once(':').is_some_and(|(algorithm, digits)| {
        matches!((algorithm, digits.len()), ("sha256", 64) | ("sha512", 128))
            && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    });
    assert_eq!(planned.mutability == Mutability::Immutable, is_digest, "{reference}");
    assert_eq!(planned.checksums.len(), usize::from(is_digest), "{reference}");
    assert_eq!(planned.tag.as_deref(), (!is_digest).then_some(reference));
    let is_tag = reference.len() <= 128
        && reference.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && reference.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    assert!(is_digest || is_tag, "{reference}");
}

/// Upstream's `Link` leads to another page of the same list here, or nowhere.
fn link(text: &str) {
    let remote = remote(Docker);
    let here = resource(&remote, "a/tags/list?n=5", "").expect("a tag list");
    let base = index::base();
    let prefix = base.prefix.clone();
    let stored = |name: &str| (name == "link").then(|| text.to_owned());
    let headers = format_of(Docker).headers(&here, None, &stored, &base);
    let Some((_, link)) = headers.into_iter().find(|(name, _)| *name == "link") else { return };
    let target = link.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("a target").0;
    let raw = target.strip_prefix(&prefix).unwrap_or_else(|| panic!("{link} leaves the repository"));
    let next = resource(&remote, raw, "").expect("the next page is a page");
    assert_eq!(next.path, here.path, "{link}");
    assert_ne!(next.query, here.query, "{link} leads to the same page");
    assert!(link.bytes().all(|b| (0x21..0x7f).contains(&b) || b == b' '), "{link}");
}
