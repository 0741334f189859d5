//! What paths and queries of generic files mean.

use artifactapi_model::PathError;
use proptest::prelude::*;

use super::*;
use crate::{Location, Method, testing};

fn remote(parameters: &[&str]) -> RemoteSpec {
    let mut remote = testing::remote(PackageType::Generic, "https://files.test/base/");
    remote.query_parameters = parameters.iter().map(|&name| name.to_owned()).collect();
    remote
}

fn plan(remote: &RemoteSpec, target: &str) -> Result<Resource, PlanError> {
    match testing::get(&Generic, remote, target, "")? {
        Plan::Serve(resource) => Ok(*resource),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_immutable_and_listings_are_not() {
    for (target, want) in [
        ("v1/tool.tar.gz", Mutability::Immutable),
        ("v1/tool.tar.gz.sha256", Mutability::Immutable),
        ("v1/SHA256SUMS", Mutability::Immutable),
        ("latest", Mutability::Immutable),
        ("v1/", Mutability::Mutable),
        ("", Mutability::Mutable),
    ] {
        let resource = plan(&remote(&[]), target).unwrap();
        assert_eq!(resource.mutability, want, "{target}");
        assert_eq!(resource.location, Location::Below(target.to_owned()), "{target}");
        assert_eq!((resource.magic, resource.max_size), (None, None), "{target}: any bytes of any size");
    }
}

#[test]
fn rs_22_only_configured_parameters_in_one_order_and_spelling() {
    for (parameters, query, want) in [
        (&[][..], "token=1&x=2", ""),
        (&["ref"], "x=2&ref=main", "ref=main"),
        (&["ref", "arch"], "ref=main&arch=x", "arch=x&ref=main"),
        (&["ref"], "ref=b&ref=a", "ref=b&ref=a"),
        (&["ref"], "ref=b&x=1&ref=b&ref=a&ref=a", "ref=b&ref=a"),
        (&["ref"], "ref", "ref="),
        (&["ref"], "ref=a%2fb", "ref=a%2Fb"),
        (&["ref"], "ref=a/b", "ref=a%2Fb"),
        (&["ref"], "ref=a%20b", "ref=a+b"),
        (&["ref"], "ref=a+b", "ref=a+b"),
        (&["ref"], "ref=a%2bb", "ref=a%2Bb"),
        (&["ref"], "r%65f=a", "ref=a"),
        (&["ref"], "REF=a", ""),
    ] {
        let resource = plan(&remote(parameters), &format!("f?{query}")).unwrap();
        assert_eq!(resource.query, want, "{query}");
        let location = if want.is_empty() { "f".to_owned() } else { format!("f?{want}") };
        assert_eq!(resource.location, Location::Below(location), "{query}");
    }
    for query in ["ref=%00", "ref=a%0d%0ab", "ref=%ff", &format!("ref={}", "a".repeat(MAX_QUERY))] {
        let refused = plan(&remote(&["ref"]), &format!("f?{query}"));
        assert!(matches!(refused, Err(PlanError::Query(_))), "{query}");
    }
}

#[test]
fn only_reading_is_possible() {
    for method in [Method::Post, Method::Other] {
        let request = Request { method, raw_path: "f", query: "", accept: "" };
        let refused = Generic.plan(&request, &remote(&[]), &testing::links());
        assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"));
    }
}

#[test]
fn rs_20_malformed_paths_are_refused() {
    assert_eq!(plan(&remote(&[]), "a/../b").unwrap_err(), PathError::Traversal.into());
    assert_eq!(plan(&remote(&[]), "a//b").unwrap_err(), PathError::EmptySegment.into());
}

proptest! {
    #[test]
    fn rs_21_planning_is_total_and_a_key_has_one_meaning(
        path in "[a-z%2eF./+@:!~ ]{0,24}", query in "([ab]=?[a-z%2f&+;=\u{e9}]{0,6}&?){0,4}",
    ) {
        let remote = remote(&["a", "b"]);
        if let Ok(resource) = plan(&remote, &format!("{path}?{query}")) {
            let again = format!("{}?{}", resource.path.encode(), resource.query);
            let again = plan(&remote, &again).unwrap();
            prop_assert_eq!(&again.path, &resource.path);
            prop_assert_eq!(again.query, resource.query);
            prop_assert_eq!(again.location, resource.location);
        }
    }
}
