//! Documents that name one version, as a tag, a branch or `latest` does: it is one that can be had (RS-48).

use artifactapi_model::PackageType;
use artifactapi_tests::{Upstream, fingerprint, http};
use serde_json::{Value, json};

use crate::{
    Stand, chart,
    hidden::{hiding, texts},
};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A tool called `name` in these versions, of which the last one is the latest and the first one is `stable`, with all
/// documents that a registry has of it.
fn stock_tool(upstream: &Upstream, name: &str, mark: &str, versions: &[&str]) {
    let escaped = name.replace('/', "%2f");
    let put = |path: &str, document: &Value| {
        upstream.put_with(path, document.to_string(), &JSON);
    };
    let document = |version: &str| {
        let tarball = format!("{name}/-/tool-{version}.tgz");
        upstream.put(&tarball, chart(mark));
        json!({
            "name": name, "version": version, "description": mark,
            "dist": { "tarball": format!("{}{tarball}", upstream.url()) },
        })
    };
    let tags = json!({ "latest": versions.last(), "stable": versions.first() });
    let mut all = serde_json::Map::new();
    for version in versions {
        let document = document(version);
        put(&format!("{escaped}/{version}"), &document);
        put(&format!("-/npm/v1/attestations/{escaped}@{version}"), &json!({ "attestations": [] }));
        for (tag, _) in tags.as_object().into_iter().flatten().filter(|(_, named)| *named == version) {
            put(&format!("{escaped}/{tag}"), &document);
        }
        all.insert((*version).to_owned(), document);
    }
    put(&format!("-/package/{escaped}/dist-tags"), &tags);
    put(&escaped, &json!({ "name": name, "dist-tags": tags, "versions": all }));
}

#[tokio::test]
async fn rs_48_tags_of_an_owner_and_documents_of_its_versions_name_what_can_be_had() {
    for name in ["tool", "@corp/tool"] {
        let stand = hiding(PackageType::Npm, &json!({ "blocklist": ["tool-2\\.0\\.0"] })).await;
        stock_tool(&stand.first, name, "one", &["1.0.0", "2.0.0"]);
        stock_tool(&stand.second, name, "two", &["1.0.0", "3.0.0"]);
        let escaped = name.replace('/', "%2f");
        let tags = stand.has(&escaped).await.json()["dist-tags"].clone();
        assert_eq!(tags, json!({ "stable": "1.0.0" }));
        let document = stand.has(&format!("-/package/{escaped}/dist-tags")).await;
        assert_eq!((document.json(), document.header("content-type")), (tags, "application/json"));
        // The version, however it is asked for, and its tarball.
        for version in ["1.0.0", "stable"] {
            let got = stand.has(&format!("{escaped}/{version}")).await.json();
            assert_eq!((&got["version"], &got["description"]), (&json!("1.0.0"), &json!("one")));
            let url = texts([&got["dist"]["tarball"]]).remove(0);
            assert_eq!(url, stand.url(&format!("{name}/-/tool-1.0.0.tgz")));
            assert!(http::get(&url).await.body == chart("one"));
        }
        stand.has(&format!("-/npm/v1/attestations/{escaped}@1.0.0")).await;
        for hidden in [
            format!("{escaped}/2.0.0"),
            format!("{escaped}/latest"),
            format!("{escaped}/3.0.0"),
            format!("{escaped}/%5E2.0.0"),
            format!("-/npm/v1/attestations/{escaped}@2.0.0"),
            format!("-/package/{escaped}/dist-tags/latest"),
            format!("{escaped}/2.0.0/"),
            format!("-/npm/v1/attestations/{escaped}@2.0.0/"),
        ] {
            let answer = stand.get(&hidden).await;
            assert_eq!((answer.status, answer.text().lines().count()), (404, 1), "{hidden}: {answer:?}");
            stand.lacks(&hidden).await;
        }
        // Beside the Virtual the member says what it has always said.
        let own = http::get(&format!("{}{escaped}/latest", stand.proxy.remote("first"))).await.json();
        assert_eq!(own["version"], "2.0.0");
        stand.told_nobody();
    }
}

#[tokio::test]
async fn rs_50_documents_of_tags_are_hidden_under_their_own_paths() {
    let stand = hiding(PackageType::Npm, &json!({ "blocklist": ["^-/package/", "^tool/stable$"] })).await;
    stock_tool(&stand.first, "tool", "one", &["1.0.0"]);
    stand.has("tool/latest").await;
    for hidden in ["-/package/tool/dist-tags", "tool/stable"] {
        stand.lacks(hidden).await;
    }
}

#[tokio::test]
async fn a_united_version_has_the_document_of_its_member() {
    let stand = Stand::start(PackageType::Npm, &json!({}), &json!({ "resolution": "union" })).await;
    stock_tool(&stand.first, "tool", "one", &["1.0.0"]);
    stock_tool(&stand.second, "tool", "two", &["1.0.0", "2.0.0"]);
    for (version, mark) in [("1.0.0", "one"), ("latest", "one"), ("2.0.0", "two")] {
        assert_eq!(stand.has(&format!("tool/{version}")).await.json()["description"], mark, "{version}");
    }
    let tags = stand.has("-/package/tool/dist-tags").await.json();
    assert_eq!(tags, json!({ "latest": "1.0.0", "stable": "1.0.0" }), "as in the packument");
    stand.has("-/npm/v1/attestations/tool@2.0.0").await;
    assert_eq!(stand.first.hits("-/npm/v1/attestations/tool@2.0.0"), 0, "it has no such version");
    stand.lacks("tool/3.0.0").await;
}

