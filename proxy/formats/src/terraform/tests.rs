//! Both faces of a provider registry.

use artifactapi_model::Checksum;
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::{Method, Reach, testing, testing::Document};

const ORIGIN: &str = "https://registry.test/";
const DOWNLOAD_PATH: &str = "v1/providers/acme/cloud/1.2.3/download/linux/amd64";
const ZIP: &str = "terraform-provider-cloud_1.2.3_linux_amd64.zip";

fn remote_at(base_url: &str) -> RemoteSpec {
    testing::remote(PackageType::Terraform, base_url)
}

fn plan(target: &str) -> Result<Resource, PlanError> {
    plan_at(ORIGIN, target)
}

fn plan_at(base_url: &str, target: &str) -> Result<Resource, PlanError> {
    match testing::get(&Terraform, &remote_at(base_url), target, "")? {
        Plan::Serve(resource) => Ok(*resource),
        other => panic!("{other:?}"),
    }
}

#[test]
fn classification() {
    use Mutability::*;
    let file = |name: &str| format!("{DOWNLOAD_PATH}/{name}");
    for (path, mutability, index) in [
        (".well-known/terraform.json".to_owned(), Mutable, None),
        ("v1/providers/acme/cloud/versions".to_owned(), Mutable, Some(DISCOVERY_PATH)),
        (DOWNLOAD_PATH.to_owned(), Mutable, Some(DISCOVERY_PATH)),
        (file(ZIP), Immutable, Some(DOWNLOAD_PATH)),
        (file("SHA256SUMS"), Mutable, Some(DOWNLOAD_PATH)),
        (file("SHA256SUMS.sig"), Mutable, Some(DOWNLOAD_PATH)),
        ("registry.test/acme/cloud/1.2.3.json".to_owned(), Mutable, None),
    ] {
        let resource = plan(&path).unwrap();
        assert_eq!(resource.path.as_str(), path);
        assert_eq!(resource.mutability, mutability, "{path}");
        let want: Vec<_> = index.into_iter().map(|path| (path, IndexUse::Required)).collect();
        let got: Vec<_> = resource.indexes.iter().map(|index| (&*index.path, index.when)).collect();
        assert_eq!(got, want, "{path}");
        if index.is_some() {
            assert_eq!(resource.location, Location::Indexed { fallback: false }, "{path}");
        }
    }
    assert_eq!(plan(DISCOVERY_PATH).unwrap().location, Location::Below(DISCOVERY_PATH.into()));
    assert_eq!(plan("registry.test/acme/cloud/1.2.3.json").unwrap().location, Location::Composed);
    assert_eq!(plan(&file(ZIP)).unwrap().magic, Some(Magic::Zip));
    assert_eq!(plan(&file("SHA256SUMS.sig")).unwrap().fresh_with, Some(file("SHA256SUMS")));
}

#[test]
fn documents_are_application_json_whatever_upstream_says() {
    for path in [
        DISCOVERY_PATH,
        "v1/providers/acme/cloud/versions",
        DOWNLOAD_PATH,
        "registry.test/acme/cloud/index.json",
        "registry.test/acme/cloud/1.2.3.json",
    ] {
        assert_eq!(plan(path).unwrap().content_type, Some("application/json"), "{path}");
    }
}

#[test]
fn rs_21_provider_names_have_one_spelling() {
    for (one, other) in [
        ("v1/providers/Acme/Cloud/versions", "v1/providers/acme/cloud/versions"),
        ("registry.test/ACME/cloud/1.0.0.json", "registry.test/acme/cloud/1.0.0.json"),
        ("Registry.Test/acme/cloud/1.0.0.json", "registry.test/acme/cloud/1.0.0.json"),
    ] {
        assert_eq!(plan(one).unwrap().path.as_str(), other);
    }
    let (registry, mirror) = (
        plan("v1/providers/acme/cloud/versions").unwrap(),
        plan("registry.test/acme/cloud/index.json").unwrap(),
    );
    assert_eq!(registry.path, mirror.path, "one stored document, two forms");
    assert_ne!(registry.representation, mirror.representation);
}

#[test]
fn rs_50_patterns_see_both_faces() {
    for (path, alias) in [
        ("v1/providers/acme/cloud/versions", "registry.test/acme/cloud/index.json"),
        ("registry.test/acme/cloud/index.json", "registry.test/acme/cloud/index.json"),
        (DOWNLOAD_PATH, "registry.test/acme/cloud/1.2.3.json"),
        ("registry.test/acme/cloud/1.2.3.json", "v1/providers/acme/cloud/1.2.3/download"),
        (&format!("{DOWNLOAD_PATH}/{ZIP}"), &format!("registry.test/acme/cloud/{ZIP}")),
    ] {
        assert_eq!(plan(path).unwrap().aliases, [alias], "{path}");
    }
}

