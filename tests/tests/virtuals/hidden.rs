//! Where one member owns a name and its policy hides some of what it has: indexes name what can be had, everything that
//! they name can be had, and nobody else is asked (RS-48, RS-49).

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Upstream,
    fixtures::{marked, terraform},
    http::{self, Fetched},
};
use serde_json::{Value, json};

use crate::{Stand, chart};

const JSON_PAGE: &str = "application/vnd.pypi.simple.v1+json";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

pub(crate) async fn hiding(package_type: PackageType, policy: &Value) -> Stand {
    Stand::start(package_type, policy, &json!({})).await
}

impl Stand {
    /// It is there.
    pub(crate) async fn has(&self, path: &str) -> Fetched {
        let answer = self.get(path).await;
        assert!(answer.is_ok(), "{path}: {} {}", answer.status, answer.text());
        answer
    }

    /// Whatever it says, it is no file, and nobody was asked for it.
    pub(crate) async fn lacks(&self, path: &str) {
        let asked = (self.first.hits(path), self.second.requests().len());
        let answer = self.get(path).await;
        assert!(matches!(answer.status, 403 | 404), "{path}: {answer:?}");
        assert_eq!((self.first.hits(path), self.second.requests().len()), asked, "{path} was asked for");
    }

    pub(crate) fn told_nobody(&self) {
        assert_eq!(self.second.requests().len(), 0, "{:?}", self.second.requests());
    }
}

