//! Manifests that must be refused, each with the field and the rule that its author is told (RS-132). One table for
//! every entrance: standalone manifests here, an API server and the operator in the end-to-end tests.

mod others;
mod remotes;

use serde_json::{Value, json};

use crate::schema::Kind;

/// Namespace of the bad manifests and their neighbours.
pub const NAMESPACE: &str = "team";
/// Name of a bad manifest whose name is not what is bad about it.
pub const NAME: &str = "x";

/// A spec, and the field and the beginning of the rule that it breaks.
type Case = (Value, &'static str, &'static str);

/// One bad manifest.
#[derive(Clone, Debug)]
pub struct Bad {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
    /// `spec`.
    pub spec: Value,
    /// Path of the field that is blamed.
    pub field: &'static str,
    /// How the broken rule begins, as [`crate::FieldError::rule`] gives it.
    pub rule: &'static str,
    /// Whether nothing else is wrong with it.
    pub alone: bool,
}

impl Bad {
    /// The manifest.
    pub fn manifest(&self) -> Value {
        manifest(self.kind, NAMESPACE, &self.name, &self.spec)
    }
}

/// All of them.
pub fn manifests() -> Vec<Bad> {
    let of = |kind: Kind, alone: bool, cases: Vec<Case>| {
        let bad = move |(spec, field, rule)| Bad { kind, name: NAME.to_owned(), spec, field, rule, alone };
        cases.into_iter().map(bad)
    };
    let sound = json!({ "type": "npm", "baseURL": "https://h/" });
    let names = ["Upper", "under_score", "a.b", "-a", "a-", &"a".repeat(64)].map(|name| Bad {
        kind: Kind::Remote,
        name: name.to_owned(),
        spec: sound.clone(),
        field: "metadata.name",
        rule: "",
        alone: true,
    });
    of(Kind::Remote, true, remotes::structure())
        .chain(of(Kind::Remote, true, remotes::rules()))
        .chain(of(Kind::Remote, false, remotes::of_many_faults()))
        .chain(of(Kind::Virtual, true, others::virtuals()))
        .chain(of(Kind::Virtual, false, others::virtuals_of_many_faults()))
        .chain(of(Kind::Local, true, others::locals()))
        .chain(of(Kind::Robot, true, others::robots()))
        .chain(names)
        .collect()
}

/// Sound manifests that stand beside a bad one: what it names, or wrongly names. `loop` alone misses its member.
pub fn neighbours() -> Vec<Value> {
    let remote = |namespace: &str, name: &str, package_type: &str| {
        let spec = json!({ "type": package_type, "baseURL": "https://h/" });
        manifest(Kind::Remote, namespace, name, &spec)
    };
    let of = |member: &str| json!({ "type": "npm", "members": [member] });
    vec![
        remote(NAMESPACE, "npm", "npm"),
        remote(NAMESPACE, "pypi", "pypi"),
        remote(NAMESPACE, "d", "docker"),
        remote(NAMESPACE, "origin", "terraform"),
        manifest(Kind::Local, NAMESPACE, "pushed", &json!({ "type": "terraform" })),
        manifest(Kind::Virtual, NAMESPACE, "inner", &of("npm")),
        remote("elsewhere", "far", "npm"),
        manifest(Kind::Virtual, NAMESPACE, "loop", &of(NAME)),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "empty", "namespace": NAMESPACE } }),
    ]
}

fn manifest(kind: Kind, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "artifactapi.io/v1alpha1",
        "kind": kind.as_str(),
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    })
}

fn merged(mut spec: Value, wrong: Value) -> Value {
    if let (Some(fields), Value::Object(wrong)) = (spec.as_object_mut(), wrong) {
        fields.extend(wrong);
    }
    spec
}
