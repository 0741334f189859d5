//! Lists that are maps by a key (`x-kubernetes-list-type: map`): an API server takes no key twice.

use serde_json::Value;

use crate::FieldError;

/// Every entry of `manifest` whose keys an earlier one of its list has.
pub(super) fn duplicates(openapi: &Value, manifest: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(openapi, manifest, "", &mut errors);
    errors
}

fn walk(schema: &Value, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object()) {
        for (name, field) in fields {
            let Some(schema) = properties.get(name) else { continue };
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(schema, field, &path, errors);
        }
    }
    let Some(items) = value.as_array() else { return };
    let is_map = schema["x-kubernetes-list-type"] == "map";
    let keys = schema["x-kubernetes-list-map-keys"].as_array().filter(|_| is_map);
    let names: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let has = |name: &&str| item.get(name).is_some();
        let is_same =
            |earlier: &Value| names.iter().all(|name| has(name) && earlier.get(name) == item.get(name));
        if let Some(first) = names.first().filter(|_| items[..index].iter().any(is_same)) {
            let message = "has an entry already: put everything into one";
            errors.push(FieldError::new(format!("{path}.{first}"), "duplicate", message));
        }
        walk(&schema["items"], item, &path, errors);
    }
}
