//! `Retry-After`: total, never zero, never beyond the cap, and a date says the same as its distance (RS-91).
#![no_main]

#[path = "../../../proxy/upstream/src/retry_after.rs"]
#[allow(dead_code)]
mod retry_after;

use std::time::{Duration, SystemTime};

use artifactapi_model::Timestamp;
use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use retry_after::{MAX_PAUSE, retry_after};

fn pause(value: &str, now: Timestamp) -> Option<Duration> {
    let value = HeaderValue::from_str(value).ok()?;
    retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
}

libfuzzer_sys::fuzz_target!(|input: (u32, u32, &str)| {
    let (now, seconds, text) = input;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(now));
    let stamp = Timestamp::from_system_time(now);
    if let Some(pause) = pause(text, stamp) {
        assert!(!pause.is_zero() && pause <= MAX_PAUSE, "{text}: {pause:?}");
    }
    let capped =
        Some(Duration::from_secs(u64::from(seconds)).min(MAX_PAUSE)).filter(|pause| !pause.is_zero());
    assert_eq!(pause(&seconds.to_string(), stamp), capped);
    let date = httpdate::fmt_http_date(now + Duration::from_secs(u64::from(seconds)));
    assert_eq!(pause(&date, stamp), capped, "{date}");
    // A moment that has passed asks for nothing.
    assert_eq!(pause(&httpdate::fmt_http_date(now), stamp), None);
});
