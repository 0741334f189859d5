//! The local schema check: what an API server would do with a manifest, without one.
//!
//! [`KindSchema::check`] runs in the API server's order: structure and limits, defaults, CEL rules. It differs
//! in one point: a field the schema does not know is an error, where an API server drops it with a warning,
//! because a standalone manifest has nobody to warn but its author.

use std::sync::LazyLock;

use artifactapi_model::PackageType;
use kube::{
    CustomResourceExt,
    core::{
        Rule,
        cel::{CompiledSchema, ErrorKind, Validator, apply_defaults, compile_schema},
    },
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::{FieldError, Local, Remote, Robot, Virtual};

mod keys;
mod structure;
#[cfg(test)]
mod tests;
mod unknown;

/// A repository name: a DNS label (RFC 1123).
pub const NAME: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";

const NAME_RULE: &str =
    "self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && size(self.metadata.name) <= 63";

/// The rule on `metadata.name` that all kinds share: names are URL segments.
pub(crate) fn name_rule() -> Rule {
    Rule::new(NAME_RULE).message(
        "metadata.name must be 1 to 63 characters a-z, 0-9 and '-', first and last a letter or digit",
    )
}

/// The rule that a repository keeps its type: its cached or pushed bytes mean nothing to another.
pub(crate) fn immutable_type_rule() -> Rule {
    Rule::new("self == oldSelf")
        .message("the type of a repository cannot be changed: delete it and create another")
}

/// Schema of `spec.type`.
pub(crate) fn package_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": PackageType::ALL.map(PackageType::as_str) })
}

/// The custom resource kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named after the kinds")]
pub enum Kind {
    Remote,
    Virtual,
    Local,
    Robot,
}

impl Kind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Kind; 4] = [Kind::Remote, Kind::Virtual, Kind::Local, Kind::Robot];

    /// The kind as manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Remote => "Remote",
            Kind::Virtual => "Virtual",
            Kind::Local => "Local",
            Kind::Robot => "Robot",
        }
    }

    /// Whether objects of this kind are repositories, which share one space of names.
    pub fn is_repository(self) -> bool {
        self != Kind::Robot
    }

    /// The kind's schema, built on first use.
    pub fn schema(self) -> &'static KindSchema {
        static SCHEMAS: LazyLock<[KindSchema; 4]> = LazyLock::new(|| {
            [
                KindSchema::of::<Remote>(),
                KindSchema::of::<Virtual>(),
                KindSchema::of::<Local>(),
                KindSchema::of::<Robot>(),
            ]
        });
        &SCHEMAS[self as usize]
    }
}

/// The compiled schema of one kind.
#[derive(Debug)]
pub struct KindSchema {
    openapi: Value,
    structure: jsonschema::Validator,
    rules: CompiledSchema,
}

/// A manifest after the check.
#[derive(Debug)]
pub struct Checked {
    /// The manifest with the schema's defaults; nulls are gone.
    pub manifest: Value,
    /// Everything that is wrong, in the order of the stages; at most one stage speaks for a path.
    pub errors: Vec<FieldError>,
}

impl KindSchema {
    /// Compiles the schema of `K`'s one version.
    fn of<K: CustomResourceExt>() -> Self {
        let openapi = K::crd()
            .spec
            .versions
            .into_iter()
            .find_map(|version| version.schema?.open_api_v3_schema)
            .and_then(|schema| serde_json::to_value(schema).ok())
            .unwrap_or_default();
        // The types are fixed at compile time, and tests build all four.
        let structure = structure::compile(&openapi).expect("a derived schema is a valid JSON schema");
        KindSchema { rules: compile_schema(&openapi), structure, openapi }
    }

    /// The OpenAPI v3 schema, as in the CRD.
    pub fn openapi(&self) -> &Value {
        &self.openapi
    }

    /// Checks `manifest`; transition rules run when `old`, the stored object, is given.
    pub fn check(&self, mut manifest: Value, old: Option<&Value>) -> Checked {
        unknown::drop_nulls(&mut manifest);
        let mut errors = unknown::envelope(&manifest);
        errors.extend(unknown::fields(&self.openapi, &manifest));
        errors.extend(structure::errors(&self.structure, &manifest));
        errors.extend(keys::duplicates(&self.openapi, &manifest));
        let manifest = apply_defaults(&self.openapi, &manifest);
        let by_rules = self.broken_rules(&manifest, old, errors.is_empty());
        add_unless_known(&mut errors, by_rules);
        Checked { manifest, errors }
    }

    /// CEL rules that do not hold. A rule that cannot be evaluated counts only where the `structure_holds`:
    /// otherwise it merely stumbles over what is reported already.
    fn broken_rules(&self, manifest: &Value, old: Option<&Value>, structure_holds: bool) -> Vec<FieldError> {
        let Err(broken) = Validator::new().validate_compiled(&self.rules, manifest, old) else {
            return Vec::new();
        };
        broken
            .into_iter()
            .filter(|error| structure_holds || error.kind == ErrorKind::ValidationFailure)
            .map(|error| FieldError {
                path: if error.rule == NAME_RULE {
                    "metadata.name".into()
                } else {
                    trimmed(error.field_path)
                },
                rule: error.rule.into(),
                message: error.message,
            })
            .collect()
    }
}

/// A rule at the root may give its field path with a leading dot.
fn trimmed(path: String) -> String {
    path.strip_prefix('.').map(str::to_owned).unwrap_or(path)
}

/// Adds the errors of a later stage, except on paths that an earlier stage has spoken about.
pub(crate) fn add_unless_known(errors: &mut Vec<FieldError>, later: Vec<FieldError>) {
    let known = errors.len();
    for error in later {
        if !errors[..known].iter().any(|earlier| earlier.path == error.path) {
            errors.push(error);
        }
    }
}
