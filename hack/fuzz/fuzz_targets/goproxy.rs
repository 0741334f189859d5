//! Checksum database lookups.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    index::read(PackageType::Goproxy, "sumdb/sum.golang.org/lookup/rsc.io/quote@v1.5.2", "text/plain", "", data);
});
