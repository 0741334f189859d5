use artifactapi_model::{Checksum, repository::FileHosts};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{layout::Stop, *};
use crate::{
    Location, Method,
    testing::{self, Document, get, resource},
};

const INDEX_YAML: &[u8] = include_bytes!("../../fixtures/helm/index.yaml");

fn remote() -> RemoteSpec {
    testing::remote(PackageType::Helm, "https://charts.up.test/stable/")
}

fn index(body: &[u8]) -> Document<'_> {
    Document {
        path: "index.yaml",
        content_type: "text/yaml",
        url: "https://charts.up.test/stable/index.yaml",
        body,
    }
}

fn json_of(document: &Document<'_>) -> Value {
    let (content_type, got) = document.rewrite(&Helm, &remote(), "index").unwrap();
    assert_eq!(content_type, "application/json");
    serde_json::from_str(&got).unwrap()
}

fn link(url: &str) -> String {
    testing::links().link(&remote(), "index.yaml", &url.parse().unwrap()).unwrap()
}

fn by_layout(text: &[u8]) -> Result<Vec<Piece>, Stop> {
    let mut pieces = Vec::new();
    layout::index(&mut &*text, &mut |piece| {
        pieces.push(piece);
        Ok(())
    })?;
    Ok(pieces)
}

/// Pieces with the top-level fields in front, sorted: their order means nothing.
fn sorted(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_by_key(|piece| match piece {
        Piece::Field(key, _) => (0, key.clone()),
        Piece::Chart(_) | Piece::Entry(_) => (1, String::new()),
    });
    pieces
}

fn by_parser(text: &[u8]) -> Result<Vec<Piece>, IndexError> {
    let mut pieces = Vec::new();
    yaml::index(text, &mut |piece| {
        pieces.push(piece);
        Ok(())
    })?;
    Ok(pieces)
}

#[test]
fn indexes_and_charts_are_told_apart() {
    use Mutability::{Immutable, Mutable};
    for (path, mutability, representation, magic) in [
        ("index.yaml", Mutable, Some(INDEX), None),
        ("sub/index.yaml", Mutable, Some(INDEX), None),
        ("index.json", Mutable, None, None),
        ("artifacthub-repo.yml", Mutable, None, None),
        ("key.pub", Mutable, None, None),
        ("charts/a-1.0.0+b.tgz", Immutable, None, Some(Magic::Gzip)),
        ("charts/a-1.0.0.tgz.prov", Immutable, None, None),
    ] {
        let found = resource(&Helm, &remote(), path, "");
        assert_eq!(
            (found.mutability, found.representation, found.magic),
            (mutability, representation, magic),
            "{path}"
        );
        assert_eq!(found.location, Location::Below(path.into()));
    }
    let chart = resource(&Helm, &remote(), "x/charts/a.tgz", "");
    assert_eq!(
        chart.indexes,
        ["x/charts/index.yaml", "x/index.yaml", "index.yaml"].map(|i| IndexRef::held(i.into()))
    );
    let put = Request { method: Method::Other, raw_path: "a.tgz", query: "", accept: "" };
    assert!(matches!(Helm.plan(&put, &remote(), &testing::links()), Err(PlanError::Method(_))));
}

