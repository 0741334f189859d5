use proptest::prelude::*;
use serde_json::json;

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

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}", content_type in proptest::option::of("\\PC{0,40}")) {
        let _ = parse(text.as_bytes(), content_type.as_deref());
    }
}
