use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn digest(n: usize) -> String {
    format!("sha256:{n:064x}")
}

fn layer(n: usize) -> Value {
    json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(n), "size": n})
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(1), "size": 2},
        "layers": [layer(2), layer(3), layer(2)],
        "subject": {"mediaType": OCI_MANIFEST, "digest": digest(9), "size": 1},
        "annotations": {"a": "b"},
    })
}

fn index() -> Value {
    let child =
        json!({"mediaType": OCI_MANIFEST, "digest": digest(4), "size": 7, "platform": {"os": "linux"}});
    json!({"schemaVersion": 2, "manifests": [child]})
}

fn read(value: &Value, content_type: Option<&str>) -> Result<Parsed, RegistryError> {
    parse(value.to_string().as_bytes(), content_type)
}

#[test]
fn reads_what_a_manifest_needs() {
    let parsed = read(&image(), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap();
    let blobs: Vec<String> = parsed.blobs.iter().map(ToString::to_string).collect();
    assert_eq!(blobs, [digest(1), digest(2), digest(3)]);
    assert_eq!(parsed.subject.map(|subject| subject.to_string()), Some(digest(9)));
    assert_eq!(parsed.artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    assert_eq!(parsed.annotations["a"], "b");
    let parsed = read(&index(), Some(OCI_INDEX)).unwrap();
    assert_eq!(parsed.children.len(), 1);
    assert_eq!((parsed.artifact_type, parsed.blobs), (None, vec![]));
}

#[test]
fn layers_one_may_not_pass_on_need_not_be_there() {
    let mut manifest = image();
    for media_type in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        manifest["layers"] =
            json!([{"mediaType": media_type, "digest": digest(5), "size": 1, "urls": ["https://x/"]}]);
        assert_eq!(read(&manifest, None).unwrap().blobs.len(), 1, "{media_type}");
    }
}

#[test]
fn rs_13_ambiguous_manifests_are_refused() {
    let with = |key: &str, value: Value| {
        let mut manifest = image();
        manifest[key] = value;
        manifest.to_string()
    };
    let without = |key: &str| {
        let mut manifest = image();
        manifest.as_object_mut().unwrap().remove(key);
        manifest.to_string()
    };
    let twice = image().to_string().replacen("\"layers\":", "\"layers\":[],\"layers\":", 1);
    let deep = image().to_string().replacen("\"size\":2", "\"size\":2,\"size\":3", 1);
    for (text, content_type) in [
        (with("manifests", json!([])), Some(OCI_MANIFEST)),
        (with("mediaType", json!(OCI_INDEX)), Some(OCI_MANIFEST)),
        (with("mediaType", json!("text/plain")), None),
        (with("schemaVersion", json!(1)), None),
        (with("layers", json!({})), None),
        (with("layers", json!([1])), None),
        (with("config", json!("x")), None),
        (with("subject", json!({"mediaType": "x", "digest": "sha256:1", "size": 1})), None),
        (with("annotations", json!({"a": 1})), None),
        (with("artifactType", json!("x".repeat(256))), None),
        (with("config", json!({"mediaType": "x", "digest": format!("md5:{HEX}"), "size": 1})), None),
        (with("config", json!({"mediaType": "x", "digest": digest(1)})), None),
        (without("config"), None),
        (without("mediaType"), None),
        (twice, None),
        (deep, None),
        (index().to_string().replace("\"manifests\"", "\"layers\":[],\"manifests\""), Some(OCI_INDEX)),
        ("[]".into(), Some(OCI_INDEX)),
        ("{".into(), Some(OCI_INDEX)),
        (String::new(), Some(OCI_INDEX)),
        ("[".repeat(100_000), Some(OCI_INDEX)),
        (image().to_string() + "{}", None),
    ] {
        let error = parse(text.as_bytes(), content_type);
        assert!(matches!(error, Err(RegistryError::ManifestInvalid(_))), "{text:.200}: {error:?}");
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let mut cases = Vec::new();
    for (key, value, sentence) in [
        ("manifests", json!([]), "\"manifests\" does not belong into a application/"),
        ("manifests", Value::Null, "\"manifests\" does not belong into a application/"),
        ("mediaType", json!(1), "mediaType is no media type"),
        ("mediaType", json!("a b"), "mediaType is no media type"),
        ("artifactType", json!({}), "artifactType is no media type"),
        ("schemaVersion", json!("2"), "schemaVersion must be 2"),
        ("schemaVersion", json!(2.0), "schemaVersion must be 2"),
        ("annotations", json!([]), "annotations are no object"),
        ("annotations", json!({"a": null}), "an annotation is no text"),
        ("subject", Value::Null, "subject is no descriptor"),
        ("config", Value::Null, "config is no descriptor"),
        ("config", json!([{}]), "config is no descriptor"),
        ("layers", json!("x"), "layers is no list"),
        ("layers", json!([layer(1), [layer(2)]]), "layers[1] is no descriptor"),
        ("layers", json!([{"size": 0}]), "layers[0] has no mediaType"),
        ("layers", json!([{"size": 0, "mediaType": ""}]), "layers[0] has no mediaType"),
        ("layers", json!([{"size": 0, "mediaType": "\u{e4}"}]), "mediaType is no media type"),
        ("layers", json!([{"mediaType": "x", "size": -1}]), "layers[0] has no size"),
        ("layers", json!([{"mediaType": "x", "size": 1.5}]), "layers[0] has no size"),
        ("layers", json!([{"mediaType": "x", "size": 1, "digest": 1}]), "digest is no media type"),
        ("layers", json!([{"mediaType": "x", "size": 1, "digest": null}]), "layers[0].digest: a digest is"),
        ("subject", json!({"mediaType": "x", "size": 1, "digest": "md5:1"}), "subject.digest: a digest is"),
    ] {
        let mut manifest = image();
        manifest[key] = value;
        cases.push((manifest.to_string(), sentence));
    }
    let twice = image().to_string().replacen("\"size\":2", "\"size\":2,\"\\u0073ize\":3", 1);
    for (text, sentence) in [
        (twice.as_str(), "an object has one key twice at line 1 column "),
        (r#"{"x":[{"a":{"b":1,"c":{"b":2},"b":3}}]}"#, "an object has one key twice at line 1 column "),
        (r#"{"x":1e999}"#, "number out of range at line 1 column "),
        (r#"{"x":"\ud800"}"#, "unexpected end of hex escape at line 1 column "),
        ("{}{", "trailing characters at line 1 column 3"),
        ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"),
    ] {
        cases.push((text.to_owned(), sentence));
    }
    for (text, sentence) in cases {
        let Err(RegistryError::ManifestInvalid(reason)) = parse(text.as_bytes(), Some(OCI_MANIFEST)) else {
            panic!("{text} is taken");
        };
        assert!(reason.starts_with(sentence), "{text}: {reason}");
    }
}

#[test]
fn null_stands_for_what_is_absent() {
    let mut manifest = image();
    for key in ["mediaType", "artifactType", "annotations", "layers"] {
        manifest[key] = Value::Null;
    }
    let parsed = read(&manifest, Some(OCI_MANIFEST)).unwrap();
    assert_eq!((parsed.blobs.len(), parsed.annotations.len()), (1, 0));
    let mut index = index();
    index["manifests"] = Value::Null;
    assert_eq!(read(&index, Some(OCI_INDEX)).unwrap().children, []);
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}", content_type in proptest::option::of("\\PC{0,40}")) {
        let _ = parse(text.as_bytes(), content_type.as_deref());
    }
}