pub(crate) fn texts<'v>(values: impl IntoIterator<Item = &'v Value>) -> Vec<String> {
    values.into_iter().map(|value| value.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn rs_48_an_owner_s_page_names_the_files_that_can_be_had() {
    let stand = hiding(PackageType::Pypi, &json!({ "blocklist": ["packages/marked_thing-1\\.0-"] })).await;
    marked::stock_wheels(&stand.first, &stand.first, "", "one", &["1.0", "2.0"], true);
    marked::stock_wheels(&stand.second, &stand.second, "", "two", &["1.0", "3.0"], true);
    let path = format!("simple/{}/", marked::PROJECT);
    let page = http::request(reqwest::Method::GET, &stand.url(&path), &[("accept", JSON_PAGE)]).await;
    assert!(page.is_ok() && page.header("vary").contains("accept"), "{page:?}");
    let page = page.json();
    assert_eq!(page["versions"], json!(["2.0"]));
    let files = page["files"].as_array().cloned().unwrap_or_default();
    assert_eq!(texts(files.iter().map(|file| &file["filename"])), [marked::wheel_name("2.0")]);
    let got = stand.has(&format!("{path}{}", texts([&files[0]["url"]])[0])).await;
    assert!(got.body == marked::wheel("one", "2.0"));
    let html = stand.has(&path).await.text();
    assert!(
        html.contains(&marked::wheel_name("2.0")) && !html.contains(&marked::wheel_name("1.0")),
        "{html}"
    );
    // Lock files name files as they lie at the member.
    let kept = stand.has(&format!("packages/{}", marked::wheel_name("2.0"))).await;
    assert!(kept.body == marked::wheel("one", "2.0"));
    let hidden = marked::wheel_name("1.0");
    for path in [
        format!("packages/{hidden}"),
        format!("packages/{hidden}.metadata"),
        format!("{path}-/m/first/-/top/packages/{hidden}"),
        format!("{path}-/m/second/-/top/packages/{}", marked::wheel_name("3.0")),
        format!("packages/{}", marked::wheel_name("3.0")),
    ] {
        stand.lacks(&path).await;
    }
    stand.told_nobody();
}

/// A packument of `tool` in these versions with their tarballs.
fn stock_tool(upstream: &Upstream, mark: &str, versions: &[&str]) {
    let version = |version: &&str| {
        let dist = json!({ "tarball": format!("{}tool/-/tool-{version}.tgz", upstream.url()) });
        upstream.put(&format!("tool/-/tool-{version}.tgz"), chart(mark));
        ((*version).to_owned(), json!({ "name": "tool", "version": version, "dist": dist }))
    };
    let latest = versions.last();
    let versions: serde_json::Map<_, _> = versions.iter().map(version).collect();
    let packument = json!({
        "name": "tool", "dist-tags": { "latest": latest, "first": "1.0.0" }, "versions": versions,
    });
    upstream.put_with("tool", packument.to_string(), &JSON);
}

#[tokio::test]
async fn rs_48_an_owner_s_packument_names_the_versions_that_can_be_had() {
    for policy in [
        json!({ "blocklist": ["tool-1\\.0\\.0"] }),
        // Under a list of what is let through the rest is hidden.
        json!({ "patterns": ["^tool$", "tool-2\\."] }),
    ] {
        let stand = hiding(PackageType::Npm, &policy).await;
        stock_tool(&stand.first, "one", &["1.0.0", "2.0.0"]);
        stock_tool(&stand.second, "two", &["1.0.0", "3.0.0"]);
        let packument = stand.has("tool").await.json();
        let versions = packument["versions"].as_object().cloned().unwrap_or_default();
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["2.0.0"], "{policy}");
        assert_eq!(packument["dist-tags"], json!({ "latest": "2.0.0" }), "{policy}");
        let tarball = http::get(&texts([&versions["2.0.0"]["dist"]["tarball"]])[0]).await;
        assert!(tarball.is_ok() && tarball.body == chart("one"), "{tarball:?}");
        for hidden in ["tool/-/tool-1.0.0.tgz", "tool/-/tool-3.0.0.tgz"] {
            let answer = stand.get(hidden).await;
            assert!(matches!(answer.status, 403 | 404), "{hidden}: {answer:?}");
        }
        assert_eq!(stand.first.hits("tool/-/tool-1.0.0.tgz"), 0);
        stand.told_nobody();
    }
}

#[tokio::test]
async fn rs_48_an_owner_all_of_whose_files_are_hidden_keeps_its_names() {
    let stand = hiding(PackageType::Npm, &json!({ "blocklist": ["\\.tgz$"] })).await;
    stock_tool(&stand.first, "one", &["1.0.0"]);
    stock_tool(&stand.second, "two", &["1.0.0"]);
    assert_eq!(stand.get("tool").await.status, 404);
    stand.lacks("tool/-/tool-1.0.0.tgz").await;
    stand.told_nobody();
}

#[tokio::test]
async fn rs_48_an_owner_s_releases_are_those_that_can_be_had() {
    let stand = hiding(PackageType::Puppet, &json!({ "blocklist": ["v3/files/.*-1\\.0\\.0\\.tar"] })).await;
    marked::stock_modules(&stand.first, "", "one", &["1.0.0", "1.1.0"]).await.expect("tar");
    marked::stock_modules(&stand.second, "", "two", &["1.0.0", "2.0.0"]).await.expect("tar");
    let list = stand.has(&format!("v3/releases?module={}&limit=20", marked::MODULE)).await.json();
    let results = list["results"].as_array().cloned().unwrap_or_default();
    assert_eq!(texts(results.iter().map(|release| &release["version"])), ["1.1.0"]);
    assert_eq!(list["pagination"]["total"], 1);
    let file = stand.has(texts([&results[0]["file_uri"]])[0].trim_start_matches('/')).await;
    assert!(file.body == marked::module("one", "1.1.0").await.expect("tar"));
    stand.has(texts([&results[0]["uri"]])[0].trim_start_matches('/')).await;
    let about = stand.has(&format!("v3/modules/{}", marked::MODULE)).await.json();
    assert_eq!(texts(about["releases"].as_array().into_iter().flatten().map(|it| &it["version"])), ["1.1.0"]);
    assert_eq!(about["current_release"]["version"], "1.1.0");
    for hidden in
        ["files/acme-marked-1.0.0.tar.gz", "releases/acme-marked-1.0.0", "files/acme-marked-2.0.0.tar.gz"]
    {
        let answer = stand.get(&format!("v3/{hidden}")).await;
        assert!(matches!(answer.status, 403 | 404), "{hidden}: {answer:?}");
    }
    stand.told_nobody();
}

#[tokio::test]
async fn rs_48_an_owner_s_providers_are_those_that_can_be_had() {
    let stand = hiding(PackageType::Terraform, &json!({ "blocklist": ["_1\\.0\\.0_[^/]*\\.zip$"] })).await;
    for (upstream, mark, versions) in
        [(&stand.first, "one", ["1.0.0", "2.0.0"]), (&stand.second, "two", ["2.0.0", "3.0.0"])]
    {
        let mut releases = Vec::new();
        for version in versions {
            releases.push(terraform::provider_of(mark, version).await.expect("GnuPG"));
        }
        terraform::stock(upstream, upstream, "", &releases);
    }
    let (os, arch) = terraform::platform();
    let provider = format!("{}/{}", terraform::NAMESPACE, terraform::TYPE);
    let registry = format!("{}{provider}", terraform::BASE);
    let listed = stand.has(&format!("{registry}/versions")).await.json();
    assert_eq!(
        texts(listed["versions"].as_array().into_iter().flatten().map(|it| &it["version"])),
        ["2.0.0"]
    );
    let below = format!("{registry}/2.0.0/download/{os}");
    let download = stand.has(&format!("{below}/{arch}")).await.json();
    let archive = stand.has(&format!("{below}/{}", texts([&download["download_url"]])[0])).await;
    assert!(archive.body == terraform::provider_of("one", "2.0.0").await.expect("GnuPG").archive);
    stand.has(&format!("{below}/{}", texts([&download["shasums_url"]])[0])).await;
    // The same on the mirror face of the member's host.
    let mirror = format!("{}/{provider}", stand.first.host());
    let index = stand.has(&format!("{mirror}/index.json")).await.json();
    assert_eq!(index["versions"], json!({ "2.0.0": {} }));
    let version = stand.has(&format!("{mirror}/2.0.0.json")).await.json();
    let url = texts([&version["archives"][format!("{os}_{arch}")]["url"]]).remove(0);
    assert!(stand.has(&format!("{mirror}/{url}")).await.body == archive.body);
    let zip = terraform::archive_name("1.0.0");
    for hidden in [
        format!("{registry}/1.0.0/download/{os}/{arch}"),
        format!("{registry}/1.0.0/download/{os}/{arch}/{zip}"),
        format!("{registry}/3.0.0/download/{os}/{arch}"),
        format!("{mirror}/1.0.0.json"),
        format!("{mirror}/1.0.0/download/{os}/{arch}/{zip}"),
    ] {
        let answer = stand.get(&hidden).await;
        assert!(matches!(answer.status, 403 | 404), "{hidden}: {answer:?}");
    }
    assert!(!stand.first.requests().iter().any(|request| request.target.ends_with(&zip)), "it was fetched");
    stand.told_nobody();
}

#[tokio::test]
async fn rs_48_a_remote_s_own_mirror_names_no_archive_that_it_refuses() {
    let stand = hiding(PackageType::Terraform, &json!({ "blocklist": ["_1\\.0\\.0_[^/]*\\.zip$"] })).await;
    let releases = [
        terraform::provider_of("one", "1.0.0").await.expect("GnuPG"),
        terraform::provider_of("one", "2.0.0").await.expect("GnuPG"),
    ];
    terraform::stock(&stand.first, &stand.first, "", &releases);
    let mirror = format!(
        "{}{}/{}/{}",
        stand.proxy.remote("first"),
        stand.first.host(),
        terraform::NAMESPACE,
        terraform::TYPE
    );
    assert_eq!(http::get(&format!("{mirror}/1.0.0.json")).await.status, 404);
    assert!(http::get(&format!("{mirror}/2.0.0.json")).await.is_ok());
}

#[tokio::test]
async fn rs_48_an_owner_s_versions_are_those_that_can_be_had() {
    let stand = hiding(PackageType::Goproxy, &json!({ "blocklist": ["@v/v1\\.0\\.0\\.zip$"] })).await;
    let module = "example.test/m/@v";
    for (upstream, versions) in [(&stand.first, ["v1.0.0", "v1.1.0"]), (&stand.second, ["v1.0.0", "v1.2.0"])]
    {
        upstream.put(&format!("{module}/list"), versions.join("\n"));
        for version in versions {
            upstream.put(&format!("{module}/{version}.info"), json!({ "Version": version }).to_string());
        }
    }
    assert_eq!(stand.has(&format!("{module}/list")).await.text(), "v1.1.0\n");
    stand.has(&format!("{module}/v1.1.0.info")).await;
    for hidden in ["v1.0.0.zip", "v1.2.0.info"] {
        let answer = stand.get(&format!("{module}/{hidden}")).await;
        assert!(matches!(answer.status, 403 | 404), "{hidden}: {answer:?}");
    }
    // What is in no list is still the owner's.
    let commit = "v0.0.0-20240101000000-abcdefabcdef";
    stand.first.put(&format!("{module}/{commit}.info"), json!({ "Version": commit }).to_string());
    stand.has(&format!("{module}/{commit}.info")).await;
    stand.told_nobody();
}
