use kube::core::cel::estimate_rule_cost;
use serde_json::{Value, json};

use super::Kind;

fn remote(spec: Value) -> Value {
    json!({ "apiVersion": "artifactapi.io/v1alpha1", "kind": "Remote", "metadata": { "name": "r" }, "spec": spec })
}

#[test]
fn generated_files_are_current() {
    // Asked when it runs: the program may have been compiled for another checkout.
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let directory = std::path::Path::new(&root).join("generated");
    for (name, text) in crate::generate::files().unwrap() {
        let stored = std::fs::read_to_string(directory.join(&name)).unwrap_or_default();
        assert_eq!(stored, text, "run `cargo run -p xtask -- gen` ({name})");
    }
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), Kind::ALL.len(), "a file too many");
}

#[test]
fn definitions_have_the_promised_names() {
    let shorts = ["rem", "virt", "loc", "rob"];
    for ((crd, kind), short) in crate::generate::definitions().iter().zip(Kind::ALL).zip(shorts) {
        let spec = &crd.spec;
        assert_eq!((spec.group.as_str(), spec.scope.as_str()), ("artifactapi.io", "Namespaced"));
        assert_eq!(spec.names.kind, kind.as_str());
        assert_eq!(spec.names.short_names, Some(vec![short.to_owned()]));
        assert_eq!(spec.names.categories, Some(vec!["artifactapi".to_owned()]));
        assert_eq!(spec.versions.len(), 1);
        assert!(spec.versions[0].subresources.as_ref().unwrap().status.is_some());
        let selectable = spec.versions[0].selectable_fields.as_deref().unwrap_or_default();
        assert_eq!(selectable.iter().any(|field| field.json_path == ".spec.type"), kind != Kind::Robot);
    }
}

/// An API server refuses a CRD whose rules could cost too much, and it knows only what the schema bounds.
#[test]
fn every_string_and_list_of_a_spec_is_bounded() {
    fn walk(schema: &Value, path: &str) {
        let bounded = |keyword: &str| schema.get(keyword).is_some();
        let int_or_string = bounded("x-kubernetes-int-or-string");
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => assert!(bounded("maxLength") || bounded("enum"), "{path} has no maxLength"),
            Some("array") => assert!(bounded("maxItems"), "{path} has no maxItems"),
            Some("integer") => assert!(bounded("minimum") && bounded("maximum"), "{path} has no range"),
            None => assert!(int_or_string && bounded("maxLength"), "{path} has no type"),
            _ => {}
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(field, &format!("{path}.{name}"));
        }
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{path}[]"));
        }
        assert!(!bounded("additionalProperties"), "{path} is a map");
    }
    for kind in Kind::ALL {
        walk(&kind.schema().openapi()["properties"]["spec"], kind.as_str());
    }
}

#[test]
fn every_rule_compiles_and_is_within_the_cost_budget() {
    fn walk(schema: &super::CompiledSchema, rules: &mut usize) {
        for rule in &schema.validations {
            let rule = &rule.as_ref().expect("the rule compiles").rule.rule;
            let warnings = estimate_rule_cost(rule, schema);
            // The root's metadata has no schema; the API server knows its bounds by itself.
            assert!(warnings.is_empty() || rule.contains("self.metadata"), "{rule}: {warnings:?}");
            *rules += 1;
        }
        schema.properties.values().for_each(|field| walk(field, rules));
        schema.items.iter().for_each(|items| walk(items, rules));
    }
    let mut rules = 0;
    Kind::ALL.into_iter().for_each(|kind| walk(&kind.schema().rules, &mut rules));
    assert!(rules >= 20, "only {rules} rules were found");
}

#[test]
fn defaults_are_visible() {
    let manifest = remote(json!({ "type": "npm", "baseURL": "https://registry.yarnpkg.com" }));
    let checked = Kind::Remote.schema().check(manifest, None);
    assert_eq!(checked.errors, []);
    assert_eq!(
        checked.manifest["spec"],
        json!({
            "type": "npm",
            "baseURL": "https://registry.yarnpkg.com",
            "immutableTTL": "0s",
            "staleIfError": "720h",
            "staleWhileRevalidate": "1h",
            "negativeTTL": "60s",
            "onUpstreamGone": "keep",
            "fileHosts": ["public"],
            "timeouts": { "connect": "3s", "firstByte": "10s", "idle": "30s" },
            "maxConcurrent": 64,
            "delivery": "proxy",
            "suspend": false,
            "deletionPolicy": "Retain",
        })
    );
}

#[test]
fn a_partial_block_gets_its_own_defaults_and_null_means_absent() {
    let manifest = remote(json!({
        "type": "npm", "baseURL": "https://h/", "timeouts": { "idle": "5s" }, "auth": null, "delivery": null,
    }));
    let checked = Kind::Remote.schema().check(manifest, None);
    assert_eq!(checked.errors, []);
    assert_eq!(
        checked.manifest["spec"]["timeouts"],
        json!({ "connect": "3s", "firstByte": "10s", "idle": "5s" })
    );
    assert_eq!(checked.manifest["spec"]["delivery"], "proxy");
}

#[test]
fn the_type_of_a_stored_repository_cannot_change() {
    let old = remote(json!({ "type": "npm", "baseURL": "https://h/" }));
    let same = remote(json!({ "type": "npm", "baseURL": "https://other/" }));
    let changed = remote(json!({ "type": "pypi", "baseURL": "https://h/" }));
    let schema = Kind::Remote.schema();
    assert_eq!(schema.check(same, Some(&old)).errors, []);
    let errors = schema.check(changed.clone(), Some(&old)).errors;
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].path.as_str(), errors[0].rule.as_ref()), ("spec.type", "self == oldSelf"));
    assert_eq!(schema.check(changed, None).errors, []);
}

#[test]
fn rs_37_no_message_repeats_a_value() {
    let canary = "hunter2";
    let manifest = remote(json!({
        "type": canary,
        "baseURL": format!("https://user:{canary}@h/"),
        "mutableTTL": canary,
        "fileHosts": canary,
        "auth": { "secretRef": { "name": format!("{canary}!") } },
        "egress": { "proxyURL": format!("ftp://{canary}"), "allowCIDRs": [canary] },
        "maxConcurrent": canary,
    }));
    let errors = Kind::Remote.schema().check(manifest, None).errors;
    assert!(errors.len() >= 7, "{errors:#?}");
    for error in errors {
        assert!(!error.to_string().contains(canary), "{error}");
    }
}
