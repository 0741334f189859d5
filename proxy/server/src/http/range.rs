//! `Range` → the pieces of a body to send (RFC 9110, section 14). Pure.

/// Most ranges answered as such; a request for more gets the whole body (RS-14).
pub const MAX_RANGES: usize = 16;

/// One piece of a body, in bytes: `start..end`, never empty, never beyond the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Span {
    /// Its length in bytes, at least 1.
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// The value of `Content-Range` in a body of `size` bytes.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.end - 1)
    }
}

/// What a `Range` header asks of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it: no range, one we need not understand, or more than is reasonable.
    Whole,
    /// One piece.
    One(Span),
    /// 2 to [`MAX_RANGES`] pieces, in the order asked for.
    Many(Vec<Span>),
    /// Nothing that the body has: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` header for a body of `size` bytes. A header that is malformed or speaks of
/// another unit is ignored, as the RFC asks; pieces that lie beyond the body are left out. Pieces that add up
/// to more than the body are answered with the body.
pub fn select(header: &str, size: u64) -> Selection {
    let Some(pieces) = parse(header) else { return Selection::Whole };
    let spans: Vec<Span> = pieces.into_iter().filter_map(|piece| piece.within(size)).collect();
    let total = spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.length()));
    match spans.as_slice() {
        [] => Selection::Unsatisfiable,
        [span] => Selection::One(*span),
        _ if total > size => Selection::Whole,
        _ => Selection::Many(spans),
    }
}

/// A piece as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    From(u64),
    FromTo(u64, u64),
    Last(u64),
}

impl Piece {
    fn within(self, size: u64) -> Option<Span> {
        let span = match self {
            Piece::From(start) => Span { start, end: size },
            Piece::FromTo(start, last) => Span { start, end: last.saturating_add(1).min(size) },
            Piece::Last(length) => Span { start: size.saturating_sub(length), end: size },
        };
        (span.start < span.end).then_some(span)
    }
}

/// `None` where the header is to be ignored.
fn parse(header: &str) -> Option<Vec<Piece>> {
    let (unit, list) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut pieces = Vec::new();
    // A list may have empty members (RFC 9110, 5.6.1.2); the header's length bounds how many.
    for text in list.split(',').map(|text| text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty()) {
        if pieces.len() == MAX_RANGES {
            return None;
        }
        pieces.push(piece(text)?);
    }
    (!pieces.is_empty()).then_some(pieces)
}

fn piece(text: &str) -> Option<Piece> {
    let (first, last) = text.split_once('-')?;
    match (first, last) {
        ("", last) => Some(Piece::Last(number(last)?)),
        (first, "") => Some(Piece::From(number(first)?)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Piece::FromTo(first, last))
        }
    }
}

/// Digits only; what does not fit is as good as the largest number.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(start: u64, end: u64) -> Selection {
        Selection::One(Span { start, end })
    }

    #[test]
    fn rs_14_reads_what_clients_send() {
        for (header, size, want) in [
            ("bytes=0-0", 10, one(0, 1)),
            ("bytes=2-5", 10, one(2, 6)),
            ("bytes=5-", 10, one(5, 10)),
            ("bytes=-3", 10, one(7, 10)),
            ("bytes=-30", 10, one(0, 10)),
            ("bytes=0-99999999999999999999999", 10, one(0, 10)),
            ("Bytes=0-1", 10, one(0, 2)),
            ("bytes= 0-1 , ,", 10, one(0, 2)),
            ("bytes=0-1,20-30", 10, one(0, 2)),
            (
                "bytes=0-1,4-5",
                10,
                Selection::Many(vec![Span { start: 0, end: 2 }, Span { start: 4, end: 6 }]),
            ),
            (
                "bytes=4-5,0-1",
                10,
                Selection::Many(vec![Span { start: 4, end: 6 }, Span { start: 0, end: 2 }]),
            ),
            ("bytes=10-", 10, Selection::Unsatisfiable),
            ("bytes=10-20,30-", 10, Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Selection::Unsatisfiable),
            ("bytes=-0", 10, Selection::Unsatisfiable),
            ("bytes=0-", 0, Selection::Unsatisfiable),
            ("bytes=-5", 0, Selection::Unsatisfiable),
        ] {
            assert_eq!(select(header, size), want, "{header} of {size}");
        }
    }

    #[test]
    fn rs_14_ignores_what_is_malformed_or_unreasonable() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "items=0-1",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=0-1;q=1",
            "bytes=0-1,x",
            "bytes=-",
            "bytes=0-6,2-9",
        ] {
            assert_eq!(select(header, 10), Selection::Whole, "{header}");
        }
        let many = |count: usize| {
            let list: Vec<String> = (0..count).map(|i| format!("{0}-{0}", i * 2)).collect();
            select(&format!("bytes={}", list.join(",")), 1000)
        };
        assert!(matches!(many(MAX_RANGES), Selection::Many(spans) if spans.len() == MAX_RANGES));
        assert_eq!(many(MAX_RANGES + 1), Selection::Whole);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn rs_14_agrees_with_a_naive_slice(
            size in 0u64..40,
            asked in prop::collection::vec((0u8..3, 0u64..50, 0u64..50), 1..5),
        ) {
            let body: Vec<u64> = (0..size).collect();
            let mut texts = Vec::new();
            let mut naive: Vec<Vec<u64>> = Vec::new();
            let mut valid = true;
            for (form, a, b) in asked {
                let kept: Vec<u64> = match form {
                    0 => { texts.push(format!("{a}-{b}")); valid &= a <= b;
                           body.iter().copied().filter(|i| (a..=b).contains(i)).collect() }
                    1 => { texts.push(format!("{a}-")); body.iter().copied().filter(|i| *i >= a).collect() }
                    _ => { texts.push(format!("-{a}"));
                           body.iter().copied().skip(body.len().saturating_sub(a as usize)).collect() }
                };
                if !kept.is_empty() { naive.push(kept) }
            }
            let slice = |span: &Span| body[span.start as usize..span.end as usize].to_vec();
            let got = select(&format!("bytes={}", texts.join(",")), size);
            let total: usize = naive.iter().map(Vec::len).sum();
            match got {
                Selection::Whole => prop_assert!(!valid || (naive.len() > 1 && total > body.len())),
                Selection::Unsatisfiable => prop_assert!(valid && naive.is_empty()),
                Selection::One(span) => prop_assert_eq!(vec![slice(&span)], naive),
                Selection::Many(spans) => prop_assert_eq!(spans.iter().map(slice).collect::<Vec<_>>(), naive),
            }
        }

        #[test]
        fn rs_14_never_panics_and_never_exceeds_the_body(header in "(bytes=)?[-0-9, a=]{0,40}|\\PC{0,40}", size: u64) {
            match select(&header, size) {
                Selection::One(span) => prop_assert!(span.start < span.end && span.end <= size),
                Selection::Many(spans) => {
                    prop_assert!((2..=MAX_RANGES).contains(&spans.len()));
                    prop_assert!(spans.iter().all(|span| span.start < span.end && span.end <= size));
                }
                Selection::Whole | Selection::Unsatisfiable => {}
            }
        }
    }

    fn cases() -> u32 {
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
    }
}