#[test]
fn rs_34_the_mirror_knows_its_own_host_only() {
    for (base_url, host) in [
        ("https://registry.test/", "registry.test"),
        ("https://registry.test/prefix/", "registry.test"),
        ("https://registry.test:443/", "registry.test"),
        ("http://127.0.0.1:8443/", "127.0.0.1:8443"),
    ] {
        assert!(plan_at(base_url, &format!("{host}/acme/cloud/index.json")).is_ok(), "{base_url}");
        for other in ["evil.test", "registry.test:8443", "127.0.0.1", "registry.test.", "v1"] {
            for file in ["index.json", "1.0.0.json"] {
                let refused = plan_at(base_url, &format!("{other}/acme/cloud/{file}"));
                assert!(matches!(refused, Err(PlanError::NotFound(_))), "{base_url} {other}");
            }
        }
    }
}

#[test]
fn what_no_protocol_knows_is_not_found() {
    for path in [
        "",
        "v1/providers/acme/cloud",
        "v1/providers/acme/cloud/versions/",
        "v1/providers/acme/-cloud/versions",
        "v1/providers/ac_me/cloud/versions",
        "v1/providers/acme/cloud/v1.2.3/download/linux/amd64",
        "v1/providers/acme/cloud/1.2/download/linux/amd64",
        "v1/providers/acme/cloud/1.2.3/download/linux",
        "v1/providers/acme/cloud/1.2.3/download/Linux/amd64",
        "v1/providers/acme/cloud/1.2.3/download/linux/amd64/readme.txt",
        "v1/providers/acme/cloud/1.2.3/download/linux/amd64/.zip",
        "v1/providers/acme/cloud/1.2.3/download/linux/amd64/a b.zip",
        "v1/providers/acme/cloud/1.2.3/download/linux/amd64/a/b.zip",
        "v1/modules/acme/net/aws/versions",
        "registry.test/acme/cloud/latest.json",
        "registry.test/acme/cloud/1.2.3",
    ] {
        assert!(matches!(plan(path), Err(PlanError::NotFound(_))), "{path}");
    }
    let request = Request { method: Method::Post, raw_path: DISCOVERY_PATH, query: "", accept: "" };
    let refused = Terraform.plan(&request, &remote_at(ORIGIN), &testing::links());
    assert_eq!(refused.unwrap_err(), PlanError::Method("GET, HEAD"));
}

fn document<'d>(path: &'d str, url: &'d str, body: &'d str) -> Document<'d> {
    Document { path, content_type: "", url, body: body.as_bytes() }
}

const DISCOVERED: &str = "https://registry.test/.well-known/terraform.json";

