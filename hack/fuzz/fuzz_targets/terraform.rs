//! Terraform registry documents.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for path in ["v1/providers/hashicorp/null/versions", "v1/providers/hashicorp/null/3.2.0/download/linux/amd64"] {
        index::read(PackageType::Terraform, path, "application/json", "", data);
    }
});
