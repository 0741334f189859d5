//! Canonical queries: allow-listed parameters, in the order of the allow list, percent-encoded.
//!
//! Everything else a client writes behind `?` is ignored and never reaches the key or upstream (RS-22).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

use crate::PlanError;

/// Longest accepted value, in bytes.
pub(crate) const MAX_VALUE: usize = 2048;

/// RFC 3986 `unreserved` and the comma, which lists of field names use.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b',');

/// The canonical form of `query` (raw, without `?`): parameters named in `allowed`, in that order, each
/// once. Of a repeated one the last counts, as servers on Rack and PHP read it.
///
/// # Errors
/// [`PlanError::Query`] for a value with control characters or longer than [`MAX_VALUE`].
pub(crate) fn canonical(query: &str, allowed: &[&'static str]) -> Result<String, PlanError> {
    canonical_with(query, allowed, |_, value| value)
}

/// As [`canonical`], with each value passed through `normalize(name, value)` first.
pub(crate) fn canonical_with(
    query: &str,
    allowed: &[&'static str],
    normalize: impl Fn(&str, String) -> String,
) -> Result<String, PlanError> {
    if query.is_empty() {
        return Ok(String::new());
    }
    let mut values: Vec<Option<String>> = vec![None; allowed.len()];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if let Some(at) = allowed.iter().position(|known| *known == name) {
            values[at] = Some(value.into_owned());
        }
    }
    let mut out = String::new();
    for (name, value) in allowed.iter().zip(values) {
        let Some(value) = value else { continue };
        if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            return Err(PlanError::Query(name));
        }
        let separator = if out.is_empty() { "" } else { "&" };
        let value = normalize(name, value);
        out.push_str(&format!("{separator}{name}={}", utf8_percent_encode(&value, VALUE)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_22_only_listed_parameters_in_one_order_and_spelling() {
        for (query, want) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=1&x=2&a=3", "a=3"),
            ("a=x+y%2Cz", "a=x%20y,z"),
            ("a=x%20y,z", "a=x%20y,z"),
            ("a=%26b%3D1", "a=%26b%3D1"),
            ("a", "a="),
            ("&&=&c", ""),
        ] {
            assert_eq!(canonical(query, &["a", "b"]).unwrap(), want, "{query}");
        }
        assert_eq!(canonical("a=%0d%0a", &["a"]), Err(PlanError::Query("a")));
        assert_eq!(
            canonical(&format!("a={}", "x".repeat(MAX_VALUE + 1)), &["a"]),
            Err(PlanError::Query("a"))
        );
        assert_eq!(canonical(&format!("z={}", "x".repeat(MAX_VALUE + 1)), &["a"]).unwrap(), "");
    }
}
