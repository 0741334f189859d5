use artifactapi_model::{Checksum, repository::FileHosts};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    Location, Method,
    testing::{self, Document, get, resource},
};

const FLASK: &[u8] = include_bytes!("../../fixtures/pypi/flask.json");
const TORCH: &[u8] = include_bytes!("../../fixtures/pypi/torch.html");
const JSON: &str = "application/vnd.pypi.simple.v1+json";
const HTML: &str = "application/vnd.pypi.simple.v1+html";

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Pypi, "https://up.test/")
}

fn flask(body: &[u8]) -> Document<'_> {
    Document { path: "simple/flask/", content_type: JSON, url: "https://up.test/simple/flask/", body }
}

fn torch(body: &[u8]) -> Document<'_> {
    Document { path: "simple/torch/", content_type: "text/html", url: "https://up.test/simple/torch/", body }
}

fn json_of(document: &Document<'_>) -> Value {
    let (content_type, got) = document.rewrite(&Pypi, &remote(), "json").unwrap();
    assert_eq!(content_type, JSON);
    serde_json::from_str(&got).unwrap()
}

/// The link clients get for a foreign URL on the page at `index`.
fn link(index: &str, url: &str) -> String {
    format!("../../{}", testing::links().link(&remote(), index, &url.parse().unwrap()).unwrap())
}

#[test]
fn rs_21_one_project_has_one_page() {
    let remote = remote();
    for (target, to) in [
        ("simple", "simple/"),
        ("simple/flask", "simple/flask/"),
        ("simple/Flask/", "simple/flask/"),
        ("simple/zope.interface?format=x", "simple/zope-interface/?format=x"),
        ("simple/A__b/", "simple/a-b/"),
        ("root/pypi/+simple/Flask", "root/pypi/+simple/flask/"),
        ("pypi/Flask/json", "pypi/flask/json"),
        ("pypi/Flask/1.0/json", "pypi/flask/1.0/json"),
    ] {
        match get(&Pypi, &remote, target, "") {
            Ok(Plan::Answer(Answer::Moved(found))) => assert_eq!(found, to, "{target}"),
            other => panic!("{target}: {other:?}"),
        }
    }
    for bad in ["simple/a b/", "simple/\u{e4}", "simple/a@b/"] {
        assert!(matches!(get(&Pypi, &remote, bad, ""), Err(PlanError::NotFound(_))), "{bad}");
    }
    let post = Request { method: Method::Post, raw_path: "simple/", query: "", accept: "" };
    assert!(matches!(Pypi.plan(&post, &remote, &testing::links()), Err(PlanError::Method(_))));
}

#[test]
fn pages_and_files_are_told_apart() {
    use Mutability::{Immutable, Mutable};
    for (target, mutability, representation, magic) in [
        ("simple/", Mutable, Some("text"), None),
        ("simple/flask/", Mutable, Some("text"), None),
        ("whl/cpu/torch/", Mutable, Some("text"), None),
        ("whl/torch_stable.html", Mutable, Some("text"), None),
        ("pypi/flask/json", Mutable, Some("api"), Some(Magic::Json)),
        ("pypi/flask/3.0/json", Mutable, Some("api"), Some(Magic::Json)),
        ("packages/a/flask-3.0-py3-none-any.whl", Immutable, None, Some(Magic::Zip)),
        ("packages/a/flask-3.0-py3-none-any.whl.metadata", Immutable, None, None),
        ("packages/a/flask-3.0.tar.gz", Immutable, None, Some(Magic::Gzip)),
        ("packages/a/flask-3.0.tar.gz.asc", Immutable, None, None),
        ("packages/a/flask-3.0.tar.bz2", Immutable, None, None),
        ("integrity/flask/3.0/x/provenance", Mutable, None, None),
    ] {
        let found = resource(&Pypi, &remote(), target, "");
        assert_eq!(found.path.as_str(), target);
        assert_eq!(found.location, Location::Below(target.into()));
        assert_eq!((found.mutability, found.magic), (mutability, magic), "{target}");
        assert_eq!(found.representation.map(|r| r.0), representation, "{target}");
    }
    let wheel = resource(&Pypi, &remote(), "packages/a/Flask-3.0-py3-none-any.whl.metadata", "");
    assert_eq!(wheel.indexes[0], IndexRef::held("simple/flask/".into()));
}