const MODULE: &str = "example.test/m/@v";
const COMMIT: &str = "v0.0.0-20240101000000-abcdefabcdef";

/// The module `at` in these versions with what it answers `latest`, `master` and `main`.
fn stock_module(upstream: &Upstream, at: &str, versions: &[&str], latest: &str) {
    let info = |version: &str| json!({ "Version": version, "Time": "2024-01-01T00:00:00Z" }).to_string();
    upstream.put(&format!("{at}/list"), versions.join("\n"));
    for version in versions.iter().chain([&COMMIT]) {
        upstream.put(&format!("{at}/{version}.info"), info(version));
        upstream.put(&format!("{at}/{version}.mod"), "module example.test/m\n");
        upstream.put(&format!("{at}/{version}.zip"), "PK of the module");
    }
    upstream.put(&format!("{}@latest", at.trim_end_matches("@v")), info(latest));
    upstream.put(&format!("{at}/master.info"), info(latest));
    upstream.put(&format!("{at}/main.info"), info(COMMIT));
}

#[tokio::test]
async fn rs_48_the_latest_version_of_an_owner_is_one_that_can_be_had() {
    let stand = hiding(PackageType::Goproxy, &json!({ "blocklist": ["@v/v(1\\.10|3)\\..*zip$"] })).await;
    stock_module(&stand.first, MODULE, &["v1.2.0", "v1.9.0", "v1.10.0", "v2.0.0-rc.1"], "v1.10.0");
    stock_module(&stand.first, "example.test/hidden/@v", &["v3.0.0"], "v3.0.0");
    stock_module(&stand.second, MODULE, &["v1.11.0"], "v1.11.0");
    assert_eq!(stand.has("example.test/m/@latest").await.json()["Version"], "v1.9.0", "no preview either");
    assert_eq!(stand.has(&format!("{MODULE}/list")).await.text(), "v1.2.0\nv1.9.0\nv2.0.0-rc.1\n");
    for kind in ["info", "mod", "zip"] {
        stand.has(&format!("{MODULE}/v1.9.0.{kind}")).await;
        // Only its archive is on the list, but a version is had whole.
        let hidden = format!("{MODULE}/v1.10.0.{kind}");
        stand.lacks(&hidden).await;
        assert_eq!(stand.get(&hidden).await.status, 403, "no other source is to be asked for it");
        assert_eq!(stand.get(&format!("{MODULE}/v1.11.0.{kind}")).await.status, 404, "the owner has none");
    }
    // A branch leads to a commit, or to what is hidden.
    assert_eq!(stand.has(&format!("{MODULE}/main.info")).await.json()["Version"], COMMIT);
    stand.has(&format!("{MODULE}/{COMMIT}.info")).await;
    assert_eq!(stand.get(&format!("{MODULE}/master.info")).await.status, 404);
    for kind in ["mod", "zip"] {
        stand.first.put(&format!("{MODULE}/master.{kind}"), "of v1.10.0");
        assert_eq!(stand.get(&format!("{MODULE}/master.{kind}")).await.status, 404, "{kind}");
    }
    // Nothing that could be the latest.
    assert_eq!(stand.get("example.test/hidden/@latest").await.status, 404);
    assert_eq!(stand.has("example.test/hidden/@v/list").await.text(), "");
    stand.told_nobody();
}

#[tokio::test]
async fn rs_48_a_commit_of_an_owner_is_had_whole_or_not_at_all() {
    let policy = json!({ "blocklist": [format!("@v/{COMMIT}\\.mod$")] });
    let stand = hiding(PackageType::Goproxy, &policy).await;
    stock_module(&stand.first, MODULE, &[], COMMIT);
    for path in ["latest", "v/main.info", &format!("v/{COMMIT}.info"), &format!("v/{COMMIT}.zip")] {
        let answer = stand.get(&format!("example.test/m/@{path}")).await;
        assert!(matches!(answer.status, 403 | 404), "{path}: {answer:?}");
    }
    stand.told_nobody();
}

#[tokio::test]
async fn the_latest_of_united_versions_is_the_highest_that_is_listed() {
    let stand = Stand::start(
        PackageType::Goproxy,
        &json!({ "blocklist": ["v1\\.3\\.0"] }),
        &json!({ "resolution": "union" }),
    )
    .await;
    stock_module(&stand.first, MODULE, &["v1.0.0"], "v1.0.0");
    stock_module(&stand.second, MODULE, &["v1.2.0", "v1.3.0"], "v1.3.0");
    assert_eq!(stand.has("example.test/m/@latest").await.json()["Version"], "v1.2.0");
    for kind in ["info", "mod", "zip"] {
        stand.has(&format!("{MODULE}/v1.2.0.{kind}")).await;
        stand.lacks(&format!("{MODULE}/v1.3.0.{kind}")).await;
    }
}

#[tokio::test]
async fn what_nobody_answers_leaves_nothing() {
    let stand = Stand::start(PackageType::Goproxy, &json!({}), &json!({ "resolution": "union" })).await;
    stock_module(&stand.first, MODULE, &["v1.0.0"], "v1.0.0");
    stand.has(&format!("{MODULE}/list")).await;
    stand.has(&format!("{MODULE}/master.info")).await;
    // A generation is a file of its own, beside the database.
    let stored = || fingerprint::of_dir(&stand.proxy.data(), |name| name.starts_with("metadata.db")).unwrap();
    let before = stored();
    assert!(!before.is_empty());
    for query in ["a", "b", "c"] {
        assert_eq!(stand.get(&format!("{MODULE}/{query}.info")).await.status, 404);
    }
    assert_eq!(stored(), before);
}
