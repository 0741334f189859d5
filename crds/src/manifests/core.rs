//! `v1/Secret` and `v1/ConfigMap` documents.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::references::{ConfigMap, Secret};

/// Field path and message.
type Failure = (String, String);

/// Reads `data` (base64) and `stringData`, which wins as it does in Kubernetes.
pub(super) fn secret(manifest: &Value) -> Result<Secret, Failure> {
    let mut entries = BTreeMap::new();
    for (key, text) in texts(manifest, "data")? {
        // Line breaks are allowed, as in a wrapped block of text.
        let packed: String = text.split_ascii_whitespace().collect();
        let bytes = STANDARD.decode(packed).map_err(|_| {
            (format!("data.{key}"), "is not base64; plain text goes under stringData".to_owned())
        })?;
        entries.insert(key.to_owned(), bytes);
    }
    for (key, text) in texts(manifest, "stringData")? {
        entries.insert(key.to_owned(), text.as_bytes().to_vec());
    }
    Ok(Secret::new(entries))
}

/// Reads `data`; `binaryData` has no use here.
pub(super) fn config_map(manifest: &Value) -> Result<ConfigMap, Failure> {
    let entries = texts(manifest, "data")?;
    Ok(ConfigMap { data: entries.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect() })
}

fn texts<'a>(manifest: &'a Value, field: &str) -> Result<Vec<(&'a str, &'a str)>, Failure> {
    match manifest.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(entries)) => entries
            .iter()
            .map(|(key, value)| match value.as_str() {
                Some(text) => Ok((key.as_str(), text)),
                None => Err((format!("{field}.{key}"), "must be a string; put it in quotes".to_owned())),
            })
            .collect(),
        Some(_) => Err((field.to_owned(), "must be a map of strings".to_owned())),
    }
}
