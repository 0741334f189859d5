//! All texts with a given beginning, as a range that the primary key can walk.

use rusqlite::types::Value;

/// The end of the range that begins with `prefix`: the first text after all its continuations. Texts compare by
/// bytes, which for UTF-8 is by code points. Where no text comes after them it is a blob: SQLite sorts those
/// after every text.
pub(super) fn end(prefix: &str) -> Value {
    let mut left = prefix.to_owned();
    while let Some(last) = left.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            left.push(next);
            return Value::Text(left);
        }
    }
    Value::Blob(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_after_all_continuations_and_nothing_else() {
        for (prefix, want) in [
            ("a", Some("b")),
            ("a/", Some("a0")),
            ("a\u{7f}", Some("a\u{80}")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("a\u{10ffff}\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            let want = want.map_or(Value::Blob(Vec::new()), |text| Value::Text(text.to_owned()));
            assert_eq!(end(prefix), want, "{prefix:?}");
        }
    }
}
