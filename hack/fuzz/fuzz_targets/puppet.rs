//! Puppet Forge lists and releases.
#![no_main]

#[path = "index.inc.rs"]
mod index;

use artifactapi_model::PackageType;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for path in ["v3/releases?module=puppetlabs-stdlib", "v3/releases/puppetlabs-stdlib-9.0.0", "v3/modules/puppetlabs-stdlib"] {
        index::read(PackageType::Puppet, path, "application/json", "", data);
    }
});
