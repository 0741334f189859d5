use artifactapi_model::{
    PackageType, Ttl,
    repository::{Credentials, FileHosts, ReadAccess, RemoteSpec},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::time::Duration;

use super::*;
use crate::{
    FieldError, Local, References, Remote, Robot,
    references::{ConfigMap, Secret},
    schema::Kind,
};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n";

/// Through the schema check, as every manifest comes.
fn typed<T: serde::de::DeserializeOwned>(kind: Kind, namespace: &str, spec: Value) -> T {
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1",
        "kind": kind.as_str(),
        "metadata": { "name": "r", "namespace": namespace },
        "spec": spec,
    });
    let checked = kind.schema().check(manifest, None);
    assert_eq!(checked.errors, []);
    serde_json::from_value(checked.manifest).unwrap()
}

fn read(spec: Value, references: &References) -> Result<RemoteSpec, Vec<FieldError>> {
    remote(&typed::<Remote>(Kind::Remote, "team", spec), references)
}

fn secret(entries: &[(&str, &str)]) -> References {
    let mut references = References::default();
    let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
    assert!(references.add_secret("team", "s", Secret::new(entries)));
    references
}

fn with_auth(base_url: &str, references: &References) -> Result<RemoteSpec, Vec<FieldError>> {
    let auth = json!({ "type": "docker", "baseURL": base_url, "auth": { "secretRef": { "name": "s" } } });
    read(auth, references)
}

#[test]
fn defaults_that_depend_on_the_type() {
    let none = References::default();
    for package_type in PackageType::ALL {
        let spec = read(json!({ "type": package_type.as_str(), "baseURL": "https://h" }), &none).unwrap();
        let minutes = if package_type == PackageType::Docker { 5 } else { 15 };
        assert_eq!(spec.mutable_ttl, Ttl::For(Duration::from_secs(minutes * 60)), "{package_type}");
        assert_eq!(spec.immutable_ttl, Ttl::Forever);
        assert_eq!(spec.package_type, package_type);
        assert_eq!(spec.read, ReadAccess::Anonymous);
        assert_eq!(spec.max_concurrent, 64);
        assert_eq!(spec.stale_if_error, Duration::from_secs(30 * 24 * 3600));
        assert_eq!(spec.timeouts, Default::default());
        assert_eq!(spec.file_hosts, FileHosts::Public);
    }
}

#[test]
fn zero_means_for_ever_only_for_what_never_changes() {
    let spec = json!({ "type": "npm", "baseURL": "https://h", "mutableTTL": "0s", "immutableTTL": "1h" });
    let spec = read(spec, &References::default()).unwrap();
    assert_eq!(spec.mutable_ttl, Ttl::For(Duration::ZERO));
    assert_eq!(spec.immutable_ttl, Ttl::For(Duration::from_secs(3600)));
}

#[test]
fn the_base_url_ends_in_a_slash() {
    for (text, want) in [
        ("https://h", "https://h/"),
        ("https://h/", "https://h/"),
        ("https://h/a/b", "https://h/a/b/"),
        ("https://H:443/a%20b/", "https://h/a%20b/"),
        ("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x/"),
    ] {
        let spec = read(json!({ "type": "npm", "baseURL": text }), &References::default()).unwrap();
        assert_eq!(spec.base_url.as_str(), want);
    }
}

#[test]
fn docker_hubs_other_names_mean_its_registry() {
    for (package_type, text, want) in [
        ("docker", "https://docker.io", "https://registry-1.docker.io/"),
        ("docker", "https://Index.Docker.io:443/", "https://registry-1.docker.io/"),
        ("docker", "http://docker.io/mirror", "http://registry-1.docker.io/mirror/"),
        ("docker", "https://registry-1.docker.io/", "https://registry-1.docker.io/"),
        ("docker", "https://docker.io:5000/", "https://docker.io:5000/"),
        ("docker", "https://docker.io.example.com/", "https://docker.io.example.com/"),
        ("docker", "https://auth.docker.io/", "https://auth.docker.io/"),
        ("generic", "https://docker.io/", "https://docker.io/"),
    ] {
        let spec = read(json!({ "type": package_type, "baseURL": text }), &References::default()).unwrap();
        assert_eq!(spec.base_url.as_str(), want, "{package_type} {text}");
    }
}

