//! Helm chart indexes: the layout scanner reads what the complete YAML parser reads, every chart URL leads to
//! a file that the facts know, our own index reads as the same, and merged with nothing else it leads to the same
//! files.
#![no_main]

use artifactapi_fuzz::{index::Document, merge};
use artifactapi_model::PackageType::Helm;
use serde_json::Value;

const INDEX: Document<'_> =
    Document { package_type: Helm, target: "charts/index.yaml", content_type: "text/yaml", accept: "" };

fn urls(index: &Value) -> Vec<&Value> {
    let charts = index["entries"].as_object().into_iter().flat_map(|entries| entries.values());
    charts
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|version| version.get("urls")?.as_array())
        .flatten()
        .collect()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let reading = INDEX.read(data);
    let index = reading.json();
    if let Some(index) = &index {
        for url in urls(index).into_iter().filter_map(Value::as_str).filter(|url| !url.starts_with("oci://"))
        {
            reading.check_link(url);
        }
        // JSON read as JSON.
        let again = INDEX.read(reading.output.as_ref().expect("an index")).json().expect("our own index");
        assert_eq!(urls(&again).len(), urls(index).len());
        assert_eq!(
            again["entries"].as_object().map(|e| e.len()),
            index["entries"].as_object().map(|e| e.len())
        );
    }
    if let Some(body) = &reading.output {
        let documents = [("charts/index.yaml".to_owned(), body.clone())].into();
        if let Some(merged) = merge::check(Helm, "charts/index.yaml", &documents) {
            serde_json::from_slice::<Value>(&merged.files["charts/index.yaml"])
                .expect("a merged index is JSON");
        }
    }
    // A comment changes nothing in YAML, but it is none of what the scanner knows: so this is the parser.
    let is_json = data.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if is_json || data.starts_with("\u{feff}".as_bytes()) {
        return;
    }
    let mut commented = b"#\n".to_vec();
    commented.extend_from_slice(data);
    assert_eq!(INDEX.read(&commented).json(), index, "scanner and parser disagree");
});
