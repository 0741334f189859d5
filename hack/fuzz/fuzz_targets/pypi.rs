//! PyPI project pages, JSON and HTML, in both renderings.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let json = "application/vnd.pypi.simple.v1+json";
    for content_type in [json, "text/html"] {
        for accept in [json, "text/html"] {
            index::read(PackageType::Pypi, "simple/flask/", content_type, accept, data);
        }
    }
});
