//! Preconditions and `If-Range`: against a model on parsed tags and dates (RFC 9110, section 13; RS-14).
#![no_main]

#[path = "../../../proxy/server/src/http/conditional.rs"]
#[allow(dead_code)]
mod conditional;

use conditional::{Validators, Verdict, evaluate, range_applies};
use http::{HeaderMap, HeaderName, HeaderValue, header};

const TAG: &str = "\"abc\"";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const HELD: Validators<'_> = Validators { etag: Some(TAG), last_modified: DATE, is_dated_exactly: false };
const NAMES: [HeaderName; 5] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

fn only(name: HeaderName, value: &HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(name, value.clone())])
}

libfuzzer_sys::fuzz_target!(|input: [(u8, &str); 3]| {
    let mut headers = HeaderMap::new();
    for (name, value) in input {
        let Ok(value) = HeaderValue::from_str(value) else { continue };
        headers.append(NAMES[usize::from(name) % NAMES.len()].clone(), value);
    }
    let verdict = evaluate(&headers, HELD);
    let text =
        |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has = |name: &HeaderName| headers.contains_key(name);
    // 304 is said only to a client that named this very body or a date as late as its own.
    if verdict == Verdict::NotModified {
        if has(&header::IF_NONE_MATCH) {
            let named = headers
                .get_all(header::IF_NONE_MATCH)
                .iter()
                .any(|value| value.to_str().is_ok_and(|list| list.trim() == "*" || list.contains(TAG)));
            assert!(named, "{headers:?}");
        } else {
            let since = httpdate::parse_http_date(text(&header::IF_MODIFIED_SINCE)).expect("a date");
            assert!(since >= httpdate::parse_http_date(DATE).expect("a date"), "{headers:?}");
        }
    }
    if verdict == Verdict::Failed {
        assert!(has(&header::IF_MATCH) || has(&header::IF_UNMODIFIED_SINCE), "{headers:?}");
    }
    // If-Range admits a range for this very body only: a weak tag or another date asks for the whole.
    let wanted = match headers.get(header::IF_RANGE) {
        None => true,
        Some(value) => value == TAG || value == DATE,
    };
    assert_eq!(range_applies(&headers, HELD), wanted, "{headers:?}");
    // A tag put among any others is found, wherever it stands in a well-formed list.
    for value in headers.get_all(header::IF_NONE_MATCH) {
        let Ok(list) = value.to_str() else { continue };
        if list.matches('"').count() % 2 == 0 && !list.contains(['*', '\\']) {
            for joined in [format!("{TAG}, {list}"), format!("W/{TAG},{list}")] {
                let value = HeaderValue::from_str(&joined).expect("text");
                assert_eq!(
                    evaluate(&only(header::IF_NONE_MATCH, &value), HELD),
                    Verdict::NotModified,
                    "{joined}"
                );
            }
        }
    }
    // Without a tag and date of its own a body matches nothing but a star.
    let unknown = Validators { etag: None, last_modified: "", is_dated_exactly: false };
    if has(&header::IF_NONE_MATCH)
        && !headers.get_all(header::IF_NONE_MATCH).iter().any(|v| v.to_str().is_ok_and(|v| v.trim() == "*"))
    {
        assert_ne!(evaluate(&headers, unknown), Verdict::NotModified, "{headers:?}");
    }
});
