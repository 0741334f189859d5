//! The local check and the API server say the same about every manifest (RS-132).

use artifactapi_crds::{
    FieldError,
    bad::{self, Bad},
    schema::Kind,
};
use artifactapi_tests::kubernetes::Told;
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::{Bench, crds},
};

/// As `kubectl apply` asks, storing nothing.
const TRIAL: &str = "dryRun=All&fieldValidation=Strict";

/// `manifest` in `namespace`.
fn within(mut manifest: Value, namespace: &str) -> Value {
    manifest["metadata"]["namespace"] = json!(namespace);
    manifest
}

fn kind(manifest: &Value) -> Kind {
    let is_it = |kind: &Kind| manifest["kind"] == kind.as_str();
    Kind::ALL.into_iter().find(is_it).unwrap_or_else(|| panic!("one of our kinds: {manifest}"))
}

/// Whether the API server blames what the local check blames.
fn blames(told: &Told, error: &FieldError) -> bool {
    // It rejects unknown fields before it looks at the rest, and says so in one sentence.
    if error.rule == "unknownField" {
        return told.status == 400 && told.message().contains(&format!("unknown field \"{}\"", error.path));
    }
    told.causes().iter().any(|(field, message)| {
        // It names the second of two equal items where we name the list, the item where we name its key, and no field
        // for a rule about the whole object.
        let same = field.starts_with(&error.path)
            || (error.rule == "duplicate" && error.path.starts_with(field))
            || (error.path == "metadata.name" && *field == "<nil>");
        same && (is_keyword(&error.rule) || message.contains(&error.message))
    })
}

/// Whether a rule is one of the schema's own, for which each has its words; rules in CEL bring theirs.
fn is_keyword(rule: &str) -> bool {
    rule.chars().all(|c| c.is_ascii_alphabetic())
}

