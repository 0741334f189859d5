use artifactapi_model::Checksum;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    IndexUse,
    testing::{self, Document, get, resource},
};

const BASE: &str = "https://registry.up.test/npm/";
const OURS: &str = "http://cache.test/api/v1/remote/r/";

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Npm, BASE)
}

fn packument<'a>(body: &'a [u8]) -> Document<'a> {
    Document {
        path: "@acme/left",
        content_type: "application/json",
        url: "https://registry.up.test/npm/@acme%2fleft",
        body,
    }
}

const FIXTURE: &[u8] = include_bytes!("../../fixtures/npm/acme-left.json");

#[test]
fn requests_have_their_place() {
    let remote = remote();
    let npm = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";
    for (raw, path, upstream, form) in [
        ("left-pad", "left-pad", "left-pad", Some(ABBREVIATED)),
        ("@acme%2fleft", "@acme/left", "@acme%2fleft", Some(ABBREVIATED)),
        ("@acme%2Fleft", "@acme/left", "@acme%2fleft", Some(ABBREVIATED)),
        ("@acme/left", "@acme/left", "@acme%2fleft", Some(ABBREVIATED)),
        ("left-pad/1.0.0", "left-pad/1.0.0", "left-pad/1.0.0", Some(VERSION)),
        ("@acme%2fleft/latest", "@acme/left/latest", "@acme%2fleft/latest", Some(VERSION)),
        (
            "-/package/@acme%2fleft/dist-tags",
            "-/package/@acme/left/dist-tags",
            "-/package/@acme%2fleft/dist-tags",
            None,
        ),
        ("-/npm/v1/keys", "-/npm/v1/keys", "-/npm/v1/keys", None),
        (
            "-/npm/v1/attestations/@acme%2fleft@1.0.0",
            "-/npm/v1/attestations/@acme/left@1.0.0",
            "-/npm/v1/attestations/@acme%2fleft@1.0.0",
            None,
        ),
    ] {
        let found = resource(&Npm, &remote, raw, npm);
        assert_eq!(found.path.as_str(), path, "{raw}");
        assert_eq!(found.location, Location::Below(upstream.into()), "{raw}");
        assert_eq!(found.representation, form, "{raw}");
        assert_eq!(found.mutability, Mutability::Mutable, "{raw}");
        assert_eq!(found.accept, Some("application/json"), "{raw}");
    }
}

#[test]
fn tarballs_are_immutable_and_known_to_their_packument() {
    for (raw, name) in [
        ("left-pad/-/left-pad-1.0.0.tgz", "left-pad"),
        ("@acme/left/-/left-1.0.0.tgz", "@acme/left"),
        ("@acme%2fleft/-/left-1.0.0.tgz", "@acme/left"),
        ("@acme/left/-/@acme/left-1.0.0.tgz", "@acme/left"),
    ] {
        let found = resource(&Npm, &remote(), raw, "");
        assert_eq!(found.mutability, Mutability::Immutable, "{raw}");
        assert_eq!(found.location, Location::Indexed { fallback: true }, "{raw}");
        assert_eq!(found.magic, Some(Magic::Gzip), "{raw}");
        assert_eq!(found.indexes.len(), 1);
        assert_eq!((found.indexes[0].path.as_str(), found.indexes[0].when), (name, IndexUse::Held), "{raw}");
    }
}

#[test]
fn the_registry_api_is_answered_passed_or_refused() {
    let remote = remote();
    let plan = |method, raw_path, query| {
        Npm.plan(&Request { method, raw_path, query, accept: "" }, &remote, &testing::links())
    };
    assert!(matches!(plan(Method::Get, "-/ping", "write=true"), Ok(Plan::Answer(Answer::Json("{}")))));
    assert!(matches!(plan(Method::Get, "-/whoami", ""), Ok(Plan::Answer(Answer::Nobody))));
    assert!(matches!(plan(Method::Get, "-/v1/search", "text=a%20b&size=20"),
        Ok(Plan::Pass(to)) if to == "-/v1/search?text=a%20b&size=20"));
    for audit in ["-/npm/v1/security/advisories/bulk", "-/npm/v1/security/audits/quick"] {
        assert!(matches!(plan(Method::Post, audit, ""), Ok(Plan::Pass(to)) if to == audit));
        assert!(matches!(plan(Method::Get, audit, ""), Err(PlanError::Method(_))));
    }
    for (method, path) in [(Method::Other, "left-pad"), (Method::Post, "left-pad"), (Method::Other, "-/ping")]
    {
        assert!(matches!(plan(method, path, ""), Err(PlanError::Method(_))), "{path}");
    }
    for path in ["", "@acme", "left-pad/", "-/npm/v1/tokens", "-/npm/v1/user", "-/org/acme/user", "-/"] {
        assert!(matches!(plan(Method::Get, path, ""), Err(PlanError::NotFound(_))), "{path}");
    }
    for path in ["a%2fb", "../x", "left-pad//1"] {
        assert!(matches!(plan(Method::Get, path, ""), Err(PlanError::Path(_))), "{path}");
    }
}