#[test]
fn discovery_leads_to_us_and_tells_us_where_upstream_is() {
    for (body, own, url) in [
        (
            r#"{"modules.v1":"/m/","providers.v1":"/v1/providers/"}"#,
            r#"{"providers.v1":"../v1/providers/"}"#,
            Some("https://registry.test/v1/providers/"),
        ),
        (
            r#"{"providers.v1":"https://api.registry.test/p/"}"#,
            r#"{"providers.v1":"../v1/providers/"}"#,
            Some("https://api.registry.test/p/"),
        ),
        (r#"{"modules.v1":"/m/"}"#, "{}", None),
    ] {
        let document = document(DISCOVERY_PATH, DISCOVERED, body);
        let rewritten = document.rewrite(&Terraform, &remote_at(ORIGIN), DISCOVERY.0).unwrap();
        assert_eq!(rewritten, ("application/json".to_owned(), own.to_owned()));
        let facts = document.facts(&Terraform, &remote_at(ORIGIN)).unwrap();
        let got: Vec<_> = facts.iter().map(|fact| (&*fact.path, fact.reach, fact.url.as_ref())).collect();
        let url = url.map(|url| Url::parse(url).unwrap());
        let want: Vec<_> = url.iter().map(|url| ("v1/providers/", Reach::Prefix, Some(url))).collect();
        assert_eq!(got, want, "{body}");
    }
    // As clients resolve it, below whatever prefix we are mounted at.
    let ours = Url::parse("https://cache.test/api/v1/remote/tf/.well-known/terraform.json").unwrap();
    assert_eq!(
        ours.join("../v1/providers/").unwrap().as_str(),
        "https://cache.test/api/v1/remote/tf/v1/providers/"
    );
}

#[test]
fn rs_26_documents_name_http_urls_or_nothing() {
    for bad in [
        "file:///etc/passwd",
        "gopher://h/",
        "http://registry.test/",
        "https://u:p@registry.test/",
        "https://",
    ] {
        let body = format!(r#"{{"providers.v1":"{bad}"}}"#);
        let document = document(DISCOVERY_PATH, DISCOVERED, &body);
        assert!(document.facts(&Terraform, &remote_at(ORIGIN)).is_err(), "{bad}");
    }
    for bad in ["../x.zip", "a/b.zip", "x.tar", "..zip", ".zip", "a\\u000ab.zip", "a%2fb.zip"] {
        let body = download_document().replace(ZIP, bad);
        let document = document(DOWNLOAD_PATH, DISCOVERED, &body);
        assert!(document.facts(&Terraform, &remote_at(ORIGIN)).is_err(), "{bad}");
        assert!(document.rewrite(&Terraform, &remote_at(ORIGIN), DOWNLOAD.0).is_err(), "{bad}");
    }
}

fn download_document() -> String {
    format!(
        concat!(
            r#"{{"protocols":["5.0"], "os":"linux","arch":"amd64","filename":"{zip}","#,
            r#""download_url":"https://files.test/p/{zip}?X-Signature=1","shasums_url":"../../../sums/S","#,
            r#""shasums_signature_url":"https://files.test/p/S.sig","shasum":"{shasum}","#,
            r#""signing_keys":{{"gpg_public_keys":[{{"key_id":"0A1B","ascii_armor":"-\n-"}}]}},"#,
            r#""packages":{{"linux_amd64":{{"package_size":7}}}}}}"#
        ),
        zip = ZIP,
        shasum = "ab".repeat(32)
    )
}

#[test]
fn a_download_document_gets_stable_paths_that_lead_back_to_it() {
    let body = download_document();
    let url = format!("{ORIGIN}{DOWNLOAD_PATH}");
    let document = document(DOWNLOAD_PATH, &url, &body);
    let (kind, rewritten) = document.rewrite(&Terraform, &remote_at(ORIGIN), DOWNLOAD.0).unwrap();
    assert_eq!(kind, "application/json");
    let old: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut new: serde_json::Value = serde_json::from_str(&rewritten).unwrap();
    let facts = document.facts(&Terraform, &remote_at(ORIGIN)).unwrap();
    let own = Url::parse(&format!("https://cache.test/tf/{DOWNLOAD_PATH}")).unwrap();
    for (member, upstream, checksums) in [
        (
            "download_url",
            &*format!("https://files.test/p/{ZIP}?X-Signature=1"),
            vec![Checksum::Sha256([0xab; 32])],
        ),
        ("shasums_url", "https://registry.test/v1/providers/acme/cloud/sums/S", vec![]),
        ("shasums_signature_url", "https://files.test/p/S.sig", vec![]),
    ] {
        // The path a client asks for, the resource it means, and what the document says about it agree.
        let asked = own.join(new[member].as_str().unwrap()).unwrap();
        let resource = plan(asked.path().strip_prefix("/tf/").unwrap()).unwrap();
        assert_eq!(resource.indexes[0].path, DOWNLOAD_PATH);
        let fact = facts.iter().find(|fact| fact.path == resource.path.as_str()).unwrap();
        assert_eq!(fact.url.as_ref().unwrap().as_str(), upstream);
        assert_eq!(fact.checksums, checksums);
        new[member] = old[member].clone();
    }
    assert_eq!(new, old, "nothing else changes");
    assert!(rewritten.contains(r#""protocols":["5.0"], "os""#), "not even the white space");
}

#[test]
fn rs_09_the_archive_is_held_against_its_documents_shasum_alone() {
    for (shasum, want) in [("ab".repeat(32), 0xab), ("CD".repeat(32), 0xcd)] {
        let body = download_document().replace(&"ab".repeat(32), &shasum);
        let facts = document(DOWNLOAD_PATH, DISCOVERED, &body).facts(&Terraform, &remote_at(ORIGIN)).unwrap();
        for (name, checksums) in
            [(ZIP, vec![Checksum::Sha256([want; 32])]), ("SHA256SUMS", vec![]), ("SHA256SUMS.sig", vec![])]
        {
            let file = plan(&format!("{DOWNLOAD_PATH}/{name}")).unwrap();
            // Required: without the document there is neither a place nor a hash, so nothing is fetched.
            assert_eq!(file.indexes, required(DOWNLOAD_PATH.to_owned()), "{name}");
            let fact = facts.iter().find(|fact| fact.path == file.path.as_str()).unwrap();
            assert_eq!(fact.checksums, checksums, "{name} {shasum}");
        }
    }
}

#[test]
fn rs_63_hostile_documents_are_errors() {
    let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
    let huge = format!(r#"{{"x":"{}"}}"#, "a".repeat(2 << 20));
    let without_hash = download_document().replace(&"ab".repeat(32), "ab");
    for body in ["", "[]", "{}", "<html>", &deep, &huge, &without_hash] {
        let document = document(DOWNLOAD_PATH, DISCOVERED, body);
        assert!(document.facts(&Terraform, &remote_at(ORIGIN)).is_err());
    }
}

const VERSIONS: &str = r#"{"id":"acme/cloud","versions":[
    {"version":"1.2.3","protocols":["5.0"],"platforms":[{"os":"darwin","arch":"arm64"},{"os":"linux","arch":"amd64"},
        {"os":"plan9","arch":"386"},{"os":"../..","arch":"x"}]},
    {"version":"2.0.0-beta1"},{"version":"nonsense"},{"version":"1.0.0","platforms":null}],"warnings":null}"#;

#[test]
fn the_mirror_lists_the_same_versions() {
    let document = document("v1/providers/acme/cloud/versions", DISCOVERED, VERSIONS);
    let (kind, body) = document.rewrite(&Terraform, &remote_at(ORIGIN), MIRROR_INDEX.0).unwrap();
    assert_eq!(kind, "application/json");
    assert_eq!(body, r#"{"versions":{"1.2.3":{},"2.0.0-beta1":{},"1.0.0":{}}}"#);
}

fn compose(version: &str, documents: &[(&str, &str)]) -> Result<Step, IndexError> {
    compose_for(version, documents, &|_| true)
}

/// The same where clients may have only what `permits` says.
fn compose_for(
    version: &str,
    documents: &[(&str, &str)],
    permits: &dyn Fn(&str) -> bool,
) -> Result<Step, IndexError> {
    let resource = plan(&format!("registry.test/acme/cloud/{version}.json")).unwrap();
    let documents =
        documents.iter().map(|(path, body)| ((*path).to_owned(), body.as_bytes().to_vec())).collect();
    Terraform.compose(&resource, &documents, permits)
}

const VERSIONS_PATH: &str = "v1/providers/acme/cloud/versions";

#[test]
fn the_mirror_offers_archives_with_hashes_at_the_registrys_own_paths() {
    let sums_path = format!("{DOWNLOAD_PATH}/SHA256SUMS");
    let need = |paths: &[&str]| Step::Need(paths.iter().map(|&path| path.to_owned()).collect());
    assert_eq!(compose("1.2.3", &[]).unwrap(), need(&[DISCOVERY_PATH, VERSIONS_PATH]));
    let listed = [(DISCOVERY_PATH, "{}"), (VERSIONS_PATH, VERSIONS)];
    assert_eq!(compose("1.2.3", &listed).unwrap(), need(&[DOWNLOAD_PATH, &sums_path]));
    let (one, two) = ("0a".repeat(32), "0b".repeat(32));
    let sums = format!(
        "{one}  {ZIP}\n{}  terraform-provider-cloud_1.2.3_manifest.json\n{two} *{}\n",
        "0c".repeat(32),
        ZIP.replace("linux_amd64", "darwin_arm64"),
    );
    let documents = [listed[0], listed[1], (DOWNLOAD_PATH, "{}"), (&sums_path, &sums)];
    let Step::Done { body, content_type } = compose("1.2.3", &documents).unwrap() else { panic!() };
    assert_eq!(content_type, "application/json");
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let archives = body["archives"].as_object().unwrap();
    assert_eq!(archives.keys().collect::<Vec<_>>(), ["darwin_arm64", "linux_amd64"], "plan9 has no hash");
    assert_eq!(archives["linux_amd64"]["hashes"], serde_json::json!([format!("zh:{one}")]));
    assert_eq!(archives["darwin_arm64"]["hashes"], serde_json::json!([format!("zh:{two}")]));
    let own = Url::parse("https://cache.test/tf/registry.test/acme/cloud/1.2.3.json").unwrap();
    let asked = own.join(archives["linux_amd64"]["url"].as_str().unwrap()).unwrap();
    let archive = plan(asked.path().strip_prefix("/tf/").unwrap()).unwrap();
    assert_eq!(archive.path.as_str(), format!("{DOWNLOAD_PATH}/{ZIP}"));
}

#[test]
fn rs_48_the_mirror_names_no_archive_that_policy_refuses() {
    let sums_path = format!("{DOWNLOAD_PATH}/SHA256SUMS");
    let mac = ZIP.replace("linux_amd64", "darwin_arm64");
    let sums = format!("{}  {ZIP}\n{}  {mac}\n", "0a".repeat(32), "0b".repeat(32));
    let listed = [(DISCOVERY_PATH, "{}"), (VERSIONS_PATH, VERSIONS)];
    let documents = [listed[0], listed[1], (DOWNLOAD_PATH, "{}"), (&sums_path, &sums)];
    let permits = |path: &str| !path.ends_with(&mac);
    let Step::Done { body, .. } = compose_for("1.2.3", &documents, &permits).unwrap() else { panic!() };
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["archives"].as_object().unwrap().keys().collect::<Vec<_>>(), ["linux_amd64"]);
    // Clients of a mirror take nothing but archives.
    let archives = |path: &str| path.ends_with(".zip");
    let Step::Done { body, .. } = compose_for("1.2.3", &documents, &archives).unwrap() else { panic!() };
    assert_eq!(String::from_utf8_lossy(&body).matches(".zip").count(), 2);
    // Of a version of which nothing is left, nothing more is asked.
    let nothing = |path: &str| !path.contains("1.2.3");
    assert_eq!(compose_for("1.2.3", &listed, &nothing).unwrap(), Step::Missing);
}

#[test]
fn what_the_registry_does_not_know_the_mirror_does_not_either() {
    let known = (DISCOVERY_PATH, "{}");
    let versions = (VERSIONS_PATH, VERSIONS);
    assert_eq!(compose("1.2.3", &[known]).unwrap(), Step::Missing, "no such provider");
    assert_eq!(compose("9.9.9", &[known, versions]).unwrap(), Step::Missing, "no such version");
    assert_eq!(compose("1.0.0", &[known, versions]).unwrap(), Step::Missing, "built for nothing");
    let without_sums = [known, versions, (DOWNLOAD_PATH, "{}")];
    assert_eq!(compose("1.2.3", &without_sums).unwrap(), Step::Missing, "nothing to verify by");
}

#[test]
fn rs_09_nothing_is_offered_unverified() {
    let sums_path = format!("{DOWNLOAD_PATH}/SHA256SUMS");
    for sums in ["", "no hash here", "0a  x.zip", &format!("{}  other.zip", "0a".repeat(32)), "<html>\n"] {
        let documents =
            [(DISCOVERY_PATH, "{}"), (VERSIONS_PATH, VERSIONS), (DOWNLOAD_PATH, "{}"), (&sums_path, sums)];
        assert!(compose("1.2.3", &documents).is_err(), "{sums}");
    }
}

proptest! {
    #[test]
    fn rs_21_planning_is_total_and_a_key_has_one_meaning(
        path in "(v1/providers|registry\\.test|evil\\.test)(/([a-zA-C0-9.-]{1,6}|1\\.2\\.3|download|%2e)){2,6}(/versions|/index\\.json|\\.json|\\.zip)?",
        query in "\\PC{0,8}",
    ) {
        if let Ok(resource) = plan(&format!("{path}?{query}")) {
            let again = plan(&resource.path.encode()).unwrap();
            prop_assert_eq!(&again.path, &resource.path);
            prop_assert_eq!(&again.location, &resource.location);
            prop_assert_eq!(&resource.query, "");
            for index in &resource.indexes {
                let planned = plan(&index.path).unwrap();
                prop_assert_eq!(planned.path.as_str(), &index.path);
            }
        }
    }

    #[test]
    fn arbitrary_documents_never_panic(body in "\\PC{0,80}", path in "\\PC{0,40}") {
        let _ = plan(&path);
        for path in [DISCOVERY_PATH, DOWNLOAD_PATH, VERSIONS_PATH] {
            let document = document(path, DISCOVERED, &body);
            let _ = document.facts(&Terraform, &remote_at(ORIGIN));
            let _ = document.rewrite(&Terraform, &remote_at(ORIGIN), MIRROR_INDEX.0);
        }
        let _ = compose("1.2.3", &[(VERSIONS_PATH, &body)]);
    }
}
