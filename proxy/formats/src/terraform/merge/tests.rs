//! Merged versions of a provider, on both faces.

use std::collections::BTreeMap;

use artifactapi_model::PackageType;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    Method,
    merge::{
        merge_of,
        testing::{Echo, Fake, Generation, Table, merged},
    },
};

const REGISTRY: &str = "v1/providers/acme/cloud/versions";
const MIRROR: &str = "reg.test/acme/cloud/index.json";

fn versions(note: &str, versions: &[&str], platforms: &[(&str, &str)]) -> Value {
    let platforms: Vec<_> = platforms.iter().map(|(os, arch)| json!({"os": os, "arch": arch})).collect();
    let of = |version: &&str| json!({"version": version, "protocols": [note], "platforms": platforms});
    json!({"id": note, "warnings": null, "versions": versions.iter().map(of).collect::<Vec<_>>()})
}

fn usual(note: &str, all: &[&str]) -> Value {
    versions(note, all, &[("linux", "amd64"), ("darwin", "arm64")])
}

fn member(name: &str, document: &Value) -> Fake {
    // What the mirror's document says does not matter, only that there is one.
    Fake::new(name, &[(REGISTRY, document.to_string().as_bytes()), (MIRROR, b"{}")])
}

fn merge(path: &str, members: &[Fake], rules: &Table) -> Result<Generation, IndexError> {
    merged(&TerraformMerge, path, members, rules)
}

fn json_of(generation: &Generation, path: &str) -> Value {
    serde_json::from_slice(&generation.files[path]).unwrap()
}

/// Versions and whose they are.
fn found(generation: &Generation) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let document = json_of(generation, REGISTRY);
    let versions = document["versions"].as_array().unwrap();
    versions.iter().map(|it| (text(&it["version"]), text(&it["protocols"][0]))).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(version, note)| ((*version).to_owned(), (*note).to_owned())).collect()
}

#[test]
fn requests_belong_to_the_versions_of_their_provider() {
    let merge = merge_of(PackageType::Terraform).unwrap();
    let download = "v1/providers/acme/cloud/1.0.0/download/linux/amd64";
    let mirror = "reg.test/acme/cloud";
    let zip = "terraform-provider-cloud_1.0.0_linux_amd64.zip";
    for (path, index, canonical, beside) in [
        (REGISTRY, REGISTRY, REGISTRY.to_owned(), None),
        ("v1/providers/Acme/Cloud/versions", REGISTRY, REGISTRY.to_owned(), None),
        (download, REGISTRY, download.to_owned(), None),
        (
            &format!("{download}/SHA256SUMS.sig"),
            REGISTRY,
            format!("{download}/SHA256SUMS.sig"),
            Some(download.to_owned()),
        ),
        ("Reg.test/acme/Cloud/index.json", MIRROR, MIRROR.to_owned(), None),
        ("reg.test/acme/cloud/1.0.0.json", MIRROR, format!("{mirror}/1.0.0.json"), None),
        (
            &format!("{mirror}/1.0.0/download/linux/amd64/{zip}"),
            MIRROR,
            format!("{mirror}/1.0.0/download/linux/amd64/{zip}"),
            Some(format!("{mirror}/1.0.0.json")),
        ),
    ] {
        let request = Request { method: Method::Get, raw_path: path, query: "", accept: "" };
        let asked = merge.asked(&RepoPath::from_canonical(path).unwrap(), &request).unwrap().unwrap();
        let got = (asked.index.as_str(), asked.path.as_str().to_owned(), asked.beside);
        assert_eq!(got, (index, canonical, beside), "{path}");
    }
    for path in [".well-known/terraform.json", "v1/modules/a/b/c/versions", "acme/cloud", ""] {
        assert_eq!(merge.index_of(&RepoPath::from_canonical(path).unwrap()), None, "{path}");
    }
    let package = |path: &str| merge.package(&RepoPath::from_canonical(path).unwrap()).map(str::to_owned);
    assert_eq!(
        (package(REGISTRY), package(MIRROR)),
        (Some("acme/cloud".into()), Some("reg.test/acme/cloud".into()))
    );
}