#[test]
fn accept_chooses_the_form() {
    for (accept, want) in [
        ("", FULL),
        ("*/*", FULL),
        ("application/json", FULL),
        ("application/vnd.npm.install-v1+json", ABBREVIATED),
        ("application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*", ABBREVIATED),
        ("application/vnd.npm.install-v1+json; q=0.5, application/json", FULL),
        ("application/vnd.npm.install-v1+json;q=0, application/json;q=0", FULL),
    ] {
        let found = resource(&Npm, &remote(), "left-pad", accept);
        assert_eq!(found.representation, Some(want), "{accept}");
    }
}

#[test]
fn only_tarball_and_attestation_urls_change_in_the_full_form() {
    let (content_type, got) = packument(FIXTURE).rewrite(&Npm, &remote(), "full").unwrap();
    assert_eq!(content_type, "application/json");
    let text = std::str::from_utf8(FIXTURE).unwrap();
    let tarball = |version: &str| format!("{OURS}@acme/left/-/left-{version}.tgz");
    let want = text
        .replacen(r"https:\/\/registry.up.test\/npm\/@acme\/left\/-\/left-1.0.0.tgz", &tarball("1.0.0"), 1)
        .replace("https://cdn.files.test/dl/left?v=1.1.0", &tarball("1.1.0"))
        .replace("/npm/download/@acme/left/1.2.0-rc.1/abc", &tarball("1.2.0-rc.1+b5"))
        .replace(
            "https://registry.up.test/npm/-/npm/v1/attestations/",
            &format!("{OURS}-/npm/v1/attestations/"),
        );
    assert_eq!(got, want);
}

#[test]
fn the_abbreviated_form_has_what_installers_need() {
    let (content_type, got) = packument(FIXTURE).rewrite(&Npm, &remote(), "abbreviated").unwrap();
    assert_eq!(content_type, "application/vnd.npm.install-v1+json");
    let got: Value = serde_json::from_str(&got).unwrap();
    let full: Value = serde_json::from_slice(FIXTURE).unwrap();
    assert_eq!(got["modified"], "2024-02-02T00:00:00.000Z");
    assert_eq!(got["dist-tags"], full["dist-tags"]);
    assert_eq!(got["name"], "@acme/left");
    assert_eq!(got.as_object().unwrap().len(), 4);
    let mut first = full["versions"]["1.0.0"].clone();
    for dropped in ["description", "scripts", "tarball", "_npmUser", "maintainers"] {
        first.as_object_mut().unwrap().remove(dropped);
    }
    first["hasInstallScript"] = json!(true);
    first["dist"]["tarball"] = json!(format!("{OURS}@acme/left/-/left-1.0.0.tgz"));
    assert_eq!(got["versions"]["1.0.0"], first);
    let second = &got["versions"]["1.1.0"];
    assert_eq!(second["hasInstallScript"], false, "what upstream says is kept");
    assert_eq!(second["libc"], json!(["glibc"]));
    assert_eq!(got["versions"]["1.2.0-rc.1+b5"]["deprecated"], "use 1.1");
}

#[test]
fn rs_09_facts_name_checksum_and_url_of_every_tarball() {
    let facts = packument(FIXTURE).facts(&Npm, &remote()).unwrap();
    let seen: Vec<_> =
        facts.iter().map(|fact| (fact.path.as_str(), fact.url.as_ref().map(|url| url.as_str()))).collect();
    assert_eq!(
        seen,
        [
            ("@acme/left/-/left-1.0.0.tgz", None),
            ("@acme/left/-/left-1.1.0.tgz", Some("https://cdn.files.test/dl/left?v=1.1.0")),
            (
                "@acme/left/-/left-1.2.0-rc.1+b5.tgz",
                Some("https://registry.up.test/npm/download/@acme/left/1.2.0-rc.1/abc")
            ),
        ]
    );
    assert!(matches!(facts[0].checksums[..], [Checksum::Sha512(_)]));
    assert!(matches!(facts[1].checksums[..], [Checksum::Sha1(_)]));
}

#[test]
fn a_host_outside_file_hosts_keeps_its_url() {
    let mut remote = remote();
    remote.file_hosts = artifactapi_model::repository::FileHosts::Only(vec!["other.test".into()]);
    let (_, got) = packument(FIXTURE).rewrite(&Npm, &remote, "full").unwrap();
    assert!(got.contains("\"https://cdn.files.test/dl/left?v=1.1.0\""));
    let facts = packument(FIXTURE).facts(&Npm, &remote).unwrap();
    assert_eq!(facts[1].url, None, "we never fetch it");
}