#[test]
fn the_client_gets_the_form_it_prefers_and_upstream_is_always_asked_the_same() {
    let pip =
        "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
    for (query, accept, want) in [
        ("", "", "text"),
        ("", "*/*", "text"),
        ("", pip, "json"),
        ("", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text"),
        ("", "application/vnd.pypi.simple.latest+json", "json"),
        ("", "application/vnd.pypi.simple.latest+html", "html"),
        ("", "application/vnd.pypi.simple.v1+html, application/vnd.pypi.simple.v1+json;q=0.9", "html"),
        ("", "application/vnd.pypi.simple.v1+json, text/html", "json"),
        ("", "application/vnd.pypi.simple.v1+json;q=0, text/html;q=0.1", "text"),
        ("", "application/vnd.pypi.simple.v2+json", "text"),
        ("", "image/png", "text"),
        ("", "application/*", "json"),
        ("format=application/vnd.pypi.simple.v1+json", "text/html", "json"),
        ("a=b&format=application%2Fvnd.pypi.simple.latest%2Bhtml", pip, "html"),
        ("format=text/html", pip, "text"),
    ] {
        let found = resource(&Pypi, &remote(), &format!("simple/flask/?{query}"), accept);
        let form = found.representation.map_or("", |r| r.0);
        // `application/*` covers both forms alike; either is right.
        assert!(form == want || (accept == "application/*" && form == "html"), "{query} {accept}: {form}");
        assert_eq!(found.accept, Some(UPSTREAM_ACCEPT));
        assert_eq!(found.query, "", "rs_22: the form is no part of upstream's key");
    }
    assert!(matches!(get(&Pypi, &remote(), "simple/?format=x", ""), Err(PlanError::Query("format"))));
}

#[test]
fn a_json_page_keeps_what_it_may_and_names_our_files() {
    let got = json_of(&flask(FLASK));
    assert_eq!(got["meta"], json!({"api-version": "1.4", "tracks": ["https://up.test/simple/flask/"]}));
    assert_eq!(got["name"], "flask");
    assert_eq!(got["versions"], json!(["0.1", "3.0.0"]));
    assert_eq!(got["project-status"], json!({"status": "active"}));
    let files = got["files"].as_array().unwrap();
    assert_eq!(files.len(), 3, "file: URLs and names with newlines are left out");
    assert_eq!(
        files[0],
        json!({
            "filename": "flask-3.0.0-py3-none-any.whl",
            "url": link("simple/flask/", "https://files.up.test/packages/36/42/flask-3.0.0-py3-none-any.whl"),
            "hashes": {"sha256": "a".repeat(64)}, "requires-python": ">=3.8,<4", "size": 99724,
            "upload-time": "2023-09-30T14:36:10.961585Z",
            "core-metadata": {"sha256": "c".repeat(64)}, "data-dist-info-metadata": {"sha256": "c".repeat(64)},
        })
    );
    assert_eq!(files[1]["url"], "../../packages/d8/09/flask-3.0.0.tar.gz");
    assert_eq!(files[1]["yanked"], "bad <\"build\">");
    assert_eq!(files[1]["core-metadata"], false);
    assert_eq!((&files[2]["url"], &files[2]["yanked"]), (&json!("../../old/flask-0.1.zip"), &json!(true)));
}

#[test]
fn the_version_claimed_is_one_the_data_lives_up_to() {
    let page = |files: &str, rest: &str| {
        format!("{{\"meta\":{{\"api-version\":\"1.9\"}},\"files\":[{files}]{rest}}}")
    };
    let (sized, bare) = (
        r#"{"filename":"a-1.zip","url":"a-1.zip","hashes":{},"size":1}"#,
        r#"{"filename":"a-2.zip","url":"a-2.zip","hashes":{}}"#,
    );
    for (body, want) in [
        (page(sized, ",\"versions\":[\"1\"]"), "1.4"),
        (page(sized, ""), "1.0"),
        (page(&format!("{sized},{bare}"), ",\"versions\":[]"), "1.0"),
    ] {
        assert_eq!(json_of(&flask(body.as_bytes()))["meta"]["api-version"], want, "{body}");
    }
    assert_eq!(json_of(&torch(TORCH))["meta"]["api-version"], "1.0");
    let next = flask(br#"{"meta":{"api-version":"2.0"},"files":[]}"#);
    assert!(matches!(next.rewrite(&Pypi, &remote(), "json"), Err(IndexError::Malformed(_))));
}

#[test]
fn an_html_page_is_read_leniently_and_resolved_against_its_base() {
    let got = json_of(&torch(TORCH));
    let files = got["files"].as_array().unwrap();
    let names: Vec<_> = files.iter().map(|file| file["filename"].as_str().unwrap()).collect();
    assert_eq!(names, ["torch-2.0.0+cpu-cp311-linux_x86_64.whl", "torch-1.0.tar.gz", "torch-0.9.zip"]);
    assert_eq!(files[0]["url"], "../../whl/cpu/torch-2.0.0+cpu-cp311-linux_x86_64.whl");
    assert_eq!(files[0]["requires-python"], ">=3.8");
    assert_eq!(files[0]["hashes"], json!({"sha256": "a".repeat(64)}));
    assert_eq!(files[0]["core-metadata"], json!({"sha256": "c".repeat(64)}));
    assert_eq!(files[1]["url"], link("simple/torch/", "https://cdn.test/whl/torch-1.0.tar.gz?x=1&y=2"));
    assert_eq!((&files[1]["yanked"], &files[2]["yanked"]), (&json!(true), &json!("why \"so\"")));
    assert_eq!((&files[2]["core-metadata"], &files[2]["gpg-sig"]), (&json!(true), &json!(false)));
    assert_eq!(got["name"], "torch");
}

#[test]
fn html_is_rebuilt_with_both_metadata_attributes_and_the_hash_in_the_fragment() {
    let (content_type, got) = flask(FLASK).rewrite(&Pypi, &remote(), "html").unwrap();
    assert_eq!(content_type, HTML);
    let c = "c".repeat(64);
    assert!(
        got.contains(&format!("data-core-metadata=\"sha256={c}\" data-dist-info-metadata=\"sha256={c}\""))
    );
    assert!(
        got.contains(&format!(
            "<a href=\"../../packages/d8/09/flask-3.0.0.tar.gz#sha256={}\"",
            "b".repeat(64)
        ))
    );
    assert!(got.contains("data-requires-python=\"&gt;=3.8,&lt;4\""));
    assert!(got.contains("data-yanked=\"bad &lt;&quot;build&quot;&gt;\""));
    assert!(got.contains("<meta name=\"pypi:repository-version\" content=\"1.0\">"));
    let (content_type, text) = flask(FLASK).rewrite(&Pypi, &remote(), "text").unwrap();
    assert_eq!((content_type.as_str(), &text), ("text/html; charset=utf-8", &got));
}

#[test]
fn a_list_of_projects_is_read_and_written_in_both_forms() {
    let html = br#"<a href="/simple/0-0-1/">0.0.1</a><a href="zope-interface/">Zope.Interface</a><a href="x/"><b></b></a>"#;
    let json = br#"{"meta":{"api-version":"1.1","_last-serial":7},"projects":[{"name":"0.0.1","_last-serial":1},{"name":"Zope.Interface"},{"name":"x"},{"name":"a/b"}]}"#;
    for (body, content_type, minor) in [(&html[..], "text/html", "1.0"), (&json[..], JSON, "1.1")] {
        let document = Document { path: "simple/", content_type, url: "https://up.test/simple/", body };
        assert_eq!(
            json_of(&document),
            json!({
                "meta": {"api-version": minor},
                "projects": [{"name": "0.0.1"}, {"name": "Zope.Interface"}, {"name": "x"}],
            })
        );
        let (_, got) = document.rewrite(&Pypi, &remote(), "text").unwrap();
        assert!(got.contains("<a href=\"zope-interface/\">Zope.Interface</a>"), "{got}");
    }
}

#[test]
fn a_directory_outside_simple_is_what_its_first_entry_is() {
    let at = |body| Document { path: "whl/cpu/", content_type: "", url: "https://up.test/whl/cpu/", body };
    let list = json_of(&at(b"<a href='torch/'>torch</a><a href='a-1.zip'>a</a>"));
    assert_eq!(list["projects"], json!([{"name": "torch"}]));
    let files = json_of(&at(b" <a href='a-1.zip'>a-1.zip</a><a href='torch/'>torch</a>"));
    assert_eq!(files["files"][0]["url"], "a-1.zip");
}

#[test]
fn rs_09_facts_cover_files_and_their_metadata() {
    let facts = flask(FLASK).facts(&Pypi, &remote()).unwrap();
    let wheel = "https://files.up.test/packages/36/42/flask-3.0.0-py3-none-any.whl";
    assert_eq!(facts.len(), 4);
    assert_eq!(facts[0].url.as_ref().unwrap().as_str(), wheel);
    assert_eq!(facts[0].checksums, [Checksum::Sha256([0xaa; 32]), Checksum::Size(99724)]);
    assert_eq!(facts[1].url.as_ref().unwrap().as_str(), format!("{wheel}.metadata"));
    assert_eq!(facts[1].checksums, [Checksum::Sha256([0xcc; 32])], "its own hash, not the wheel's");
    assert_eq!((facts[2].path.as_str(), &facts[2].url), ("packages/d8/09/flask-3.0.0.tar.gz", &None));
    assert_eq!(facts[2].checksums[0], Checksum::Sha256([0xbb; 32]), "md5 is not asked for beside sha256");
    // The link in the page, and what clients append to it, lead to exactly these paths.
    for (suffix, fact) in [("", &facts[0]), (".metadata", &facts[1])] {
        let target = format!("{}{suffix}", link("simple/flask/", wheel).trim_start_matches("../"));
        let found = resource(&Pypi, &remote(), &target, "");
        assert_eq!(found.path.as_str(), fact.path);
        assert_eq!(found.location, Location::Named(fact.url.clone().unwrap()));
        assert_eq!(found.indexes, [IndexRef::held("simple/flask/".into())]);
        assert_eq!(found.magic, suffix.is_empty().then_some(Magic::Zip));
    }
}

#[test]
fn a_host_outside_file_hosts_keeps_its_url() {
    let mut remote = remote();
    remote.file_hosts = FileHosts::Only(vec!["other.test".into()]);
    let (_, got) = flask(FLASK).rewrite(&Pypi, &remote, "json").unwrap();
    assert!(got.contains("\"https://files.up.test/packages/36/42/flask-3.0.0-py3-none-any.whl\""));
    assert_eq!(flask(FLASK).facts(&Pypi, &remote).unwrap().len(), 2);
}

#[test]
fn the_project_api_gets_absolute_urls() {
    let body = br#"{"info":{"home_page":"https://up.test/packages/x"}, "last_serial":1,
      "releases":{"1.0":[{"url":"https://up.test/packages/a/flask-1.0.zip","digests":{"sha256":"SUM","md5":"x"},"size":3}]},
      "urls":[{"comment":"url","url":"https://files.up.test/f/flask-1.0.zip"}]}"#;
    let body = String::from_utf8_lossy(body).replace("SUM", &"a".repeat(64));
    let document = Document {
        path: "pypi/flask/json",
        content_type: "application/json",
        url: "https://up.test/pypi/flask/json",
        body: body.as_bytes(),
    };
    let (content_type, got) = document.rewrite(&Pypi, &remote(), "api").unwrap();
    let base = testing::base().url();
    let linked = testing::links()
        .link(&remote(), "pypi/flask/json", &"https://files.up.test/f/flask-1.0.zip".parse().unwrap())
        .unwrap();
    let want = body
        .replace("https://up.test/packages/a/", &format!("{base}packages/a/"))
        .replace("https://files.up.test/f/flask-1.0.zip", &format!("{base}{linked}"));
    assert_eq!((content_type.as_str(), got), ("application/json", want));
    let facts = document.facts(&Pypi, &remote()).unwrap();
    assert_eq!(facts[0].checksums, [Checksum::Sha256([0xaa; 32]), Checksum::Size(3)]);
}

#[test]
fn rs_56_markup_in_names_is_text() {
    let body = json!({"files": [
        {"filename": "<script>alert('1')\"-1.zip", "url": "https://up.test/\"><script>-1.zip", "hashes": {"sha256": "\"><b>"}},
        {"filename": "a\u{d}\u{a}b-1.zip", "url": "a", "hashes": {}}, {"filename": "../b-1.zip", "url": "b", "hashes": {}},
    ]}).to_string();
    for body in [body.as_bytes(), b"<a href=\"&quot;&gt;&lt;script&gt;-1.zip\">&lt;script&gt;</a>"] {
        let content_type = if body[0] == b'{' { JSON } else { "text/html" };
        let (_, got) = Document { content_type, ..flask(body) }.rewrite(&Pypi, &remote(), "text").unwrap();
        assert!(!got.contains("<script") && !got.contains("<b>"), "{got}");
        assert_eq!(got.matches("<a ").count(), 1, "{got}");
    }
}

#[test]
fn a_broken_page_is_an_error_not_a_shorter_page() {
    for body in [&b"{\"files\":[{\"filename\":\"a.zip\"}]}"[..], b"{\"files\":[", b"<html></html>", b"{} x"] {
        assert!(flask(body).rewrite(&Pypi, &remote(), "json").is_err());
        assert!(flask(body).facts(&Pypi, &remote()).is_err());
    }
}

fn any_file() -> impl Strategy<Value = Value> {
    let text = || prop_oneof!["[<>&\"' a-z;#=]{0,12}", "\\PC{0,8}"];
    (
        text(),
        "[a-z]{1,3}-[0-9]\\.zip",
        prop::option::of(text()),
        prop::option::of(text()),
        prop::option::of("[0-9a-f]{64}"),
        any::<bool>(),
    )
        .prop_map(|(directory, name, requires, yanked, sha256, foreign)| {
            let mut url =
                url::Url::parse(if foreign { "https://files.test/" } else { "https://up.test/" }).unwrap();
            url.path_segments_mut().unwrap().clear().push(&directory.replace('.', "-")).push(&name);
            let mut file = json!({"filename": name, "url": url.as_str(), "hashes": {}});
            // Empty means the same as absent to every client.
            if let Some(text) = requires.filter(|text| !text.is_empty()) {
                file["requires-python"] = text.into();
            }
            if let Some(text) = yanked.filter(|text| !text.is_empty()) {
                file["yanked"] = text.into();
            }
            if let Some(digits) = sha256 {
                file["hashes"]["sha256"] = digits.clone().into();
                file["core-metadata"]["sha256"] = digits.clone().into();
                file["data-dist-info-metadata"]["sha256"] = digits.into();
            }
            file
        })
}

proptest! {
    #[test]
    fn rs_56_html_reparses_to_the_same_files(files in prop::collection::vec(any_file(), 0..6)) {
        let body = json!({"meta": {"api-version": "1.0"}, "name": "flask", "files": files}).to_string();
        let direct = json_of(&flask(body.as_bytes()));
        let (_, html) = flask(body.as_bytes()).rewrite(&Pypi, &remote(), "html").unwrap();
        prop_assert_eq!(html.matches('<').count(), html.matches('>').count());
        // Our own page, read as if a client like us stood behind us.
        let ours = Document { content_type: HTML, ..flask(html.as_bytes()) };
        let behind = Document { url: "https://up.test/simple/flask/", ..ours };
        let mut again = json_of(&behind);
        prop_assert_eq!(again["files"].as_array().unwrap().len(), files.len());
        for (file, direct) in again["files"].as_array_mut().unwrap().iter_mut().zip(direct["files"].as_array().unwrap()) {
            // A signed link of another system is linked once more; everything else is unchanged.
            if direct["url"].as_str().unwrap().contains("-/x/") { file["url"] = direct["url"].clone(); }
        }
        prop_assert_eq!(again, direct);
    }

    #[test]
    fn rs_21_planning_never_panics_and_one_key_means_one_thing(
        raw in prop_oneof!["\\PC{0,40}", "[a.-]{0,3}/?(simple|pypi)/[Aa._-]{0,4}/?(json|1-a\\.zip)?"],
        query in "\\PC{0,20}",
        accept in "\\PC{0,20}",
    ) {
        if let Ok(Plan::Serve(found)) = get(&Pypi, &remote(), &format!("{raw}?{query}"), &accept) {
            let again = resource(&Pypi, &remote(), &found.path.encode(), &accept);
            prop_assert_eq!(&again.path, &found.path);
            prop_assert_eq!(again.mutability, found.mutability);
        }
    }

    #[test]
    fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..60), json: bool) {
        let content_type = if json { JSON } else { "text/html" };
        let _ = Document { content_type, ..flask(&body) }.rewrite(&Pypi, &remote(), "json");
    }
}