#[test]
fn chart_urls_become_ours_and_everything_else_stays() {
    assert!(by_layout(INDEX_YAML).is_ok(), "Go's layout takes the quick way");
    let got = json_of(&index(INDEX_YAML));
    let urls = |chart: &str| -> Vec<String> {
        let versions = got["entries"][chart].as_array().unwrap();
        versions.iter().map(|v| v["urls"][0].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(
        urls("ingress"),
        [
            "charts/ingress-1.10.0+b1.tgz".to_owned(),
            "charts/ingress-1.9.tgz".to_owned(),
            "old/ingress-1.8.0.tgz".to_owned(),
            // Above `baseURL`: no path of ours leads there.
            link("https://charts.up.test/shared/ingress-1.7.0.tgz"),
        ]
    );
    assert_eq!(
        urls("others"),
        [
            link("https://github.test/o/others/releases/download/v1/others-1.0.0.tgz"),
            "oci://registry.test/charts/others:0.9.0".to_owned(),
            link("https://charts.up.test/stable/get/others-0.8.0.tgz?token=t&x=1"),
            String::new(),
        ],
        "rs_26: the file: entry is gone"
    );
    let text = got.to_string();
    assert!(!text.contains('?') && text.matches("#").count() == 1, "no query or fragment in a chart URL");
    let first = &got["entries"]["ingress"][0];
    assert_eq!(
        first["annotations"]["artifacthub.io/changes"],
        "- kind: added\n  description: \"a thing: with colon\"\n\n- kind: fixed\n"
    );
    assert_eq!(
        first["description"],
        "A chart whose description is long enough to be wrapped by the writer of \
        the file, and it's \"quoted\" - somewhere"
    );
    assert_eq!(
        first["dependencies"],
        json!([{"condition": "redis.enabled", "enabled": true,
        "import-values": [{"child": "a", "parent": "b"}, "data"], "name": "redis",
        "repository": "oci://registry.test/charts", "tags": ["cache"], "version": "1.x.x"}])
    );
    assert_eq!(
        (&first["deprecated"], &first["icon"], &first["keywords"]),
        (&json!(true), &Value::Null, &json!([]))
    );
    assert_eq!(first["maintainers"], json!([{"email": "a@b.test", "name": "it's me"}]));
    assert_eq!(first["digest"], "a".repeat(64));
    let second = &got["entries"]["ingress"][1];
    assert_eq!(second["description"], "line one\nline two \u{e9} continued, with a \"quote\"");
    assert_eq!(second["digest"], format!("sha256:{}", "b".repeat(64)));
    assert_eq!(
        (&second["appVersion"], &second["version"]),
        (&json!("1.10"), &json!("1.90")),
        "texts, not numbers"
    );
    assert_eq!(second["created"], "2023-01-01T00:00:00Z");
    assert_eq!((&got["apiVersion"], &got["generated"]), (&json!("v1"), &json!("2024-03-01T10:00:01Z")));
    assert_eq!(
        (&got["serverInfo"], &got["entries"]["nothing"]),
        (&json!({"contextPath": "/v1"}), &json!([]))
    );
}

#[test]
fn an_index_in_a_directory_has_urls_relative_to_it() {
    let body = b"apiVersion: v1\nentries:\n  a:\n  - urls:\n    - a-1.tgz\n  - urls:\n    - ../b/a-2.tgz\n  - urls:\n    - /stable/a-3.tgz\n";
    // Helm joins relative URLs to the configured repository, not to where a redirect led.
    let document = Document { path: "sub/index.yaml", url: "https://cdn.test/z/index.yaml", ..index(body) };
    let got = json_of(&document);
    let urls: Vec<_> = got["entries"]["a"].as_array().unwrap().iter().map(|v| v["urls"][0].clone()).collect();
    assert_eq!(urls, ["a-1.tgz", "../b/a-2.tgz", "../a-3.tgz"]);
}

#[test]
fn every_form_of_an_index_gives_the_same_document() {
    let want = json_of(&index(INDEX_YAML));
    let pieces = by_parser(INDEX_YAML).unwrap();
    assert_eq!(sorted(by_layout(INDEX_YAML).unwrap()), sorted(pieces));
    // The same with another layout: four columns, comments, a document marker.
    let text = std::str::from_utf8(INDEX_YAML).unwrap();
    let wide: String = text
        .lines()
        .map(|line| format!("{}{line}\n", " ".repeat(line.len() - line.trim_start().len())))
        .collect();
    let wide = format!("# generated\n---\n{}", wide.replace("\n  ingress", "\n  # a chart\n  ingress"));
    assert!(matches!(by_layout(wide.as_bytes()), Err(Stop::Misfit)));
    assert_eq!(
        json_of(&index(text.replace("apiVersion: v1\nentries", "# c\napiVersion: v1\nentries").as_bytes())),
        want
    );
    let mut entries = json!({});
    let mut all = json!({});
    let mut chart = String::new();
    for piece in by_parser(INDEX_YAML).unwrap() {
        match piece {
            Piece::Field(key, value) => all[key] = value,
            Piece::Chart(name) => {
                entries[&name] = json!([]);
                chart = name;
            }
            Piece::Entry(entry) => entries[&chart].as_array_mut().unwrap().push(entry),
        }
    }
    all["entries"] = entries;
    assert_eq!(json_of(&index(serde_json::to_vec_pretty(&all).unwrap().as_slice())), want);
}

#[test]
fn an_odd_chart_version_is_left_to_the_complete_parser() {
    let body = b"apiVersion: v1\nentries:\n  a:\n  - name: a\n    keywords: [x, \"y\"]\n    description: >-\n      folded\n      text\n    version: &v 1.10\n    appVersion: *v\n    urls:\n    - a.tgz\n";
    assert!(by_layout(body).is_ok());
    assert_eq!(
        json_of(&index(body))["entries"]["a"][0],
        json!({
            "name": "a", "keywords": ["x", "y"], "description": "folded text", "version": "1.10", "appVersion": "1.10",
            "urls": ["a.tgz"],
        })
    );
    let across = b"apiVersion: v1\nentries:\n  a:\n  - name: &n a\n    urls: [a.tgz]\n  b:\n  - name: *n\n    urls: [b.tgz]\n";
    assert_eq!(json_of(&index(across))["entries"]["b"][0]["name"], "a");
}

#[test]
fn an_empty_index_has_entries() {
    for body in [
        &b"apiVersion: v1\nentries: {}\ngenerated: \"x\"\n"[..],
        b"apiVersion: v1\n",
        b"apiVersion: v1\nentries:\n",
        b"{\"apiVersion\":\"v1\",\"entries\":null}",
    ] {
        let got = json_of(&index(body));
        assert_eq!((&got["entries"], &got["apiVersion"]), (&json!({}), &json!("v1")));
    }
}

#[test]
fn rs_09_facts_name_digest_and_place_of_every_chart() {
    let facts = index(INDEX_YAML).facts(&Helm, &remote()).unwrap();
    let find = |end: &str| facts.iter().find(|fact| fact.path.ends_with(end)).unwrap();
    assert_eq!(find("charts/ingress-1.10.0+b1.tgz").checksums, [Checksum::Sha256([0xaa; 32])]);
    assert_eq!(find("charts/ingress-1.9.tgz").checksums, [Checksum::Sha256([0xbb; 32])]);
    assert_eq!(find("charts/ingress-1.9.tgz").url, None);
    assert!(find("old/ingress-1.8.0.tgz").checksums.is_empty());
    assert!(!facts.iter().any(|fact| fact.path.contains("0.9.0") || fact.path.contains("0.7.0")));
    let url = "https://github.test/o/others/releases/download/v1/others-1.0.0.tgz";
    for (suffix, magic) in [("", Some(Magic::Gzip)), (".prov", None)] {
        let found = resource(&Helm, &remote(), &format!("{}{suffix}", link(url)), "");
        let fact = facts.iter().find(|fact| fact.path == found.path.as_str()).unwrap();
        assert_eq!(fact.url.as_ref().unwrap().as_str(), format!("{url}{suffix}"));
        assert_eq!(fact.checksums.is_empty(), !suffix.is_empty(), "a provenance file has no published hash");
        assert_eq!((found.magic, found.location), (magic, Location::Named(fact.url.clone().unwrap())));
        assert_eq!(found.indexes, [IndexRef::held("index.yaml".into())]);
    }
}

#[test]
fn a_host_outside_file_hosts_keeps_its_url() {
    let mut remote = remote();
    remote.file_hosts = FileHosts::Only(vec!["other.test".into()]);
    let (_, got) = index(INDEX_YAML).rewrite(&Helm, &remote, "index").unwrap();
    assert!(got.contains("\"https://github.test/o/others/releases/download/v1/others-1.0.0.tgz\""));
}

#[test]
fn rs_63_bombs_end_in_an_error() {
    let mut laughs = String::from("apiVersion: v1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let parts = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{parts}]\n"));
    }
    let deep = format!("apiVersion: {}", "[".repeat(100_000));
    let nested: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let many = format!("apiVersion: v1\nx: [{}]\n", "1,".repeat(200_000));
    let long = format!("apiVersion: v1\nentries:\n  a:\n  - name: {}\n", "x".repeat(read::MAX_ENTRY));
    for bomb in [laughs, deep, nested, many, long] {
        assert!(index(bomb.as_bytes()).rewrite(&Helm, &remote(), "index").is_err());
        assert!(index(bomb.as_bytes()).facts(&Helm, &remote()).is_err());
    }
}

