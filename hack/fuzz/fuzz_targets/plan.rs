//! Every type's reading of a request: total, one key for one thing, and nothing that leaves the repository
//! (RS-21, RS-22, RS-34); what a digest or checksum names is never mutable.
#![no_main]

use artifactapi_formats::{Answer, Location, Plan};
use artifactapi_fuzz::{plan, remote, resource};
use artifactapi_model::{Mutability, PackageType};

libfuzzer_sys::fuzz_target!(|input: (u8, &str, &str, &str)| {
    let (which, raw_path, query, accept) = input;
    if raw_path.contains('?') {
        return;
    }
    let package_type = PackageType::ALL[usize::from(which) % PackageType::ALL.len()];
    let remote = remote(package_type);
    let planned = match plan(&remote, &format!("{raw_path}?{query}"), accept) {
        Ok(Plan::Serve(planned)) => planned,
        Ok(Plan::Answer(Answer::Moved(to))) => {
            // A redirect leads somewhere, not round in circles, and stays in the repository.
            assert!(!to.starts_with('/') && !to.contains("://"), "{to}");
            let next = plan(&remote, &to, accept);
            assert!(!matches!(next, Ok(Plan::Answer(Answer::Moved(_)))), "{raw_path} to {to} to {next:?}");
            return;
        }
        Ok(Plan::Pass(target)) => {
            return assert!(!target.starts_with('/') && !target.contains("://"), "{target}");
        }
        _ => return,
    };
    if let Location::Below(target) = &planned.location {
        // As the engine joins it: as text, since a path may look like a URL of another scheme.
        let url = url::Url::parse(&format!("{}{target}", remote.base_url)).expect("a location joins");
        assert!(remote.is_own_origin(&url), "{raw_path} asks {url}");
        assert!(url.path().starts_with("/base/"), "{raw_path} leaves baseURL for {url}");
        assert_eq!(url.fragment(), None);
    }
    assert!(!planned.query.contains(|c: char| c.is_control() || matches!(c, ' ' | '#' | '"')));
    if !planned.checksums.is_empty() {
        assert_eq!(planned.mutability, Mutability::Immutable, "{raw_path} names its own checksum");
    }
    // The key, sent back as a request, is the same thing. Signed links are known under another name.
    if planned.path.as_str().starts_with(artifactapi_formats::link::PREFIX) {
        return;
    }
    let key = format!("{}?{}", planned.path.encode(), planned.query);
    let again = resource(&remote, &key, accept).unwrap_or_else(|| panic!("{key} is a key"));
    assert_eq!((&again.path, &again.query), (&planned.path, &planned.query), "{raw_path}");
    assert_eq!(again.mutability, planned.mutability, "{raw_path}");
    if package_type != PackageType::Terraform {
        // The mirror's documents are the registry's in another form; the form is no part of the key.
        assert_eq!(again.representation, planned.representation, "{raw_path}");
    }
    assert_eq!(again.location, planned.location, "{raw_path}");
    assert_eq!(again.indexes, planned.indexes, "{raw_path}");
});