pub(crate) async fn on_bad_manifests(bench: &Bench) -> Ending {
    let namespace = bench.namespace("bad").await;
    let api = bench.admin();
    let (mut by_schema, mut later, mut wrong) = (0, 0, Vec::new());
    for bad in bad::manifests() {
        let manifest = within(bad.manifest(), &namespace);
        let local = bad.kind.schema().check(manifest.clone(), None).errors;
        let told = api.create(&manifest, TRIAL).await;
        let Bad { kind, spec, field, .. } = &bad;
        if local.is_empty() != told.is_ok() {
            wrong.push(format!(
                "{} {field} {spec}: here {local:?}, there {} {}",
                kind.as_str(),
                told.status,
                told.body
            ));
        } else if local.is_empty() {
            later += 1;
        } else {
            by_schema += 1;
            // Unknown fields hide the rest there.
            let all = local.iter().any(|error| error.rule == "unknownField")
                || local.iter().all(|e| blames(&told, e));
            if !all || !local.iter().any(|error| blames(&told, error)) {
                wrong.push(format!(
                    "{} {field} {spec}: here {local:?}, there {} {}",
                    kind.as_str(),
                    told.message(),
                    json!(told.causes())
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        by_schema + later + wrong.len(),
        wrong.join("\n")
    );
    println!(
        "figure: bad manifests: {by_schema} are refused by schema here and there, {later} by what reads them later"
    );
    assert!(by_schema >= 40 && later >= 15, "{by_schema} and {later}");
    for neighbour in bad::neighbours() {
        let told = api.create(&within(neighbour.clone(), &namespace), TRIAL).await;
        assert!(told.is_ok(), "{neighbour} is sound: {}", told.body);
    }
    Ok(())
}

pub(crate) async fn on_defaults(bench: &Bench) -> Ending {
    let namespace = bench.namespace("defaults").await;
    let mut manifests = vec![
        json!({ "kind": "Virtual", "metadata": { "name": "v" }, "spec": { "type": "npm", "members": ["a"] } }),
        json!({ "kind": "Local", "metadata": { "name": "l" }, "spec": { "type": "terraform", "terraform": {}, "access": {} } }),
        json!({ "kind": "Robot", "metadata": { "name": "r" }, "spec": { "grants": [{ "repositories": ["*"], "actions": ["pull"] }] } }),
        json!({ "kind": "Remote", "metadata": { "name": "q" }, "spec": {
            "type": "generic", "baseURL": "https://h", "timeouts": { "idle": "5s" }, "generic": {}, "retention": {},
            "egress": {}, "access": null, "delivery": null,
        } }),
    ];
    for manifest in &mut manifests {
        manifest["apiVersion"] = json!("artifactapi.io/v1alpha1");
    }
    for entry in std::fs::read_dir(crds("examples")).expect("examples") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("text");
        manifests.push(serde_yaml::from_str(&text).expect("one document"));
    }
    for manifest in manifests {
        let manifest = within(manifest, &namespace);
        let here = kind(&manifest).schema().check(manifest.clone(), None);
        assert_eq!(here.errors, [], "{manifest}");
        let mut there = bench.admin().create(&manifest, TRIAL).await.ok();
        // It keeps a null that stands for nothing.
        there["spec"].as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        assert_eq!(here.manifest["spec"], there["spec"], "{manifest}");
    }
    Ok(())
}

pub(crate) async fn on_changes(bench: &Bench) -> Ending {
    let namespace = bench.namespace("changes").await;
    let api = bench.admin();
    let cases = [
        ("Remote", json!({ "type": "npm", "baseURL": "https://h/" }), json!({ "type": "pypi" }), false),
        (
            "Remote",
            json!({ "type": "npm", "baseURL": "https://h/" }),
            json!({ "baseURL": "https://other/" }),
            true,
        ),
        (
            "Remote",
            json!({ "type": "docker", "baseURL": "https://h/", "docker": { "banTags": ["a"] } }),
            json!({ "type": "generic", "docker": null }),
            false,
        ),
        ("Virtual", json!({ "type": "npm", "members": ["a"] }), json!({ "type": "pypi" }), false),
        ("Virtual", json!({ "type": "npm", "members": ["a"] }), json!({ "members": ["b", "a"] }), true),
        ("Local", json!({ "type": "docker" }), json!({ "type": "terraform" }), false),
        ("Local", json!({ "type": "docker" }), json!({ "readOnly": true, "deletionPolicy": "Purge" }), true),
        (
            "Robot",
            json!({ "grants": [{ "repositories": ["a"], "actions": ["pull"] }], "tokenTTL": "1h" }),
            json!({ "tokenTTL": "1m" }),
            false,
        ),
    ];
    for (number, (name, old, change, allowed)) in cases.into_iter().enumerate() {
        let manifest = json!({
            "apiVersion": "artifactapi.io/v1alpha1", "kind": name,
            "metadata": { "name": format!("r{number}"), "namespace": namespace }, "spec": old,
        });
        let stored = api.create(&manifest, "fieldValidation=Strict").await.ok();
        let object = artifactapi_tests::kubernetes::Object::of(&manifest);
        let told = api.merge(&object, "", &json!({ "spec": change })).await;
        let mut next = stored.clone();
        for (field, value) in change.as_object().expect("an object") {
            next["spec"][field] = value.clone();
        }
        let here = kind(&manifest).schema().check(next, Some(&stored)).errors;
        assert_eq!(
            (told.is_ok(), here.is_empty()),
            (allowed, allowed),
            "{name} {change}: {here:?} {}",
            told.body
        );
        assert!(here.iter().all(|error| blames(&told, error)), "{name} {change}: {here:?} {}", told.body);
    }
    Ok(())
}

pub(crate) async fn in_words(bench: &Bench) -> Ending {
    let namespace = bench.namespace("words").await;
    let remote = |spec: &str| {
        format!("{{apiVersion: artifactapi.io/v1alpha1, kind: Remote, metadata: {{name: r}}, spec: {spec}}}")
    };
    for (spec, words) in [
        ("{type: npm, baseURL: 'https://u:p@h/'}", vec!["spec.baseURL", "secretRef"]),
        (
            "{type: npm, baseURL: 'https://h/', docker: {}}",
            vec!["spec.docker", "only a Remote of type docker"],
        ),
        ("{type: npm, baseURL: 'https://h/', baseUrl: 'https://h/'}", vec!["unknown field \"spec.baseUrl\""]),
        ("{type: maven, baseURL: 'https://h/'}", vec!["spec.type", "supported values", "\"npm\""]),
    ] {
        let told = bench.kubernetes().run(&["apply", "-n", &namespace, "-f", "-"], &remote(spec));
        let why = told.expect_err("a bad manifest");
        assert!(words.iter().all(|word| why.contains(word)), "{spec}: {why}");
    }
    Ok(())
}