#[test]
fn a_version_document_is_rewritten_by_its_own_version() {
    let full: Value = serde_json::from_slice(FIXTURE).unwrap();
    let body = serde_json::to_vec(&full["versions"]["1.1.0"]).unwrap();
    let document = Document { path: "@acme/left/latest", ..packument(&body) };
    let (_, got) = document.rewrite(&Npm, &remote(), "version").unwrap();
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(got["dist"]["tarball"], format!("{OURS}@acme/left/-/left-1.1.0.tgz"));
    let word = Document { path: "@acme/left/latest", ..packument(b"\"version not found\"") };
    assert_eq!(word.rewrite(&Npm, &remote(), "version").unwrap().1, "\"version not found\"");
}

#[test]
fn rs_26_a_hostile_packument_does_no_harm() {
    let body = br#"{"versions":{
        "../../x":{"dist":{"tarball":"https://up/x.tgz"}}, "a/b":{"dist":{"tarball":"file:///etc/passwd"}},
        "1.0.0":{"dist":{"tarball":"file:///etc/passwd","integrity":7}}, "2":{"dist":[]}, "3":null,
        "4%2f":{"dist":{"tarball":"x"}}}}"#;
    let (_, got) = packument(body).rewrite(&Npm, &remote(), "full").unwrap();
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(got["versions"]["../../x"]["dist"]["tarball"], "https://up/x.tgz");
    assert_eq!(got["versions"]["1.0.0"]["dist"]["tarball"], format!("{OURS}@acme/left/-/left-1.0.0.tgz"));
    let facts = packument(body).facts(&Npm, &remote()).unwrap();
    assert_eq!(facts.len(), 1);
    assert_eq!((facts[0].path.as_str(), &facts[0].url), ("@acme/left/-/left-1.0.0.tgz", &None));
    for bad in [&b"<html>"[..], b"{\"versions\":{\"1\":{", b"", b"{} {}"] {
        for form in ["full", "abbreviated", "version"] {
            assert!(packument(bad).rewrite(&Npm, &remote(), form).is_err());
        }
        assert!(packument(bad).facts(&Npm, &remote()).is_err());
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "tarball|dist|url|versions|[a-z]{0,4}",
        "https://(up|registry).test/[a-z]{0,5}",
        any::<String>()
    ]
}

proptest! {
    #[test]
    fn a_rewrite_changes_only_tarball_urls(
        versions in prop::collection::btree_map("[0-9]{1,2}\\.[0-9]\\.[0-9]", (any_text(), any_text(), any_text()), 0..5),
        readme in any_text(),
        key in any_text(),
        pretty: bool,
    ) {
        let document = |rewritten: bool| {
            let versions: serde_json::Map<_, _> = versions.iter().map(|(version, (tarball, text, key))| {
                let tarball = if rewritten { format!("{OURS}@acme/left/-/left-{version}.tgz") } else { tarball.clone() };
                let mut dist = json!({"x": {"tarball": text}, "shasum": text});
                dist[key] = json!({"dist": {"tarball": text}});
                dist["tarball"] = json!(tarball);
                (version.clone(), json!({"dist": dist, "description": text, "nested": {"dist": {"tarball": text}}}))
            }).collect();
            let mut all = json!({"readme": readme, "x": [{"versions": {"1": {"dist": {"tarball": readme}}}}]});
            all[&key] = json!(readme);
            all["versions"] = Value::Object(versions);
            if pretty { serde_json::to_string_pretty(&all) } else { serde_json::to_string(&all) }.unwrap()
        };
        // A link that is left as it is (a downgrade) or an attestations URL would be another change.
        prop_assume!(versions.values().all(|(tarball, _, key)| !tarball.starts_with("http:") && key != "attestations"));
        let got = packument(document(false).as_bytes()).rewrite(&Npm, &remote(), "full").unwrap().1;
        prop_assert_eq!(got, document(true));
    }

    #[test]
    fn rs_21_planning_never_panics_and_one_key_means_one_thing(
        raw in prop_oneof!["\\PC{0,40}", "[@a%2fF/.1-]{0,16}", "(@[ab](/|%2f|%2F))?[ab](/(-/)?[ab1]){0,2}"],
        accept in "\\PC{0,20}",
    ) {
        if let Ok(Plan::Serve(found)) = get(&Npm, &remote(), &raw, &accept) {
            // The key, sent back as a request, is the same thing.
            let again = resource(&Npm, &remote(), &found.path.encode(), &accept);
            prop_assert_eq!(&again.path, &found.path);
            prop_assert_eq!(again.location, found.location);
            prop_assert_eq!(again.mutability, found.mutability);
        }
    }
}
