//! Manifests as tests need them. JSON is YAML, so they are made as values and never as text with holes.

use artifactapi_model::PackageType;
use serde_json::{Map, Value, json};

use crate::Upstream;

/// A Remote manifest in front of a loopback upstream.
#[derive(Clone, Debug)]
pub struct RemoteManifest {
    name: String,
    spec: Map<String, Value>,
}

impl RemoteManifest {
    /// `name` of `package_type` in front of `upstream`, which it may reach although it is on loopback.
    pub fn new(name: &str, package_type: PackageType, upstream: &Upstream) -> Self {
        Self::at(name, package_type, &upstream.url())
    }

    /// The same in front of any URL.
    pub fn at(name: &str, package_type: PackageType, base_url: &str) -> Self {
        let spec = Map::from_iter([
            ("type".to_owned(), json!(package_type.as_str())),
            ("baseURL".to_owned(), json!(base_url)),
            ("egress".to_owned(), json!({ "allowCIDRs": ["127.0.0.0/8"] })),
        ]);
        RemoteManifest { name: name.to_owned(), spec }
    }

    /// Sets a field of the spec.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.spec.insert(field.to_owned(), value.into());
        self
    }

    /// Sets every field of `fields`.
    #[must_use]
    pub fn set_all(mut self, fields: &Value) -> Self {
        self.spec.extend(fields.as_object().cloned().unwrap_or_default());
        self
    }

    /// The document.
    pub fn document(&self) -> String {
        let manifest = json!({
            "apiVersion": "artifactapi.io/v1alpha1",
            "kind": "Remote",
            "metadata": { "name": self.name },
            "spec": self.spec,
        });
        format!("{manifest}\n")
    }
}

/// A Virtual document over `members`, with more fields of its spec.
pub fn united(name: &str, package_type: PackageType, members: &[&str], spec: &Value) -> String {
    let mut fields = json!({ "type": package_type.as_str(), "members": members });
    if let (Some(fields), Some(more)) = (fields.as_object_mut(), spec.as_object()) {
        fields.extend(more.clone());
    }
    let metadata = json!({ "name": name });
    let manifest = json!({ "apiVersion": "artifactapi.io/v1alpha1", "kind": "Virtual", "metadata": metadata, "spec": fields });
    format!("{manifest}\n")
}

/// A Secret document with plain strings.
pub fn secret(name: &str, data: &Value) -> String {
    let manifest =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
    format!("{manifest}\n")
}

/// Several documents as one file.
pub fn join(documents: &[String]) -> String {
    documents.join("---\n")
}
