//! `Range` against a model that goes over the body byte by byte (RS-14).
#![no_main]

#[path = "../../../proxy/server/src/http/range.rs"]
#[allow(dead_code)]
mod range;

use range::{MAX_RANGES, Selection, Span, select};

/// The bytes that each piece of `header` asks for, by the grammar of RFC 9110, 14.1.1; `None` where the header
/// is to be ignored.
fn model(header: &str, size: u64) -> Option<Vec<Vec<u64>>> {
    let (unit, list) = header.split_once('=')?;
    if unit.trim().to_ascii_lowercase() != "bytes" {
        return None;
    }
    let members: Vec<&str> =
        list.split(',').map(|m| m.trim_matches([' ', '\t'])).filter(|m| !m.is_empty()).collect();
    if members.is_empty() || members.len() > MAX_RANGES {
        return None;
    }
    members
        .into_iter()
        .map(|member| {
            let dash = member.find('-')?;
            let (first, last) = (&member[..dash], &member[dash + 1..]);
            if first.is_empty() && last.is_empty()
                || !(first.to_owned() + last).bytes().all(|b| b.is_ascii_digit())
            {
                return None;
            }
            // Beyond 128 bits all numbers are alike: larger than any body.
            let number = |digits: &str| digits.parse().unwrap_or(u128::MAX);
            if !first.is_empty() && !last.is_empty() && digits_exceed(first, last) {
                return None;
            }
            Some(
                (0..size)
                    .filter(|at| {
                        let at = u128::from(*at);
                        match (first, last) {
                            ("", length) => at + number(length).min(u128::from(size)) >= u128::from(size),
                            (first, "") => at >= number(first),
                            (first, last) => at >= number(first) && at <= number(last),
                        }
                    })
                    .collect(),
            )
        })
        .collect()
}

/// Whether the number `a` is larger than `b`, for numbers of any length that a body may have; those beyond 64
/// bits count as one.
fn digits_exceed(a: &str, b: &str) -> bool {
    let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
    number(a) > number(b)
}

libfuzzer_sys::fuzz_target!(|input: (u8, &str)| {
    let (size, header) = (u64::from(input.0), input.1);
    for header in [header.to_owned(), format!("bytes={header}")] {
        let bytes = |span: &Span| (span.start..span.end).collect::<Vec<u64>>();
        let kept = model(&header, size)
            .map(|pieces| pieces.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>());
        let selected = select(&header, size);
        match (&selected, kept) {
            (Selection::Whole, None) => {}
            (Selection::Whole, Some(kept)) => {
                assert!(
                    kept.len() > 1 && kept.iter().map(Vec::len).sum::<usize>() as u64 > size,
                    "{header}: {kept:?}"
                );
            }
            (Selection::Unsatisfiable, Some(kept)) => assert!(kept.is_empty(), "{header}: {kept:?}"),
            (Selection::One(span), Some(kept)) => assert_eq!(kept, [bytes(span)], "{header}"),
            (Selection::Many(spans), Some(kept)) => {
                assert!((2..=MAX_RANGES).contains(&spans.len()));
                assert_eq!(kept, spans.iter().map(bytes).collect::<Vec<_>>(), "{header}");
            }
            (selected, None) => panic!("{header} is to be ignored, not {selected:?}"),
        }
        // Sizes near the largest number keep to the same rules.
        for size in [u64::MAX, u64::MAX - 1] {
            if let Selection::One(span) = select(&header, size) {
                assert!(span.start < span.end && span.end <= size);
                assert!(span.content_range(size).ends_with(&format!("/{size}")));
            }
        }
    }
});
