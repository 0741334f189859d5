//! YAML text → JSON, strictly: no duplicate keys, no tags, no keys that are not text.

use serde_json::{Map, Number, Value};

/// What is wrong with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    /// Line in the document, from 1; 0 when unknown.
    pub(super) line: usize,
    /// Cause, without any value.
    pub(super) message: String,
}

/// Reads one document. The tree of YAML's own values is made first, since it is what refuses duplicate keys.
pub(super) fn read(text: &str) -> Result<Value, YamlError> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| YamlError {
        line: error.location().map_or(0, |location| location.line()),
        message: format!("is not valid YAML: {}", without_quotes(&error.to_string())),
    })?;
    let json = to_json(value).map_err(|message| YamlError { line: 0, message: message.into() })?;
    if json.is_object() {
        Ok(json)
    } else {
        Err(YamlError {
            line: 0,
            message: "is not a manifest: a map with apiVersion and kind is expected".into(),
        })
    }
}

/// `message` without what it quotes of the document, which may be the value of a Secret (RS-37): from the first
/// quotation mark to the last, so that marks within the quotation change nothing.
fn without_quotes(message: &str) -> String {
    const MARKS: [char; 2] = ['"', '`'];
    match (message.find(MARKS), message.rfind(MARKS)) {
        (Some(first), Some(last)) if first < last => {
            format!("{}…{}", &message[..first], &message[last + 1..])
        }
        _ => message.to_owned(),
    }
}

fn to_json(value: serde_yaml::Value) -> Result<Value, &'static str> {
    use serde_yaml::Value as Y;
    Ok(match value {
        Y::Null => Value::Null,
        Y::Bool(flag) => Value::Bool(flag),
        Y::Number(number) => Value::Number(to_number(&number)?),
        Y::String(text) => Value::String(text),
        Y::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Y::Mapping(fields) => {
            let mut object = Map::with_capacity(fields.len());
            for (key, field) in fields {
                let Y::String(key) = key else {
                    return Err("has a key that is not text: put numbers, yes and no in quotes");
                };
                object.insert(key, to_json(field)?);
            }
            Value::Object(object)
        }
        Y::Tagged(_) => return Err("has a YAML tag (!...), which manifests do not know"),
    })
}

fn to_number(number: &serde_yaml::Number) -> Result<Number, &'static str> {
    if let Some(unsigned) = number.as_u64() {
        return Ok(unsigned.into());
    }
    if let Some(signed) = number.as_i64() {
        return Ok(signed.into());
    }
    number.as_f64().and_then(Number::from_f64).ok_or("has a number that is infinite or none")
}
