//! Bad manifests: the field and the rule that an author is told.

use super::*;
use crate::bad;

#[test]
fn rs_132_bad_manifests_are_refused() {
    let text = |manifest: &Value| format!("---\n{}", serde_yaml::to_string(manifest).unwrap());
    let neighbours: String = bad::neighbours().iter().map(text).collect();
    let manifests = bad::manifests();
    assert!(manifests.len() >= 40, "{}", manifests.len());
    for bad in manifests {
        let loaded = load(&[("f.yaml", &(neighbours.clone() + &text(&bad.manifest())))]);
        let own: Vec<&Problem> =
            loaded.errors.iter().filter(|p| p.object.as_ref().is_some_and(|o| o.name == bad.name)).collect();
        let told = own.iter().any(|p| p.field == bad.field && p.rule.starts_with(bad.rule));
        assert!(told, "{}: wanted {} [{}], got {own:#?}", bad.spec, bad.field, bad.rule);
        assert!(own.len() == 1 || !bad.alone, "{}: {own:#?}", bad.spec);
        assert!(own.iter().all(|problem| !problem.message.is_empty()));
        let sound = loaded.remotes.len() + loaded.virtuals.len();
        assert!(sound >= 5, "{}: its neighbours are loaded: {:#?}", bad.spec, loaded.errors);
    }
}

#[test]
fn rs_39_a_reference_to_another_namespace_is_refused() {
    let spec = json!({
        "type": "npm", "baseURL": "https://h/",
        "auth": { "secretRef": { "name": "s", "namespace": "other" } },
    });
    let loaded = load(&[("f.yaml", &document("Remote", "team", "x", &spec))]);
    let problem = &loaded.errors[0];
    assert_eq!(
        (problem.field.as_str(), problem.rule.as_str()),
        ("spec.auth.secretRef.namespace", "unknownField")
    );
    assert!(problem.message.contains("never leaves"), "{problem}");
    assert!(loaded.remotes.is_empty());
}

#[test]
fn what_has_no_usable_name_is_refused() {
    let loaded = load(&[(
        "f.yaml",
        "kind: Remote\napiVersion: artifactapi.io/v1alpha1\nspec: {type: npm, baseURL: 'https://h'}",
    )]);
    assert_eq!(found(&loaded), [("metadata.name", "required")]);
    let spec = json!({ "type": "npm", "baseURL": "https://h/" });
    let loaded = load(&[("f.yaml", &document("Remote", "Team!", "x", &spec))]);
    assert_eq!(found(&loaded), [("metadata.namespace", "pattern")]);
}
