//! What an API server does before it looks at a schema: nulls, the envelope, unknown fields.

use serde_json::{Map, Value};

use crate::FieldError;

/// Removes every null from an object: an API server drops them too, so that `auth:` with nothing behind it
/// means the same as no `auth`.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Errors in `metadata`, which CRD schemas leave to the API server.
pub(super) fn envelope(manifest: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = manifest.get("metadata").and_then(Value::as_object);
    match metadata.and_then(|fields| fields.get("name")) {
        None => errors.push(FieldError::new("metadata.name", "required", "is required")),
        Some(name) if !name.is_string() => {
            errors.push(FieldError::new("metadata.name", "type", "must be a string; put it in quotes"));
        }
        Some(_) => {}
    }
    if let Some(namespace) = metadata.and_then(|fields| fields.get("namespace")) {
        let valid =
            namespace.as_str().is_some_and(|text| artifactapi_model::RepoName::try_from(text).is_ok());
        if !valid {
            errors.push(FieldError::new(
                "metadata.namespace",
                "pattern",
                "must be 1 to 63 characters a-z, 0-9 and '-', first and last a letter or digit",
            ));
        }
    }
    errors
}

/// Fields that every object has, and no CRD schema declares.
const ENVELOPE: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Fields of `manifest` that `schema` does not know.
pub(super) fn fields(schema: &Value, manifest: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, manifest, "", &mut errors);
    errors.retain(|error| !ENVELOPE.contains(&error.path.as_str()));
    errors
}

fn walk(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.get(name) {
                    Some(schema) => walk(schema, field, &path, errors),
                    None => {
                        errors.push(FieldError::new(path.clone(), "unknownField", hint(&path, name, known)))
                    }
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                walk(schema, item, &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

fn hint(path: &str, name: &str, known: &Map<String, Value>) -> String {
    if name == "namespace" && path.contains("Ref.") {
        return "there is no such field: a reference never leaves the object's own namespace (RS-39)".into();
    }
    if let Some(meant) = known.keys().find(|field| field.eq_ignore_ascii_case(name)) {
        return format!("there is no such field; {meant} is written so");
    }
    let known: Vec<&str> = known.keys().map(String::as_str).collect();
    format!("there is no such field; here are: {}", known.join(", "))
}
