//! Manifest files: a file's text → its documents, each with where it stands.
//!
//! A document that cannot be read costs only itself: files are split at their `---` lines first, so that the
//! others are still served.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    DEFAULT_NAMESPACE, GROUP, VERSION,
    references::{ConfigMap, Secret},
    schema::Kind,
};

mod core;
mod documents;
#[cfg(test)]
mod tests;
mod yaml;

pub use documents::line_of;

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// File name as the caller gave it.
    pub file: String,
    /// Number of the document in its file, from 1; documents without content do not count.
    pub document: usize,
    /// Line of its first content, from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Which object a document speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind, as `Remote`.
    pub kind: &'static str,
    /// Namespace; [`DEFAULT_NAMESPACE`] where the manifest names none.
    pub namespace: String,
    /// Name; empty where the manifest has none.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A document of a known kind.
#[derive(Debug)]
pub struct Manifest {
    /// Where it stands.
    pub origin: Origin,
    /// Its text, for [`line_of`]; empty for Secrets.
    pub text: String,
    /// Which object it is.
    pub object: ObjectRef,
    /// What it says.
    pub body: Body,
}

impl Manifest {
    /// The whole manifest as JSON, which is YAML too: parsed again it is this manifest. That of a Secret holds its
    /// values.
    pub fn to_json(&self) -> String {
        match &self.body {
            Body::Custom(_, value) => value.to_string(),
            Body::Secret(secret) => secret_to_json(&self.object, secret),
            Body::ConfigMap(map) => config_map_to_json(&self.object, map),
        }
    }
}

/// The manifest of a Secret as JSON, with its values.
pub fn secret_to_json(object: &ObjectRef, secret: &Secret) -> String {
    core_to_json(object, json!(secret.encoded()))
}

/// The manifest of a ConfigMap as JSON.
pub fn config_map_to_json(object: &ObjectRef, map: &ConfigMap) -> String {
    core_to_json(object, json!(map.data))
}

fn core_to_json(ObjectRef { kind, namespace, name }: &ObjectRef, data: Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": kind,
        "metadata": { "namespace": namespace, "name": name },
        "data": data,
    })
    .to_string()
}

/// What a document says.
#[derive(Debug)]
pub enum Body {
    /// One of our kinds, unchecked.
    Custom(Kind, Value),
    /// A `v1/Secret`, decoded.
    Secret(Secret),
    /// A `v1/ConfigMap`.
    ConfigMap(ConfigMap),
}

/// Why a document is no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Where it stands; the line is the error's own where the parser knows it.
    pub origin: Origin,
    /// Which object, where the document says so much.
    pub object: Option<ObjectRef>,
    /// Path of the field; empty when the whole document is meant.
    pub field: String,
    /// Rule that is broken: `yaml`, `kind`, `secret`, `configMap`.
    pub rule: &'static str,
    /// A sentence for the author; never a value.
    pub message: String,
}

/// Reads every document of a file. Pure: `file` only names it.
pub fn parse(file: &str, text: &str) -> Vec<Result<Manifest, Box<ManifestError>>> {
    documents(file, text).map(|(origin, text)| read(origin, text)).collect()
}

/// The texts of a file's documents, each with where it stands.
pub(crate) fn documents<'t>(file: &'t str, text: &'t str) -> impl Iterator<Item = (Origin, &'t str)> {
    documents::split(text).enumerate().map(move |(index, document)| {
        (Origin { file: file.to_owned(), document: index + 1, line: document.line }, document.text)
    })
}

/// Reads the document `text` at `origin`.
pub(crate) fn read(origin: Origin, text: &str) -> Result<Manifest, Box<ManifestError>> {
    let value = yaml::read(text).map_err(|error| {
        Box::new(ManifestError {
            // A line within the document, made one of the file.
            origin: Origin { line: origin.line + error.line.saturating_sub(1), ..origin.clone() },
            object: None,
            field: String::new(),
            rule: "yaml",
            message: error.message,
        })
    })?;
    let fail = |object: Option<ObjectRef>, field: &str, rule, message| {
        Box::new(ManifestError { origin: origin.clone(), object, field: field.to_owned(), rule, message })
    };
    let known = KnownKind::of(&value).map_err(|(field, message)| fail(None, field, "kind", message))?;
    let object = known.object(&value);
    let body = match known {
        KnownKind::Custom(kind) => Body::Custom(kind, value),
        KnownKind::Secret | KnownKind::ConfigMap if object.name.is_empty() => {
            return Err(fail(Some(object), "metadata.name", "required", "is required".into()));
        }
        KnownKind::Secret => Body::Secret(
            core::secret(&value)
                .map_err(|(field, message)| fail(Some(object.clone()), &field, "secret", message))?,
        ),
        KnownKind::ConfigMap => Body::ConfigMap(
            core::config_map(&value)
                .map_err(|(field, message)| fail(Some(object.clone()), &field, "configMap", message))?,
        ),
    };
    let text = if matches!(body, Body::Secret(_)) { String::new() } else { text.to_owned() };
    Ok(Manifest { origin, text, object, body })
}

#[derive(Clone, Copy)]
enum KnownKind {
    Custom(Kind),
    Secret,
    ConfigMap,
}

impl KnownKind {
    fn of(manifest: &Value) -> Result<Self, (&'static str, String)> {
        let field = |name| manifest.get(name).and_then(Value::as_str);
        let known = "Remote, Virtual, Local and Robot of artifactapi.io/v1alpha1, Secret and ConfigMap of v1";
        let Some(kind) = field("kind") else {
            return Err(("kind", format!("is required; known are {known}")));
        };
        let Some(version) = field("apiVersion") else {
            return Err(("apiVersion", format!("is required; known are {known}")));
        };
        let ours = format!("{GROUP}/{VERSION}");
        let (wanted, found) = match (kind, Kind::ALL.into_iter().find(|ours| ours.as_str() == kind)) {
            (_, Some(kind)) => (ours.as_str(), KnownKind::Custom(kind)),
            ("Secret", _) => ("v1", KnownKind::Secret),
            ("ConfigMap", _) => ("v1", KnownKind::ConfigMap),
            _ => return Err(("kind", format!("{kind:?} is not a known kind; known are {known}"))),
        };
        if version == wanted {
            Ok(found)
        } else {
            Err(("apiVersion", format!("must be {wanted} for kind {kind}")))
        }
    }

    fn object(self, manifest: &Value) -> ObjectRef {
        let kind = match self {
            KnownKind::Custom(kind) => kind.as_str(),
            KnownKind::Secret => "Secret",
            KnownKind::ConfigMap => "ConfigMap",
        };
        let field = |name| manifest.pointer(name).and_then(Value::as_str);
        ObjectRef {
            kind,
            namespace: field("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            name: field("/metadata/name").unwrap_or_default().to_owned(),
        }
    }
}
