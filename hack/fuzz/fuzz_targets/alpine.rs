//! Alpine indexes.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    index::read(PackageType::Alpine, "v3.20/main/x86_64/APKINDEX.tar.gz", "", "", data);
});