#[test]
fn versions_are_united_with_their_platforms_and_all_else_is_the_first_member_s() {
    let one = usual("one", &["1.0.0", "1.1.0"]);
    let two = versions(
        "two",
        &["1.1.0", "2.0.0", "bad"],
        &[("linux", "amd64"), ("../..", "x"), ("linux", "amd64")],
    );
    let members = || [Fake::new("zero", &[]), member("one", &one), member("two", &two)];
    let got = merge(REGISTRY, &members(), &Table::default()).unwrap();
    assert_eq!(found(&got), owned(&[("1.0.0", "one"), ("1.1.0", "one"), ("2.0.0", "two")]));
    let document = json_of(&got, REGISTRY);
    assert_eq!((&document["id"], document.get("warnings")), (&json!("one"), Some(&json!(null))));
    assert_eq!(
        document["versions"][2]["platforms"],
        json!([{"os": "linux", "arch": "amd64"}]),
        "each once, and usable"
    );
    let of = |version: &str, platform: &str| format!("v1/providers/acme/cloud/{version}/download/{platform}");
    let want = [
        (of("1.0.0", "darwin/arm64"), 1),
        (of("1.0.0", "linux/amd64"), 1),
        (of("1.1.0", "darwin/arm64"), 1),
        (of("1.1.0", "linux/amd64"), 1),
        (of("2.0.0", "linux/amd64"), 2),
    ];
    assert_eq!(got.listed, want.into());
    let got = merge(MIRROR, &members(), &Table::default()).unwrap();
    assert_eq!(json_of(&got, MIRROR), json!({"versions": {"1.0.0": {}, "1.1.0": {}, "2.0.0": {}}}));
    let want = [("1.0.0", 1), ("1.1.0", 1), ("2.0.0", 2)];
    assert_eq!(
        got.listed,
        want.map(|(version, member)| (format!("reg.test/acme/cloud/{version}.json"), member)).into()
    );
}

#[test]
fn on_the_mirror_face_only_members_of_that_host_count() {
    let mut other = member("other", &usual("other", &["9.0.0"]));
    other.documents.remove(MIRROR);
    let members = [other, member("one", &usual("one", &["1.0.0"]))];
    assert_eq!(
        json_of(&merge(MIRROR, &members, &Table::default()).unwrap(), MIRROR),
        json!({"versions": {"1.0.0": {}}})
    );
    assert_eq!(found(&merge(REGISTRY, &members, &Table::default()).unwrap()).len(), 2);
}

#[test]
fn rs_48_rs_49_rules_hold_for_document_and_list_alike() {
    let documents = [usual("one", &["1.0.0"]), usual("two", &["1.0.0", "2.0.0"])];
    let members = || [member("one", &documents[0]), member("two", &documents[1])];
    for (path, name) in [(REGISTRY, "acme/cloud"), (MIRROR, "reg.test/acme/cloud")] {
        let owners = Table { names_first: false, owners: [(name.to_owned(), 1)].into() };
        let got = merge(path, &members(), &owners).unwrap();
        assert_eq!(got.listed.values().min(), Some(&1), "{path}");
    }
    let first = Table { names_first: true, ..Table::default() };
    assert_eq!(found(&merge(REGISTRY, &members(), &first).unwrap()), owned(&[("1.0.0", "one")]));
    // A platform is hidden with any of its files, and a version with its last platform.
    let of = |version: &str, rest: &str| format!("v1/providers/acme/cloud/{version}/download/{rest}");
    let mut hiding = members();
    hiding[0].hidden.push(of("1.0.0", "linux/amd64/terraform-provider-cloud_1.0.0_linux_amd64.zip"));
    hiding[1].hidden = vec![of("2.0.0", "linux/amd64"), of("2.0.0", "darwin/arm64/SHA256SUMS")];
    let got = merge(REGISTRY, &hiding, &Table::default()).unwrap();
    assert_eq!(found(&got), owned(&[("1.0.0", "one")]));
    assert_eq!(
        json_of(&got, REGISTRY)["versions"][0]["platforms"],
        json!([{"os": "darwin", "arch": "arm64"}])
    );
    assert_eq!(got.listed, [(of("1.0.0", "darwin/arm64"), 0)].into());
    // Clients of a mirror take nothing but archives.
    let mirrored = |version: &str| format!("reg.test/acme/cloud/{version}.json");
    let got = merge(MIRROR, &hiding, &Table::default()).unwrap();
    assert_eq!(got.listed, [(mirrored("1.0.0"), 0), (mirrored("2.0.0"), 1)].into());
    let zip = |version: &str, os: &str, arch: &str| {
        of(version, &format!("{os}/{arch}/terraform-provider-cloud_{version}_{os}_{arch}.zip"))
    };
    hiding[1].hidden.extend([zip("2.0.0", "linux", "amd64"), zip("2.0.0", "darwin", "arm64")]);
    let got = merge(MIRROR, &hiding, &Table::default()).unwrap();
    assert_eq!(got.listed, [(mirrored("1.0.0"), 0)].into());
    hiding[0].hidden.push(zip("1.0.0", "darwin", "arm64"));
    hiding[1].hidden.push(mirrored("1.0.0"));
    assert_eq!(
        merge(MIRROR, &hiding, &Table::default()).unwrap(),
        Generation::default(),
        "no version is left"
    );
}

