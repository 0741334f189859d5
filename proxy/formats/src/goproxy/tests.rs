//! What module proxy paths mean, and what a checksum record says.

use artifactapi_model::Checksum;
use proptest::prelude::*;

use super::*;
use crate::{Location, Method, Reach, testing, testing::Document};

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Goproxy, "https://goproxy.io/")
}

fn plan(target: &str) -> Result<Resource, PlanError> {
    match testing::get(&Goproxy, &remote(), target, "")? {
        Plan::Serve(resource) => Ok(*resource),
        other => panic!("{other:?}"),
    }
}

#[test]
fn classification() {
    use Mutability::*;
    for (path, want) in [
        ("example.org/m/@v/list", Mutable),
        ("example.org/m/@latest", Mutable),
        ("example.org/m/@v/v1.2.3.info", Immutable),
        ("example.org/m/@v/v1.2.3-rc.1.info", Immutable),
        ("example.org/m/@v/v1.2.3-!r!c1.info", Immutable),
        ("example.org/m/@v/v2.0.0+incompatible.info", Immutable),
        ("example.org/m/@v/v0.0.0-20240101000000-abcdef012345.info", Immutable),
        ("example.org/m/@v/v0.0.0-20240101000000-abcdef012345.zip", Immutable),
        ("golang.org/toolchain/@v/v0.0.1-go1.24.0.linux-amd64.zip", Immutable),
        ("example.org/m/@v/v1.2.3.mod", Immutable),
        ("example.org/m/@v/v1.2.3.zip", Immutable),
        ("example.org/m/v2/@v/v2.0.0.zip", Immutable),
        ("example.org/m/@v/master.info", Mutable),
        ("example.org/m/@v/list.info", Mutable),
        ("example.org/m/@v/v1.info", Mutable),
        ("example.org/m/@v/v1.2.info", Mutable),
        ("example.org/m/@v/v1.2.3.4.info", Mutable),
        ("example.org/m/@v/v01.2.3.info", Mutable),
        ("example.org/m/@v/v1.2.3-.info", Mutable),
        ("example.org/m/@v/v1.2.3-01.info", Mutable),
        ("example.org/m/@v/v1.2.3-a..b.info", Mutable),
        ("example.org/m/@v/v1.2.3+meta.info", Mutable),
        ("example.org/m/@v/1.2.3.info", Mutable),
        ("example.org/m/@v/abcdef012345.info", Mutable),
        ("example.org/m/@v/master.mod", Mutable),
        ("sumdb/sum.golang.org/supported", Mutable),
        ("sumdb/sum.golang.org/latest", Mutable),
        ("sumdb/sum.golang.org/lookup/example.org/m@v1.2.3", Mutable),
        ("sumdb/sum.golang.org/tile/8/0/000", Immutable),
        ("sumdb/sum.golang.org/tile/8/0/x123/456.p/255", Immutable),
        ("sumdb/sum.golang.org/tile/8/1/x001/x234/567", Immutable),
        ("sumdb/sum.golang.org/tile/8/data/x123/456", Immutable),
    ] {
        let resource = plan(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(resource.mutability, want, "{path}");
        assert_eq!(resource.location, Location::Below(path.to_owned()), "forwarded as it is: {path}");
    }
}

#[test]
fn rs_21_escapes_are_kept_and_upper_case_is_not_found() {
    let path = "github.com/!burnt!sushi/toml/@v/list";
    assert_eq!(plan(path).unwrap().path.as_str(), path);
    assert_eq!(plan("github.com/!burnt!sushi/toml/%40v/list").unwrap().path.as_str(), path);
    for path in [
        "github.com/BurntSushi/toml/@v/list",
        "github.com/BurntSushi/toml/@latest",
        "github.com/!Burnt/toml/@v/list",
        "github.com/a!/toml/@v/list",
        "github.com/a!!b/toml/@v/list",
        "example.org/m/@v/v1.0.0-RC1.info",
        "example.org/m/@v/v1.0.0!.info",
        "ex\u{e4}mple.org/m/@v/list",
        "example.org/m/@v/v1.0.0.exe",
        "example.org/m/@v/.info",
        "example.org/m/@v/",
        "example.org/m/@v/a/b.info",
        "example.org/m/@v/a@b.info",
        "example.org/m@v1/@v/list",
        "/@v/list",
        "@v/list",
        "@latest",
        "example.org/m",
        "",
    ] {
        let refused = plan(path);
        assert!(matches!(refused, Err(PlanError::NotFound(_) | PlanError::Path(_))), "{path}: {refused:?}");
    }
}

#[test]
fn rs_34_only_databases_and_their_own_paths() {
    for path in [
        "sumdb/sum.golang.org",
        "sumdb/sum.golang.org/",
        "sumdb/sum.golang.org/other",
        "sumdb/SUM.golang.org/supported",
        "sumdb/user@host/supported",
        "sumdb/sum.golang.org/lookup/example.org/m",
        "sumdb/sum.golang.org/lookup/example.org/M@v1.0.0",
        "sumdb/sum.golang.org/lookup/example.org/m@",
        "sumdb/sum.golang.org/lookup/example.org/m@v1@v2",
        "sumdb/sum.golang.org/tile/8/0",
        "sumdb/sum.golang.org/tile/0/0/000",
        "sumdb/sum.golang.org/tile/31/0/000",
        "sumdb/sum.golang.org/tile/8/64/000",
        "sumdb/sum.golang.org/tile/08/0/000",
        "sumdb/sum.golang.org/tile/8/0/1",
        "sumdb/sum.golang.org/tile/8/0/123/456",
        "sumdb/sum.golang.org/tile/8/0/x123",
        "sumdb/sum.golang.org/tile/8/0/000.p/256",
        "sumdb/sum.golang.org/tile/8/0/000.p/0",
        "sumdb/sum.golang.org/tile/8/0/000.p",
        "sumdb/sum.golang.org/tile/8/data/x1/x1/x1/x1/x1/x1/x1/000",
    ] {
        assert!(matches!(plan(path), Err(PlanError::NotFound(_))), "{path}");
    }
    // Another database passes too: it is asked below baseURL, whatever it is called.
    let other = plan("sumdb/sumdb.corp.test/supported").unwrap();
    assert_eq!(other.location, Location::Below("sumdb/sumdb.corp.test/supported".into()));
}

#[test]
fn archives_are_capped_and_known_by_their_first_bytes() {
    let zip = plan("example.org/m/@v/v1.0.0.zip").unwrap();
    assert_eq!((zip.magic, zip.max_size), (Some(Magic::Zip), Some(500 << 20)));
    let info = plan("example.org/m/@v/v1.0.0.info").unwrap();
    assert_eq!(info.magic, Some(Magic::Json));
}

#[test]
fn rs_22_no_query_is_part_of_a_key() {
    let info = plan("example.org/m/@v/v1.0.0.info?disable=1").unwrap();
    assert_eq!((&*info.query, info.location), ("", Location::Below("example.org/m/@v/v1.0.0.info".into())));
}

#[test]
fn only_reading_is_possible() {
    let request = Request { method: Method::Post, raw_path: "m/@v/list", query: "", accept: "" };
    let refused = Goproxy.plan(&request, &remote(), &testing::links());
    assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"));
}

const RECORD: &str = "\
123456
github.com/BurntSushi/toml v1.0.0-RC1 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
github.com/BurntSushi/toml v1.0.0-RC1/go.mod h1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
github.com/BurntSushi/toml v2.0.0 h1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
github.com/other/module v1.0.0-RC1 h1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=

go.sum database tree
987654
github.com/BurntSushi/toml v1.0.0-RC1 h1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=

\u{2014} sum.golang.org AAAA
";

fn facts(path: &str, body: &[u8]) -> Result<Vec<Fact>, IndexError> {
    let url = format!("https://goproxy.io/{path}");
    Document { path, content_type: "text/plain", url: &url, body }.facts(&Goproxy, &remote())
}

#[test]
fn rs_09_a_held_record_is_what_zip_and_mod_are_held_against() {
    let lookup = "sumdb/sum.golang.org/lookup/github.com/!burnt!sushi/toml@v1.0.0-!r!c1";
    let found = facts(lookup, RECORD.as_bytes()).unwrap();
    let known: Vec<_> = found.iter().map(|fact| (&*fact.path, fact.checksums.as_slice())).collect();
    assert_eq!(
        known,
        [
            ("github.com/!burnt!sushi/toml/@v/v1.0.0-!r!c1.zip", &[Checksum::GoZip([0; 32])][..]),
            ("github.com/!burnt!sushi/toml/@v/v1.0.0-!r!c1.mod", &[Checksum::GoMod([1; 32])]),
        ]
    );
    assert!(found.iter().all(|fact| fact.reach == Reach::File && fact.url.is_none()));
    for fact in &found {
        let file = plan(&fact.path).unwrap();
        assert_eq!(file.path.as_str(), fact.path);
        assert_eq!(file.indexes, [IndexRef::held(lookup.into())]);
        assert_eq!(plan(lookup).unwrap().path.as_str(), file.indexes[0].path, "the index has that very key");
    }
}

#[test]
fn records_that_say_nothing_usable_give_no_facts() {
    let lookup = "sumdb/sum.golang.org/lookup/example.org/m@v1.0.0";
    for body in ["", "1\n", "1\nexample.org/m v1.0.0 h2:AAAA\n", "1\nexample.org/m v1.0.0 h1:AA==\n", "\n\n"]
    {
        assert_eq!(facts(lookup, body.as_bytes()).unwrap(), [], "{body:?}");
    }
    assert!(facts(lookup, b"\xff\xfe").is_err());
    assert_eq!(facts("example.org/m/@v/list", RECORD.as_bytes()).unwrap(), []);
}

proptest! {
    #[test]
    fn rs_21_planning_is_total_and_a_key_has_one_meaning(
        path in "(sumdb/)?(([a-zA!.@%4-]|%40){1,8}/){1,3}(@v/|lookup/|tile/8/)?[a-z0-9.@!+-]{0,12}", query in "\\PC{0,8}",
    ) {
        if let Ok(resource) = plan(&format!("{path}?{query}")) {
            let again = plan(&resource.path.encode()).unwrap();
            prop_assert_eq!(&again.path, &resource.path);
            prop_assert_eq!(again.location, resource.location);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(path in "\\PC{0,40}", body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = plan(&path);
        let _ = facts("sumdb/sum.golang.org/lookup/m.org/m@v1.0.0", &body);
    }
}
