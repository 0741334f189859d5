//! Helm chart indexes: the layout scanner, its YAML fallback and JSON.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    index::read(PackageType::Helm, "index.yaml", "text/yaml", "", data);
});
