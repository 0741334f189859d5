//! `Retry-After` → how long to leave a host alone (RS-91). Pure.

use std::time::Duration;

use artifactapi_model::Timestamp;
use http::{HeaderMap, header::RETRY_AFTER};

/// Longest pause that is honoured.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// How long upstream wants to be left alone: seconds or a date (RFC 9110, 10.2.3), at most [`MAX_PAUSE`].
/// Nothing usable, or a moment that has passed, gives `None`.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pause = if is_number {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        Timestamp::from_system_time(httpdate::parse_http_date(text).ok()?).since(now)
    };
    (!pause.is_zero()).then(|| pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn rs_91_retry_after_as_seconds_or_date() {
        let now =
            Timestamp::from_system_time(httpdate::parse_http_date("Fri, 31 Dec 1999 23:00:00 GMT").unwrap());
        for (value, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", None),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Fri, 31 Dec 1999 23:10:00 GMT", Some(600)),
            ("Sat, 01 Jan 2000 23:59:59 GMT", Some(3600)),
            ("Fri, 31 Dec 1999 22:59:59 GMT", None),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
