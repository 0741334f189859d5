//! Structure and limits by the JSON schema, in words for the manifest's author.

use std::fmt::Write;

use jsonschema::{
    error::{TypeKind, ValidationErrorKind},
    paths::{Location, LocationSegment},
};
use serde_json::Value;

use super::NAME;
use crate::{FieldError, duration, quantity, remotes::HOST};

/// The part of an API server's schema language that a JSON schema validator does not know, in its words.
pub(super) fn compile(
    openapi: &Value,
) -> Result<jsonschema::Validator, jsonschema::ValidationError<'static>> {
    let mut schema = openapi.clone();
    spell_out(&mut schema);
    jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex()).build(&schema)
}

fn spell_out(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("x-kubernetes-int-or-string") {
                fields.insert("type".to_owned(), serde_json::json!(["integer", "string"]));
            }
            if fields.get("x-kubernetes-list-type").is_some_and(|kind| kind == "set") {
                fields.insert("uniqueItems".to_owned(), Value::Bool(true));
            }
            fields.values_mut().for_each(spell_out);
        }
        Value::Array(items) => items.iter_mut().for_each(spell_out),
        _ => {}
    }
}

/// Every violation of `schema` in `manifest`. Messages never repeat a value: it might be a password that
/// somebody has put into a URL.
pub(super) fn errors(schema: &jsonschema::Validator, manifest: &Value) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        schema.iter_errors(manifest).map(|error| in_our_words(&error)).collect();
    // Of a number where a name is expected, only the names are worth telling.
    let named: Vec<String> =
        errors.iter().filter(|error| error.rule == "enum").map(|error| error.path.clone()).collect();
    errors.retain(|error| error.rule != "type" || !named.contains(&error.path));
    errors
}

fn in_our_words(error: &jsonschema::ValidationError<'_>) -> FieldError {
    let mut path = field_path(error.instance_path());
    if let ValidationErrorKind::Required { property } = error.kind() {
        push_property(&mut path, property.as_str().unwrap_or_default());
    }
    let message = message(error.kind(), error.instance());
    FieldError { path, rule: error.kind().keyword().to_owned().into(), message }
}

fn field_path(location: &Location) -> String {
    let mut path = String::new();
    for segment in location {
        match segment {
            LocationSegment::Property(name) => push_property(&mut path, &name),
            LocationSegment::Index(index) => {
                let _ = write!(path, "[{index}]");
            }
        }
    }
    path
}

fn push_property(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

fn message(kind: &ValidationErrorKind, value: &Value) -> String {
    use ValidationErrorKind as K;
    match kind {
        K::Required { .. } => "is required".into(),
        K::Type { kind } => wrong_type(kind, value),
        K::Enum { options } => format!("must be one of {}", listed(options)),
        K::Pattern { pattern } => in_words(pattern),
        K::MinLength { .. } | K::MinItems { limit: 1 } => "must not be empty".into(),
        K::MinItems { limit } => format!("must have at least {limit} entries"),
        K::UniqueItems => "must not hold an entry twice".into(),
        K::MaxLength { limit } => format!("must have at most {limit} characters"),
        K::MaxItems { limit } => format!("must have at most {limit} entries"),
        K::Minimum { limit } => format!("must be at least {limit}"),
        K::Maximum { limit } => format!("must be at most {limit}"),
        other => format!("breaks the schema's {}", other.keyword()),
    }
}

/// What our own patterns mean.
fn in_words(pattern: &str) -> String {
    match pattern {
        duration::PATTERN => {
            "must be a duration in h, m, s or ms, as 90s, 5m or 1h30m (there are no days: write 720h for 30)"
                .into()
        }
        quantity::PATTERN => "must be a number of bytes, or a quantity such as 500Mi or 10Gi".into(),
        HOST => "must be a host or host:port in lower case, without scheme and path".into(),
        NAME => "must be characters a-z, 0-9 and '-', first and last a letter or digit".into(),
        other => format!("must match {other}"),
    }
}

fn wrong_type(kind: &TypeKind, value: &Value) -> String {
    let wanted = match kind {
        TypeKind::Single(single) => single.to_string(),
        TypeKind::Multiple(several) => {
            several.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" or ")
        }
    };
    match (wanted.as_str(), value) {
        ("string", Value::Number(_) | Value::Bool(_)) => "must be a string; put it in quotes".into(),
        ("array", _) => "must be a list".into(),
        ("object", _) => "must be a map of fields".into(),
        ("integer", _) => "must be a whole number".into(),
        _ => format!("must be a {wanted}"),
    }
}

fn listed(options: &Value) -> String {
    let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = options.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    names.join(", ")
}
