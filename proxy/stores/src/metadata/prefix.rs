//! The range of all texts that begin with a prefix, for indexes that compare bytes.

/// The first text after all that begin with `prefix`; `None` when there is none.
pub(super) fn end_of(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // UTF-8 sorts like its code points; between U+D7FF and U+E000 there are none.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_follows_the_last_continuation() {
        for (prefix, want) in [
            ("a", Some("b")),
            ("a\u{10ffff}", Some("b")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{7f}", Some("a\u{80}")),
            ("", None),
            ("\u{10ffff}\u{10ffff}", None),
        ] {
            assert_eq!(end_of(prefix).as_deref(), want, "{prefix:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_in_the_range_when_it_begins_with_the_prefix(prefix in "[a-b\u{d7ff}\u{e000}\u{10ffff}]{0,3}", text in "[a-b\u{d7ff}\u{e000}\u{10ffff}]{0,5}") {
            let is_inside = text >= prefix && end_of(&prefix).is_none_or(|end| text < end);
            prop_assert_eq!(is_inside, text.starts_with(&prefix));
        }
    }
}
