//! Preconditions: what a client already has (RFC 9110, section 13). Pure.

use std::time::SystemTime;

use http::{HeaderMap, header};

/// The validators of the body at hand.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// Strong entity tag with its quotes; `None` while it is unknown.
    pub etag: Option<&'a str>,
    /// `Last-Modified` as it is sent; empty when there is none.
    pub last_modified: &'a str,
    /// Whether another date than this one is another body's, be it later.
    pub is_dated_exactly: bool,
}

impl Validators<'_> {
    /// Whether the body of the date `modified` was there at `moment`, as far as dates tell.
    fn was_there(&self, modified: SystemTime, moment: SystemTime) -> bool {
        if self.is_dated_exactly { modified == moment } else { modified <= moment }
    }
}

/// What the preconditions of a GET or HEAD come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as usual.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: the client wanted another one.
    Failed,
}

/// Evaluates the preconditions in `headers`, in the RFC's order.
pub fn evaluate(headers: &HeaderMap, validators: Validators<'_>) -> Verdict {
    if headers.contains_key(header::IF_MATCH) {
        if !any(headers, header::IF_MATCH, |tag| strongly_equal(tag, validators.etag)) {
            return Verdict::Failed;
        }
    } else if let Some(limit) = date(headers, header::IF_UNMODIFIED_SINCE)
        && parsed(validators.last_modified).is_some_and(|modified| !validators.was_there(modified, limit))
    {
        return Verdict::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        let held = any(headers, header::IF_NONE_MATCH, |tag| weakly_equal(tag, validators.etag));
        return if held { Verdict::NotModified } else { Verdict::Proceed };
    }
    // The commonest case by far is the very date we sent; it needs no parsing.
    let since = headers.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    match since {
        Some(text) if text == validators.last_modified => Verdict::NotModified,
        Some(text) => match (parsed(text), parsed(validators.last_modified)) {
            (Some(since), Some(modified)) if validators.was_there(modified, since) => Verdict::NotModified,
            _ => Verdict::Proceed,
        },
        None => Verdict::Proceed,
    }
}

/// Whether `Range` may be honoured: without `If-Range` always, else only if it names exactly this body by its
/// strong tag or its exact date.
pub fn range_applies(headers: &HeaderMap, validators: Validators<'_>) -> bool {
    match headers.get(header::IF_RANGE) {
        None => true,
        Some(value) => match value.to_str() {
            Ok(text) => text == validators.last_modified || strongly_equal(text, validators.etag),
            Err(_) => false,
        },
    }
}

fn any(headers: &HeaderMap, name: header::HeaderName, matches: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.trim() == "*" || tags(list).any(&matches))
}

/// Entity tags of a list. Commas may stand inside a tag's quotes.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return None;
        }
        let quote = rest.find('"');
        let end = match quote.and_then(|open| rest[open + 1..].find('"').map(|close| open + close + 2)) {
            Some(end) => end,
            None => rest.find(',').unwrap_or(rest.len()),
        };
        let (tag, after) = rest.split_at(end);
        rest = after;
        Some(tag)
    })
}

fn weakly_equal(tag: &str, etag: Option<&str>) -> bool {
    etag == Some(tag.strip_prefix("W/").unwrap_or(tag))
}

fn strongly_equal(tag: &str, etag: Option<&str>) -> bool {
    etag == Some(tag)
}

fn date(headers: &HeaderMap, name: header::HeaderName) -> Option<SystemTime> {
    parsed(headers.get(name)?.to_str().ok()?)
}

fn parsed(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TAG: &str = "\"abc\"";
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const HELD: Validators<'_> = Validators { etag: Some(TAG), last_modified: DATE, is_dated_exactly: false };

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn tells_who_has_it_already() {
        use Verdict::*;
        for (pairs, want) in [
            (&[][..], Proceed),
            (&[("if-none-match", TAG)], NotModified),
            (&[("if-none-match", "W/\"abc\"")], NotModified),
            (&[("if-none-match", "\"x,y\", \"abc\"")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"x\", abc")], Proceed),
            (&[("if-none-match", "\"abc")], Proceed),
            (&[("if-none-match", "\"x\""), ("if-modified-since", DATE)], Proceed),
            (&[("if-modified-since", DATE)], NotModified),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:38 GMT")], NotModified),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], Proceed),
            (&[("if-modified-since", "yesterday")], Proceed),
            (&[("if-match", TAG)], Proceed),
            (&[("if-match", "W/\"abc\"")], Failed),
            (&[("if-match", "\"x\"")], Failed),
            (&[("if-match", "*")], Proceed),
            (&[("if-unmodified-since", DATE)], Proceed),
            (&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], Failed),
        ] {
            assert_eq!(evaluate(&headers(pairs), HELD), want, "{pairs:?}");
        }
    }

    #[test]
    fn an_exact_date_is_the_only_one_that_counts() {
        use Verdict::*;
        let exact = Validators { is_dated_exactly: true, ..HELD };
        for (pairs, want) in [
            (("if-modified-since", DATE), NotModified),
            (("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT"), NotModified),
            (("if-modified-since", "Sun, 06 Nov 1994 08:49:38 GMT"), Proceed),
            (("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT"), Proceed),
            (("if-unmodified-since", DATE), Proceed),
            (("if-unmodified-since", "Sun, 06 Nov 1994 08:49:38 GMT"), Failed),
        ] {
            assert_eq!(evaluate(&headers(&[pairs]), exact), want, "{pairs:?}");
        }
    }

    #[test]
    fn rs_14_a_range_is_only_for_the_body_it_was_meant_for() {
        for (value, want) in [
            (TAG, true),
            (DATE, true),
            ("W/\"abc\"", false),
            ("\"x\"", false),
            ("Sun, 06 Nov 1994 08:49:38 GMT", false),
        ] {
            assert_eq!(range_applies(&headers(&[("if-range", value)]), HELD), want, "{value}");
        }
        assert!(range_applies(&headers(&[]), HELD));
        let unknown = Validators { etag: None, last_modified: "", is_dated_exactly: false };
        assert!(!range_applies(&headers(&[("if-range", TAG)]), unknown));
    }
}