#[test]
fn credentials_of_docker_hub_are_bound_to_its_registry() {
    for base_url in ["https://docker.io/", "https://index.docker.io/", "https://registry-1.docker.io/"] {
        for key in ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"bWU6cA=="}}}}}}"#);
            let spec = with_auth(base_url, &secret(&[(".dockerconfigjson", &config)])).unwrap();
            assert!(
                matches!(&spec.credentials, Some(Credentials::Basic { username, .. }) if username == "me"),
                "{base_url} {key}"
            );
            let is_own = |url: &str| spec.is_own_origin(&url.parse().unwrap());
            assert!(is_own("https://registry-1.docker.io/v2/"), "{base_url}");
            assert!(!is_own("https://docker.io/v2/") && !is_own("https://index.docker.io/v2/"), "{base_url}");
        }
    }
}

#[test]
fn tag_patterns_match_whole_tags_and_path_patterns_match_anywhere() {
    let spec = json!({
        "type": "docker",
        "baseURL": "https://h",
        "docker": { "banTags": ["latest", "a|b.*"], "mirrorFor": ["docker.io"], "rootMirror": true },
        "blocklist": ["secret"],
    });
    let spec = read(spec, &References::default()).unwrap();
    for (tag, banned) in
        [("latest", true), ("latest-alpine", false), ("a", true), ("xa", false), ("bc", true)]
    {
        assert_eq!(spec.docker.ban_tags.matches(tag), banned, "{tag}");
    }
    assert!(spec.policy.permits(["a/secret/b"]).is_err());
    assert_eq!(spec.docker.mirror_for, ["docker.io"]);
}

#[test]
fn credentials_come_in_every_usual_form() {
    let basic = secret(&[("username", "me"), ("password", "p:w\n")]);
    let spec = with_auth("https://h/", &basic).unwrap();
    let Some(Credentials::Basic { username, password }) = &spec.credentials else { panic!("{spec:?}") };
    assert_eq!((username.as_str(), password.expose_secret()), ("me", "p:w"));
    assert_eq!(spec.read, ReadAccess::Authenticated);

    let spec = with_auth("https://h/", &secret(&[("token", "t0k\r\n")])).unwrap();
    assert!(matches!(&spec.credentials, Some(Credentials::Bearer(token)) if token.expose_secret() == "t0k"));

    let open = json!({
        "type": "npm", "baseURL": "https://h", "auth": { "secretRef": { "name": "s" } },
        "access": { "read": "anonymous" },
    });
    assert_eq!(read(open, &secret(&[("token", "t")])).unwrap().read, ReadAccess::Anonymous);
}

