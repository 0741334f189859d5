//! What classification promises for every type alike, on paths made of the words that types know.

use artifactapi_model::{Mutability, PackageType};
use proptest::prelude::*;

use crate::{Answer, Location, Method, Plan, PlanError, Request, Resource, format_of, testing};

/// Words and joints of all types' paths, and what may be wrong with them.
fn any_path() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a",
        "b-1.0",
        "1.2.3",
        "v1.0.0",
        "@s",
        "!x",
        "X",
        "https:",
        "c:*",
        "-",
        "é",
        "%40s%2fa",
        "%2e",
        "%2F",
        "v1",
        "v2",
        "v3",
        "providers",
        "versions",
        "download",
        "linux",
        "index.yaml",
        "index.json",
        "up.test",
        "simple",
        "pypi",
        "json",
        "manifests",
        "blobs",
        "tags",
        "list",
        "referrers",
        "sumdb",
        "lookup",
        "tile",
        "8",
        "0",
        "001",
        "@v",
        "@latest",
        "repodata",
        "repomd.xml",
        "primary.xml.gz",
        "mirrorlist",
        "files",
        "releases",
        "modules",
        "APKINDEX.tar.gz",
        "latest-stable",
        "x",
        "SHA256SUMS",
        "a-1.tgz",
        "a-1.whl",
        "a-1.apk",
        "a-1.rpm",
        "a_1.zip",
        "b@v1.0.0",
        "v1.0.0.zip",
        "master.info",
        "a-b-1.0.tar.gz",
        "sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000-primary.xml.gz",
    ]);
    (prop::collection::vec(word, 0..8), any::<bool>())
        .prop_map(|(words, slash)| words.join("/") + if slash { "/" } else { "" })
}

fn planned(package_type: PackageType, target: &str) -> Option<Plan> {
    let remote = testing::remote(package_type, "https://up.test/base/");
    testing::get(format_of(package_type), &remote, target, "").ok()
}

fn resource(package_type: PackageType, target: &str) -> Option<Resource> {
    match planned(package_type, target)? {
        Plan::Serve(resource) => Some(*resource),
        _ => None,
    }
}

/// RFC 9110, 10.2.1: `Allow` is a list with commas.
#[test]
fn whoever_writes_is_told_what_an_allow_header_may_say() {
    let request = Request { method: Method::Other, raw_path: "a", query: "", accept: "" };
    for package_type in PackageType::ALL {
        let remote = testing::remote(package_type, "https://up.test/base/");
        let refused = format_of(package_type).plan(&request, &remote, &testing::links());
        assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"), "{package_type}");
    }
}

proptest! {
    #[test]
    fn rs_21_a_key_sent_back_is_classified_alike(path in any_path(), query in "((n|last|module|repo|a)=[a-z0-9%&]{0,4}){0,2}") {
        for package_type in PackageType::ALL {
            let Some(first) = resource(package_type, &format!("{path}?{query}")) else { continue };
            let again = resource(package_type, &format!("{}?{}", first.path.encode(), first.query));
            let Some(again) = again else {
                return Err(TestCaseError::fail(format!("{package_type:?}: {path} has a key that is no path")));
            };
            prop_assert_eq!((&again.path, &again.query), (&first.path, &first.query));
            prop_assert_eq!(again.mutability, first.mutability);
            prop_assert_eq!(again.location, first.location);
            prop_assert_eq!(again.indexes, first.indexes);
        }
    }

    #[test]
    fn rs_21_what_names_its_own_checksum_never_changes(path in any_path()) {
        for package_type in PackageType::ALL {
            if let Some(found) = resource(package_type, &path) {
                prop_assert!(found.checksums.is_empty() || found.mutability == Mutability::Immutable, "{package_type:?} {path}");
                // What clients get rewritten is made from a document that may change.
                prop_assert!(found.representation.is_none() || found.mutability == Mutability::Mutable, "{package_type:?} {path}");
            }
        }
    }

    #[test]
    fn rs_34_no_path_leaves_the_repository(path in any_path()) {
        for package_type in PackageType::ALL {
            match planned(package_type, &path) {
                Some(Plan::Serve(found)) => {
                    // Nobody here has the key: a signed link that opens is forged.
                    prop_assert!(!matches!(found.location, Location::Named(_)), "{path}");
                    if let Location::Below(target) = found.location {
                        let url: url::Url = format!("https://up.test/base/{target}").parse().unwrap();
                        prop_assert_eq!(url.host_str(), Some("up.test"));
                        prop_assert!(url.path().starts_with("/base/"), "{} {}", path, url);
                    }
                }
                Some(Plan::Answer(Answer::Moved(to))) => {
                    prop_assert!(!to.starts_with('/') && !to.contains("://"), "{to}");
                    let next = planned(package_type, &to);
                    prop_assert!(!matches!(next, Some(Plan::Answer(Answer::Moved(_)))), "{path} moves to {to} and on");
                }
                _ => {}
            }
        }
    }
}
