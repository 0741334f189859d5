//! `resolution: union` for pypi, puppet and terraform: what is listed can be had, from the member that listed it, and
//! nothing else can.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    fixtures::{marked, terraform},
    http::{self, Fetched},
};
use serde_json::{Value, json};

use crate::Stand;

const JSON_PAGE: &str = "application/vnd.pypi.simple.v1+json";

async fn united(package_type: PackageType, remotes: &Value) -> Stand {
    Stand::start(package_type, remotes, &json!({ "resolution": "union" })).await
}

async fn wheels(remotes: &Value) -> Stand {
    let stand = united(PackageType::Pypi, remotes).await;
    marked::stock_wheels(&stand.first, &stand.first, "", "one", &["1.0", "2.0"], true);
    marked::stock_wheels(&stand.second, &stand.second, "", "two", &["2.0", "3.0"], false);
    stand
}

impl Stand {
    async fn page(&self, path: &str, accept: &str) -> Fetched {
        http::request(reqwest::Method::GET, &self.url(path), &[("accept", accept)]).await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn united_pages_have_the_files_of_all_members() {
    let stand = wheels(&json!({})).await;
    let page = format!("simple/{}/", marked::PROJECT);
    let merged = stand.page(&page, JSON_PAGE).await;
    assert!(merged.is_ok(), "{merged:?}");
    assert_eq!(
        (merged.header("content-type"), merged.header("vary").starts_with("accept, ")),
        (JSON_PAGE, true)
    );
    let merged = merged.json();
    // The second member's page is HTML, which says neither sizes nor versions.
    assert_eq!((&merged["meta"]["api-version"], merged.get("versions")), (&json!("1.0"), None));
    let files = merged["files"].as_array().cloned().unwrap_or_default();
    for ((version, mark), file) in [("1.0", "one"), ("2.0", "one"), ("3.0", "two")].into_iter().zip(&files) {
        assert_eq!(text(&file["filename"]), marked::wheel_name(version));
        let url = format!("{page}{}", text(&file["url"]));
        let got = stand.get(&url).await;
        assert!(got.is_ok() && got.body == marked::wheel(mark, version), "{url}: {got:?}");
        let metadata = stand.get(&format!("{url}.metadata")).await;
        assert_eq!(metadata.is_ok(), mark == "one", "as far as the page says: {metadata:?}");
    }
    assert_eq!(files.len(), 3);
    let html = stand.page(&page, "text/html").await;
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    assert!(files.iter().all(|file| html.text().contains(&text(&file["url"]))), "{}", html.text());
    // What lost, and what no page names, is not to be had.
    let name = marked::wheel_name("2.0");
    for hidden in [
        format!("{page}-/m/second/-/top/packages/{name}"),
        format!("packages/{name}"),
        format!("packages/{}", marked::wheel_name("3.0")),
        format!("pypi/{}/json", marked::PROJECT),
        format!("{page}-/m/first/-/top/simple/{}/", marked::PROJECT),
    ] {
        assert_eq!(stand.get(&hidden).await.status, 404, "{hidden}");
    }
    assert_eq!(stand.second.hits(&format!("packages/{name}")), 0);
    let moved = stand.get("simple/Marked.Thing/").await;
    assert_eq!((moved.status, moved.header("location").ends_with(&page)), (301, true), "{moved:?}");
}

#[tokio::test]
async fn what_policy_hides_is_neither_on_a_united_page_nor_downloadable() {
    let stand = wheels(&json!({ "blocklist": ["packages/marked_thing-(1|3)\\.0-"] })).await;
    let page = format!("simple/{}/", marked::PROJECT);
    let merged = stand.page(&page, JSON_PAGE).await.json();
    let files = merged["files"].as_array().cloned().unwrap_or_default();
    assert_eq!(files.len(), 1, "{merged}");
    for (member, version) in [("first", "1.0"), ("second", "3.0")] {
        let path = format!("{page}-/m/{member}/-/top/packages/{}", marked::wheel_name(version));
        assert_eq!(stand.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn rs_50_a_linked_file_is_hidden_under_its_own_name_as_well() {
    // Files on another host travel as signed links, which say nothing of their path there.
    let stand = united(PackageType::Pypi, &json!({ "blocklist": ["^packages/marked_thing-1"] })).await;
    let files = artifactapi_tests::Upstream::start().await;
    marked::stock_wheels(&stand.first, &files, "", "one", &["1.0", "2.0"], true);
    let page = format!("simple/{}/", marked::PROJECT);
    let merged = stand.page(&page, JSON_PAGE).await.json();
    let names: Vec<_> =
        merged["files"].as_array().into_iter().flatten().map(|file| text(&file["filename"])).collect();
    assert_eq!(names, [marked::wheel_name("2.0")]);
    assert_eq!(merged["versions"], json!(["2.0"]));
    let url = format!("{page}{}", text(&merged["files"][0]["url"]));
    assert!(url.contains("/-/x/"), "{url}");
    let got = stand.get(&url).await;
    assert!(got.is_ok() && got.body == marked::wheel("one", "2.0"), "{got:?}");
    // The same link, past the page that names it.
    let (_, link) = url.split_once("-/top/").unwrap_or_default();
    assert_eq!(stand.get(link).await.status, 404);
}

#[tokio::test]
async fn rs_49_united_pages_ask_only_those_who_may_have_the_project() {
    let reserved = json!({
        "resolution": "union", "reserved": [{ "member": "first", "patterns": ["corp-.*"] }]
    });
    let stand =
        Stand::start(PackageType::Pypi, &json!({ "patterns": ["corp-", "marked", "simple/$"] }), &reserved)
            .await;
    for upstream in [&stand.first, &stand.second] {
        marked::stock_wheels(upstream, upstream, "", "x", &["1.0"], true);
        let list = json!({ "meta": { "api-version": "1.0" }, "projects": [{ "name": "corp-a" }, { "name": "marked-thing" }] });
        upstream.put_with("simple/", list.to_string(), &[("content-type", JSON_PAGE)]);
    }
    for path in ["simple/corp-a/", "simple/corp-a/-/m/second/-/top/packages/corp_a-1.0.zip"] {
        assert_eq!(stand.page(path, JSON_PAGE).await.status, 404, "{path}");
    }
    // Whose patterns leave a name out has nothing of it.
    assert_eq!(stand.page("simple/other/", JSON_PAGE).await.status, 404);
    assert_eq!(stand.second.requests().len(), 0, "{:?}", stand.second.requests());
    assert_eq!(stand.first.hits("simple/other/"), 0);
    let list = stand.page("simple/", JSON_PAGE).await.json();
    assert_eq!(list["projects"].as_array().map(Vec::len), Some(2), "{list}");
}

#[tokio::test]
async fn united_releases_are_one_page_newest_first() {
    let stand = united(PackageType::Puppet, &json!({})).await;
    for (upstream, mark, versions) in
        [(&stand.first, "one", ["1.0.0", "1.10.0"]), (&stand.second, "two", ["1.10.0", "1.9.0"])]
    {
        marked::stock_modules(upstream, "", mark, &versions).await.expect("tar");
    }
    let list = format!("v3/releases?module={}&limit=1&exclude_fields=readme", marked::MODULE);
    let merged = stand.get(&list).await;
    assert!(merged.is_ok(), "{merged:?}");
    let merged = merged.json();
    assert_eq!((&merged["pagination"]["total"], &merged["pagination"]["next"]), (&json!(3), &json!(null)));
    let releases = merged["results"].as_array().cloned().unwrap_or_default();
    for ((version, mark), release) in
        [("1.10.0", "one"), ("1.9.0", "two"), ("1.0.0", "one")].into_iter().zip(&releases)
    {
        assert_eq!(text(&release["version"]), version);
        let file = stand.get(text(&release["file_uri"]).trim_start_matches('/')).await;
        let want = marked::module(mark, version).await.expect("tar");
        assert!(file.is_ok() && file.body == want, "{version}: {file:?}");
        let one = stand.get(text(&release["uri"]).trim_start_matches('/')).await;
        assert_eq!(one.json()["file_sha256"], release["file_sha256"], "{one:?}");
    }
    let about = stand.get(&format!("v3/modules/{}", marked::MODULE)).await.json();
    assert_eq!(
        (&about["homepage_url"], &about["current_release"]["version"]),
        (&json!("one"), &json!("1.10.0"))
    );
    assert_eq!(about["releases"].as_array().map(Vec::len), Some(3));
    let rest = stand.get(&format!("{list}&offset=3")).await.json();
    assert_eq!(rest["results"], json!([]));
    for path in [
        format!("v3/files/{}-9.0.0.tar.gz", marked::MODULE),
        format!("v3/releases?module={}&only_latest=true", marked::MODULE),
        "v3/modules?query=marked".to_owned(),
    ] {
        assert_eq!(stand.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_module_that_patterns_leave_out_is_not_asked_for() {
    let stand = united(PackageType::Puppet, &json!({ "patterns": ["^v3/releases$", "-open"] })).await;
    assert_eq!(stand.get("v3/releases?module=corp-secret").await.status, 404);
    assert_eq!(stand.get("v3/files/corp-secret-1.0.0.tar.gz").await.status, 404);
    assert_eq!((stand.first.requests().len(), stand.second.requests().len()), (0, 0));
}

#[tokio::test]
async fn united_providers_have_the_versions_of_all_members() {
    let stand = united(PackageType::Terraform, &json!({})).await;
    for (upstream, mark, versions) in
        [(&stand.first, "one", ["1.0.0", "2.0.0"]), (&stand.second, "two", ["2.0.0", "3.0.0"])]
    {
        let mut releases = Vec::new();
        for version in versions {
            releases.push(terraform::provider_of(mark, version).await.expect("GnuPG"));
        }
        terraform::stock(upstream, upstream, "", &releases);
    }
    let provider = format!("{}{}/{}", terraform::BASE, terraform::NAMESPACE, terraform::TYPE);
    let merged = stand.get(&format!("{provider}/versions")).await;
    assert!(merged.is_ok(), "{merged:?}");
    let merged = merged.json();
    let versions: Vec<_> =
        merged["versions"].as_array().into_iter().flatten().map(|it| text(&it["version"])).collect();
    assert_eq!(versions, ["1.0.0", "2.0.0", "3.0.0"]);
    let (os, arch) = terraform::platform();
    for (version, mark) in [("1.0.0", "one"), ("2.0.0", "one"), ("3.0.0", "two")] {
        let below = format!("{provider}/{version}/download/{os}");
        let download = stand.get(&format!("{below}/{arch}")).await;
        assert!(download.is_ok(), "{version}: {download:?}");
        let archive = stand.get(&format!("{below}/{}", text(&download.json()["download_url"]))).await;
        let want = terraform::provider_of(mark, version).await.expect("GnuPG");
        assert!(archive.is_ok() && archive.body == want.archive, "{version}: {archive:?}");
        let sums = stand.get(&format!("{below}/{}", text(&download.json()["shasums_url"]))).await;
        assert_eq!(sums.body, want.sums, "{version}");
    }
    // Each on its own host's mirror.
    for (upstream, versions) in [(&stand.first, ["1.0.0", "2.0.0"]), (&stand.second, ["2.0.0", "3.0.0"])] {
        let mirror = format!("{}/{}/{}", upstream.host(), terraform::NAMESPACE, terraform::TYPE);
        let index = stand.get(&format!("{mirror}/index.json")).await.json();
        assert_eq!(
            index["versions"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>()),
            Some(versions.map(str::to_owned).to_vec())
        );
        let version = stand.get(&format!("{mirror}/{}.json", versions[1])).await;
        let url = text(&version.json()["archives"][format!("{os}_{arch}")]["url"]);
        let archive = stand.get(&format!("{mirror}/{url}")).await;
        assert!(archive.is_ok(), "{url}: {archive:?}");
    }
    for path in
        [format!("{provider}/9.0.0/download/{os}/{arch}"), "elsewhere.test/acme/widget/index.json".to_owned()]
    {
        assert_eq!(stand.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn rs_63_a_hostile_member_is_named_and_disturbs_nobody() {
    for (package_type, asked, served, kind) in [
        (PackageType::Pypi, "simple/x/", "simple/x/", JSON_PAGE),
        (PackageType::Puppet, "v3/releases?module=a-x", "v3/releases", "application/json"),
    ] {
        let stand = united(package_type, &json!({})).await;
        stand.first.put_with(served, r#"{"results":[],"files":[]}"#, &[("content-type", kind)]);
        for bomb in [
            format!("{{\"files\":{0},\"results\":{0}", "[".repeat(100_000)),
            "{\"files\":[1],\"results\":[1]}".to_owned(),
        ] {
            stand.second.put_with(served, bomb, &[("content-type", kind)]);
            let refused = stand.get(asked).await;
            assert_eq!(refused.status, 502, "{package_type}: {refused:?}");
            assert!(refused.text().contains("second"), "{}", refused.text());
            let direct = http::get(&format!("{}{asked}", stand.proxy.remote("first"))).await;
            assert!(direct.is_ok(), "{direct:?}");
        }
    }
}