#[test]
fn a_dockerconfigjson_is_searched_by_the_upstreams_host() {
    let auths = |text: &str| secret(&[(".dockerconfigjson", text)]);
    for (base_url, auths_json, want) in [
        ("https://quay.io/", r#"{"auths":{"quay.io":{"auth":"bWU6cDp3"}}}"#, Some(("me", "p:w"))),
        (
            "https://quay.io/",
            r#"{"auths":{"https://quay.io/v2/":{"username":"u","password":"p"}}}"#,
            Some(("u", "p")),
        ),
        (
            "https://registry-1.docker.io/",
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6cA=="}}}"#,
            Some(("me", "p")),
        ),
        (
            "http://h:5000/",
            r#"{"auths":{"h":{"auth":"bWU6eA=="},"h:5000":{"auth":"bWU6cA=="}}}"#,
            Some(("me", "p")),
        ),
        ("https://quay.io/", r#"{"auths":{"docker.io":{"auth":"bWU6cA=="}}}"#, None),
        ("https://quay.io/", r#"{"auths":{"evilquay.io":{"auth":"bWU6cA=="}}}"#, None),
        ("https://quay.io/", r#"{"auths":{"quay.io":{"identitytoken":"x"}}}"#, None),
        ("https://quay.io/", r#"{"auths":{"quay.io":{"auth":"!"}}}"#, None),
        ("https://quay.io/", r#"{"auths":{"quay.io":{}}}"#, None),
        ("https://quay.io/", r#"{"auths":{"quay.io":7}}"#, None),
        ("https://quay.io/", r#"{"auths":[]}"#, None),
        ("https://quay.io/", "hunter2", None),
    ] {
        match (with_auth(base_url, &auths(auths_json)), want) {
            (Ok(spec), Some((user, word))) => {
                let Some(Credentials::Basic { username, password }) = &spec.credentials else { panic!() };
                assert_eq!((username.as_str(), password.expose_secret()), (user, word), "{auths_json}");
            }
            (Err(errors), None) => {
                assert_eq!(errors.len(), 1, "{auths_json}");
                assert_eq!(
                    (errors[0].path.as_str(), errors[0].rule.as_ref()),
                    ("spec.auth.secretRef", "dockerconfigjson")
                );
                assert!(!errors[0].message.contains("hunter2"));
            }
            (other, _) => panic!("{auths_json}: {other:?}"),
        }
    }
}

#[test]
fn rs_37_a_bad_secret_is_named_and_never_shown() {
    for (entries, rule) in [
        (vec![], "secretKey"),
        (vec![("username", "me")], "secretKey"),
        (vec![("username", ""), ("password", "hunter2")], "secretKey"),
        (vec![("username", "m:e"), ("password", "hunter2")], "secretValue"),
        (vec![("username", "me"), ("password", "hunter2\nX-Evil: 1")], "secretValue"),
        (vec![("token", "hunter2 \r\nX-Evil: 1")], "secretValue"),
        (vec![("token", "hunter2"), ("username", "me"), ("password", "p")], "secretKey"),
    ] {
        let errors = with_auth("https://h/", &secret(&entries)).unwrap_err();
        assert_eq!(
            (errors[0].path.as_str(), errors[0].rule.as_ref()),
            ("spec.auth.secretRef", rule),
            "{entries:?}"
        );
        assert!(errors[0].message.contains("\"s\""), "{errors:?}");
        assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
    }
    let spec = with_auth("https://h/", &secret(&[("token", "hunter2")])).unwrap();
    assert!(!format!("{spec:?}").contains("hunter2"));
}

#[test]
fn rs_39_a_secret_of_another_namespace_is_not_found() {
    let manifest = typed::<Remote>(
        Kind::Remote,
        "other",
        json!({ "type": "npm", "baseURL": "https://h", "auth": { "secretRef": { "name": "s" } } }),
    );
    let errors = remote(&manifest, &secret(&[("token", "t")])).unwrap_err();
    assert_eq!(
        (errors[0].path.as_str(), errors[0].rule.as_ref()),
        ("spec.auth.secretRef.name", "secretMissing")
    );
    assert!(errors[0].message.contains("\"other\""));
}

#[test]
fn certificates_come_from_secrets_and_config_maps() {
    let tls = |tls: Value| json!({ "type": "npm", "baseURL": "https://h", "tls": tls });
    let mut references = secret(&[("ca.crt", CERTIFICATE), ("tls.crt", CERTIFICATE), ("tls.key", KEY)]);
    let config_map = ConfigMap { data: [("ca.crt".to_owned(), CERTIFICATE.repeat(2))].into() };
    assert!(references.add_config_map("team", "c", config_map));
    let spec =
        read(tls(json!({ "caSecretRef": { "name": "s" }, "certSecretRef": { "name": "s" } })), &references);
    let found = spec.unwrap().tls;
    assert_eq!(found.ca_pem.unwrap().trim(), CERTIFICATE.trim());
    assert_eq!(found.client.unwrap().key_pem.expose_secret().trim(), KEY.trim());
    let spec = read(tls(json!({ "caConfigMapRef": { "name": "c" } })), &references).unwrap();
    assert_eq!(spec.tls.ca_pem.unwrap().matches("BEGIN").count(), 2);

    let broken = secret(&[("ca.crt", KEY), ("tls.crt", CERTIFICATE), ("tls.key", CERTIFICATE)]);
    for (spec, references, path, rule) in [
        (json!({ "caSecretRef": { "name": "s" } }), &broken, "spec.tls.caSecretRef", "pem"),
        (json!({ "certSecretRef": { "name": "s" } }), &broken, "spec.tls.certSecretRef", "pem"),
        (
            json!({ "caConfigMapRef": { "name": "s" } }),
            &broken,
            "spec.tls.caConfigMapRef.name",
            "configMapMissing",
        ),
        (
            json!({ "certSecretRef": { "name": "x" } }),
            &broken,
            "spec.tls.certSecretRef.name",
            "secretMissing",
        ),
        (json!({ "caSecretRef": { "name": "s" } }), &secret(&[]), "spec.tls.caSecretRef", "secretKey"),
    ] {
        let errors = read(tls(spec.clone()), references).unwrap_err();
        assert_eq!((errors[0].path.as_str(), errors[0].rule.as_ref()), (path, rule), "{spec}");
    }
}

#[test]
fn rs_70_a_pattern_is_blamed_by_byte_offset() {
    let spec = json!({
        "type": "npm", "baseURL": "https://h",
        "patterns": ["fine", "grün(", "(a{1000}){1000}"], "blocklist": [r"a\1"],
    });
    let errors = read(spec, &References::default()).unwrap_err();
    let found: Vec<_> = errors.iter().map(|error| (error.path.as_str(), error.message.as_str())).collect();
    assert_eq!(found[0].0, "spec.blocklist[0]");
    assert!(found[0].1.contains("at byte 1"), "{found:?}");
    assert_eq!(found[1].0, "spec.patterns[1]");
    assert!(found[1].1.contains("at byte 5: unclosed group"), "{found:?}");
    assert_eq!(found[2].0, "spec.patterns[2]");
    assert!(found[2].1.contains("size"), "{found:?}");
}

#[test]
fn rs_70_an_anchored_pattern_cannot_leave_its_group() {
    for pattern in ["a)|(b", "(?x)a # "] {
        let spec = json!({ "type": "docker", "baseURL": "https://h", "docker": { "banTags": [pattern] } });
        assert_eq!(read(spec, &References::default()).unwrap_err()[0].rule, "regex", "{pattern}");
    }
}

#[test]
fn locals_and_robots_are_read() {
    let spec = json!({ "type": "terraform", "quota": { "bytes": "10Gi" } });
    let terraform = local(&typed::<Local>(Kind::Local, "team", spec)).unwrap();
    assert_eq!(terraform.terraform_protocols, ["5.0", "6.0"]);
    assert_eq!((terraform.quota, terraform.anonymous_write), (Some(10 << 30), false));
    let spec = json!({ "type": "docker", "immutableTags": ["v.*"], "quota": { "bytes": 5 } });
    let docker = local(&typed::<Local>(Kind::Local, "team", spec)).unwrap();
    assert!(docker.immutable_tags.matches("v1") && !docker.immutable_tags.matches("dev1"));

    let spec =
        json!({ "grants": [{ "repositories": ["team-*"], "actions": ["pull", "push"] }], "tokenTTL": "24h" });
    let valid = robot(&typed::<Robot>(Kind::Robot, "team", spec)).unwrap();
    assert_eq!((valid.secret_name.as_str(), valid.token_ttl), ("r", Some(Duration::from_secs(86_400))));
}