#[test]
fn what_is_no_index_is_an_error() {
    for body in [
        &b""[..],
        b"<html><body>Please log in</body></html>",
        b"- a\n",
        b"[]",
        b"\xff\xfe\xff",
        b"apiVersion: v1\napiVersion: v1\n",
        b"apiVersion: v1\nentries:\n  a:\n  - name: a\n    name: b\n",
        b"apiVersion: v1\nentries:\n  a: []\n  a: []\n",
        b"apiVersion: v1\nentries:\n  a:\n  - name: [x]\n",
        b"{\"apiVersion\":\"v1\",\"entries\":{",
    ] {
        assert!(index(body).rewrite(&Helm, &remote(), "index").is_err(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_large_index_is_read_to_its_end() {
    let mut body = String::from("apiVersion: v1\nentries:\n  a:\n");
    for version in 0..20_000 {
        body.push_str(&format!("  - description: some text to make the index large enough\n    name: a\n    urls:\n    - a-{version}.tgz\n    version: 1.{version}.0\n"));
    }
    body.push_str("generated: now\n");
    assert!(body.len() > 2 << 20);
    let got = json_of(&index(body.as_bytes()));
    let versions = got["entries"]["a"].as_array().unwrap();
    assert_eq!((versions.len(), &got["generated"]), (20_000, &json!("now")));
    assert_eq!(versions[19_999]["urls"][0], "a-19999.tgz");
    let turned = body.replace("  - description: some text to make the index large enough\n    name: a\n    urls:\n    - a-19999.tgz", "   - x");
    assert!(index(turned.as_bytes()).rewrite(&Helm, &remote(), "index").is_err(), "no half index is served");
}

#[test]
fn a_large_index_may_change_its_layout_midway() {
    let version = |indent: &str, name: &str, number: usize| {
        let end = format!("\n{indent}    ");
        ["- description: some text, long enough for eight thousand versions of it to be more than is looked at first, one mebibyte".to_owned(), format!("name: {name}"),
            format!("urls:{end}- {name}-{number}.tgz"), format!("version: 1.{number}.0")]
        .join(&format!("\n{indent}  ")) + "\n"
    };
    let list = |indent: &str, name: &str| -> String {
        (0..8_000).map(|number| format!("{indent}{}", version(indent, name, number))).collect()
    };
    let start = format!(
        "apiVersion: v1\nentries:\n  a:\n  - name: &anchor a\n    urls: [a.tgz]\n{}",
        list("  ", "a")
    );
    assert!(start.len() > 1 << 20);
    for (what, middle) in [
        ("a comment", "  # by hand\n  b:\n  - name: b\n".to_owned()),
        ("an alias", "  b:\n  - name: *anchor\n".to_owned()),
        ("another indentation", format!("  b:\n{}", list("    ", "b"))),
        ("flow style", "  b: [{name: b, urls: [b.tgz]}]\n".to_owned()),
    ] {
        let body = format!("{start}{middle}  c:\n{}generated: now\n", list("  ", "c"));
        assert!(matches!(by_layout(body.as_bytes()), Err(Stop::Misfit)), "{what}");
        let mut pieces = Vec::new();
        read::index(&mut body.as_bytes(), &mut |piece| {
            pieces.push(piece);
            Ok(())
        })
        .unwrap();
        assert!(pieces == by_parser(body.as_bytes()).unwrap(), "{what}: every piece once, in its place");
        let got = json_of(&index(body.as_bytes()));
        assert_eq!(got["entries"]["c"].as_array().unwrap().len(), 8_000, "{what}");
        assert_eq!(got["generated"], "now", "{what}");
        let facts = index(body.as_bytes()).facts(&Helm, &remote()).unwrap();
        assert!(facts.iter().any(|fact| fact.path == "c-7999.tgz"), "{what}");
    }
    for (what, middle) in
        [("a chart twice", "  a:\n  - name: a\n"), ("no YAML", "  b: ]\n"), ("no alias", "  b: *x\n")]
    {
        let body = format!("{start}{middle}generated: now\n");
        assert!(index(body.as_bytes()).rewrite(&Helm, &remote(), "index").is_err(), "{what}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        "[ -~]{0,100}",
        "[0-9.e+-]{1,6}",
        "(null|~|true|yes|on|0x1f|012|1_0|.inf|2020-01-01|'|\")?",
        "( |\n|a|#|:|-|\"|'|\\\\){0,12}",
        "[a-z]{1,9}( [a-z]{1,9}){8,30}",
        "[\u{e9}\u{1f600}a\t ]{0,6}",
    ]
}

fn any_entry() -> impl Strategy<Value = Value> {
    (any_text(), any_text(), any_text(), any_text(), prop::option::of(any_text()), any::<bool>(), prop::collection::vec(any_text(), 0..3)).prop_map(
        |(version, description, key, annotation, icon, deprecated, keywords)| {
            json!({"name": "a", "version": version, "description": description, "annotations": {key: annotation}, "icon": icon,
                "deprecated": deprecated, "keywords": keywords, "maintainers": [{"name": version}], "urls": ["a.tgz"]})
        },
    )
}

/// Lines that are YAML in part, put together at random.
fn any_soup() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "a",
        "",
        "\"q",
        "q\"",
        "\"q\"",
        "'s'",
        "'it''s'",
        "|",
        "|-",
        "|+",
        ">",
        "{}",
        "[]",
        "[a]",
        "null",
        "~",
        "1.10",
        "0x1f",
        "yes",
        "true",
        "-1",
        "- x",
        "a: b",
        "a #b",
        "#c",
        "&x y",
        "*x",
        "!t x",
        "http://h/p#f",
        "\"a\\nb \\",
        "e\\u00e9\"",
        "a:b",
        "? x",
        "12",
        "007",
        "x  y ",
        "@x",
        "%x",
        ", x",
        "<<",
    ]);
    let key = prop::sample::select(vec![
        "name",
        "version",
        "deprecated",
        "annotations",
        "keywords",
        "x",
        "urls",
        "dependencies",
        "enabled",
        "null",
        "\"k\"",
    ]);
    let indent = prop::sample::select(vec![4usize, 4, 4, 4, 4, 6, 6, 8, 2, 0]);
    let line = (indent, prop::sample::select(vec!["", "- "]), prop::option::of(key), text).prop_map(
        |(indent, dash, key, text)| {
            let key = key
                .map(|key| format!("{key}:{}", if text.is_empty() { "" } else { " " }))
                .unwrap_or_default();
            format!("{}{dash}{key}{text}\n", " ".repeat(indent))
        },
    );
    prop::collection::vec(line, 0..7)
        .prop_map(|lines| format!("apiVersion: v1\nentries:\n  a:\n  - name: a\n{}", lines.concat()))
}

#[test]
fn rs_34_a_directory_that_looks_like_a_url_chooses_no_host() {
    let remote = testing::remote(PackageType::Helm, "http://charts.up.test/");
    let document = Document {
        path: "https:evil.test/index.yaml",
        url: "http://charts.up.test/https:evil.test/index.yaml",
        ..index(b"apiVersion: v1\nentries:\n  a:\n  - name: a\n    urls:\n    - a-1.tgz\n")
    };
    let got = document.rewrite(&Helm, &remote, "index").unwrap().1;
    assert!(got.contains(r#""urls":["a-1.tgz"]"#), "{got}");
}

proptest! {
    #[test]
    fn scanner_and_parser_agree_on_what_a_writer_wrote(entries in prop::collection::vec(any_entry(), 0..4), generated in any_text()) {
        let document = json!({"apiVersion": "v1", "entries": {"a": entries}, "generated": generated, "serverInfo": {"n": 1}});
        let text = serde_yaml::to_string(&document).unwrap();
        let parsed = sorted(by_parser(text.as_bytes()).unwrap());
        let written: Vec<_> = parsed.iter().filter_map(|piece| match piece { Piece::Entry(entry) => Some(entry), _ => None }).collect();
        prop_assert_eq!(&written, &entries.iter().collect::<Vec<_>>(), "{}", text);
        match by_layout(text.as_bytes()) {
            Ok(pieces) => prop_assert_eq!(sorted(pieces), parsed, "{}", text),
            Err(Stop::Misfit) => {}
            Err(Stop::Failed(error)) => prop_assert!(false, "{error}: {text}"),
        }
    }

    #[test]
    fn the_scanner_never_guesses(text in any_soup()) {
        if let Ok(pieces) = by_layout(text.as_bytes()) {
            let parsed = by_parser(text.as_bytes());
            prop_assert!(parsed.is_ok(), "only the scanner takes {:?}: {:?}", text, parsed);
            prop_assert_eq!(sorted(pieces), sorted(parsed.unwrap()), "{}", text);
        }
    }

    #[test]
    fn scalars_over_several_lines_fold_alike(
        quote in prop::sample::select(vec!["\"", "'", "", "|\n      ", "|-\n      ", "|+\n      "]),
        parts in prop::collection::vec(prop::sample::select(vec![
            "a", "b", " ", "  ", "''", "\\", "\\ ", "\\n", "\\\"", "\\t", "\\\\", "\\x41", "\n      ", "\n      ", "\n       ", "\n\n      ", "\n \n\n      ", "\n     ", "\n", ":", "-", "#",
        ]), 0..9),
        end in prop::sample::select(vec!["", " ", "\n", "\n\n"]),
    ) {
        let close = if quote.len() == 1 { quote } else { "" };
        let text = format!("  - x: 1\n    name: {quote}{}{close}{end}\n    version: v\n", parts.concat());
        if let Ok(value) = block::value(&text, shape::CHARTS) {
            prop_assert_eq!(value, yaml::value(&text, shape::CHARTS).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?, "{}", text);
        }
    }

    #[test]
    fn rs_21_planning_never_panics_and_one_key_means_one_thing(raw in prop_oneof!["\\PC{0,40}", "[a%2B+./-]{0,12}(index.yaml|\\.tgz)?(\\.prov)?"]) {
        if let Ok(Plan::Serve(found)) = get(&Helm, &remote(), &raw, "") {
            let again = resource(&Helm, &remote(), &found.path.encode(), "");
            prop_assert_eq!(&again.path, &found.path);
            prop_assert_eq!(again.mutability, found.mutability);
        }
    }
}
