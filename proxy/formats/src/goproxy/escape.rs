//! Module paths and versions as they travel: golang.org/x/mod/module, "Escaped Paths".

/// Whether `text` is an escaped module path: ASCII elements of letters, digits and `-._~`, each upper-case
/// letter as `!` and the lower-case one.
pub(super) fn is_module(text: &str) -> bool {
    is_escaped(text)
        && text.split('/').all(|element| {
            !element.is_empty() && element.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!".contains(&b))
        })
}

/// Whether `text` is an escaped version or version query (`master`, `v1`, a commit): one path segment without
/// `@`, which separates module and version in a lookup.
pub(super) fn is_version(text: &str) -> bool {
    !text.is_empty() && is_escaped(text) && !text.contains(['/', '@'])
}

fn is_escaped(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'!' => bytes.next().is_some_and(|b| b.is_ascii_lowercase()),
            _ => byte.is_ascii_graphic() && !byte.is_ascii_uppercase(),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Whether an escaped version is canonical: a complete semantic version with `v`, without build metadata
/// other than `+incompatible`. Only such a version names one state for ever.
pub(super) fn is_canonical(version: &str) -> bool {
    let Some(version) = version.strip_prefix('v') else { return false };
    let version = version.strip_suffix("+incompatible").unwrap_or(version);
    let (core, pre) = match version.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (version, None),
    };
    let mut numbers = core.split('.');
    let complete = (0..3).all(|_| numbers.next().is_some_and(is_number)) && numbers.next().is_none();
    complete && pre.is_none_or(|pre| pre.split('.').all(is_identifier))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0')) && !text.is_empty()
}

/// A pre-release identifier; a purely numeric one has no leading zero. The `!` of an escape may stand in it.
fn is_identifier(text: &str) -> bool {
    let numeric = text.bytes().all(|b| b.is_ascii_digit());
    if numeric {
        is_number(text)
    } else {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-!".contains(&b))
    }
}

/// Escapes a module path or version as Go prints it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(c.to_ascii_lowercase());
    }
    escaped
}
