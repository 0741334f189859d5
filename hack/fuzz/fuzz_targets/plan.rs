//! Every type's reading of a request: total, and one key never stands for two upstream locations (RS-21).
#![no_main]

use artifactapi_formats::{LinkSigner, Method, Request, format_of};
use artifactapi_model::PackageType;

#[path = "index.inc.rs"]
#[allow(dead_code)]
mod index;

libfuzzer_sys::fuzz_target!(|input: (&str, &str, &str)| {
    let (raw_path, query, accept) = input;
    let links = LinkSigner::new([7; 32]);
    for package_type in PackageType::ALL {
        let request = Request { method: Method::Get, raw_path, query, accept };
        let _ = format_of(package_type).plan(&request, &index::spec(package_type), &links);
    }
});