#[test]
fn rs_63_hostile_documents_end_in_an_error_that_names_the_member() {
    let deep = format!(r#"{{"versions":[{}"#, "[".repeat(100_000));
    for body in [
        "",
        "[]",
        "{}",
        "<html>sign in</html>",
        r#"{"versions":{}}"#,
        r#"{"versions":[],"versions":[]}"#,
        r#"{"versions":["1.0.0"]}"#,
        r#"{"versions":[{"version":1}]}"#,
        r#"{"versions":[{"version":"1.0.0","platforms":{}}]}"#,
        "{\"versions\":[{\"version\":\"1.0.0\",\"x\":\"\n\"}]}",
        "{\"versions\":[],\"id\":\"\n\"}",
        r#"{"versions":[]"#,
        &deep,
    ] {
        let (good, bad) =
            (member("good", &usual("x", &["1.0.0"])), Fake::new("bad", &[(REGISTRY, body.as_bytes())]));
        let members: Vec<&dyn Member> = vec![&good, &bad];
        let path = RepoPath::from_canonical(REGISTRY).unwrap();
        let mut output = Generation::default();
        let inputs = Inputs { index: &path, members: &members, rules: &Table::default(), signer: &Echo };
        let error = TerraformMerge.merge(inputs, &mut output).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("member bad: the index "), "{shown}: {body:.60}");
    }
}

const VERSIONS: [&str; 5] = ["1.0.0", "1.2.0-beta1", "1.10.0", "2.0.0+x", "10.0.0"];

proptest! {
    #[test]
    fn a_merge_is_every_version_once(members in prop::collection::vec(prop::collection::vec(0..VERSIONS.len(), 0..7), 1..4)) {
        let build = || -> Vec<Fake> {
            let of = |(place, versions): (usize, &Vec<usize>)| {
                let versions: Vec<_> = versions.iter().map(|version| VERSIONS[*version]).collect();
                member(&format!("m{place}"), &usual(&format!("m{place}"), &versions))
            };
            members.iter().enumerate().map(of).collect()
        };
        let got = merge(REGISTRY, &build(), &Table::default()).unwrap();
        // The reference: versions in the order of their first mention, each with the member of that.
        let mut want: Vec<(&str, usize)> = Vec::new();
        for (place, versions) in members.iter().enumerate() {
            for version in versions {
                if !want.iter().any(|(known, _)| *known == VERSIONS[*version]) {
                    want.push((VERSIONS[*version], place));
                }
            }
        }
        if want.is_empty() {
            prop_assert_eq!(&got, &Generation::default());
        } else {
            let owners: Vec<_> = want.iter().map(|(version, place)| ((*version).to_owned(), format!("m{place}"))).collect();
            prop_assert_eq!(found(&got), owners);
        }
        let listed: BTreeMap<_, _> = want.iter().flat_map(|(version, place)| {
            ["linux/amd64", "darwin/arm64"].map(|platform| (format!("v1/providers/acme/cloud/{version}/download/{platform}"), *place))
        }).collect();
        prop_assert_eq!(&got.listed, &listed);
        prop_assert_eq!(&merge(REGISTRY, &build(), &Table::default()).unwrap(), &got, "deterministic");
        let twice: Vec<_> = build().into_iter().chain(build()).collect();
        prop_assert_eq!(merge(REGISTRY, &twice, &Table::default()).unwrap(), got, "idempotent");
        // The other face decides the same.
        let mirror = merge(MIRROR, &build(), &Table::default()).unwrap();
        let want: BTreeMap<_, _> = want.iter().map(|(version, place)| (format!("reg.test/acme/cloud/{version}.json"), *place)).collect();
        prop_assert_eq!(mirror.listed, want);
    }
}
