//! npm packuments, full and abbreviated.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for accept in ["application/json", "application/vnd.npm.install-v1+json"] {
        index::read(PackageType::Npm, "express", "application/json", accept, data);
    }
});
