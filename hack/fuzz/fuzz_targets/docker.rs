//! Tag lists.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    index::read(PackageType::Docker, "library/alpine/tags/list", "application/json", "", data);
});
