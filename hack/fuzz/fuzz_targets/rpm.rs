//! RPM repository metadata, plain and compressed, and mirror lists.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for path in ["repodata/repomd.xml", "repodata/primary.xml", "repodata/primary.xml.gz", "repodata/primary.xml.zst", "repodata/primary.xml.xz", "mirrorlist", "metalink"] {
        index::read(PackageType::Rpm, path, "", "", data);
    }
});
