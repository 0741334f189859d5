//! `Location`: a chain ends, never leaves http(s), never goes from https to http, and carries secrets to its
//! first origin only (RS-32, RS-35).
#![no_main]

#[path = "../../../proxy/upstream/src/redirect.rs"]
#[allow(dead_code)]
mod redirect;

use artifactapi_model::ports::upstream::UpstreamMethod;
use http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION};
use redirect::{MAX_REDIRECTS, Trail};
use url::Url;

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<(u8, &str)>)| {
    let (start, hops) = input;
    let method = [UpstreamMethod::Get, UpstreamMethod::Head, UpstreamMethod::Post][usize::from(start % 3)];
    let scheme = if start & 4 == 0 { "https" } else { "http" };
    let first = Url::parse(&format!("{scheme}://me:secret@a.example/x/y?token=1#f")).expect("a valid URL");
    let mut trail = Trail::new(method, first.clone());
    let (mut followed, mut left_home) = (0, false);
    for (status, location) in hops {
        let status = [301, 302, 303, 307, 308, 200, 304, 404][usize::from(status % 8)];
        let status = StatusCode::from_u16(status).expect("a status");
        let Ok(value) = HeaderValue::from_bytes(location.as_bytes()) else { continue };
        let before = trail.hop().clone();
        let moved = trail.follow(status, &HeaderMap::from_iter([(LOCATION, value)]));
        let hop = trail.hop();
        match moved {
            Ok(true) => followed += 1,
            Ok(false) => assert!(!matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)),
            // A refused redirect leaves the chain where it was.
            Err(_) => assert_eq!(*hop, before),
        }
        assert!(followed <= MAX_REDIRECTS);
        assert!(matches!(hop.url.scheme(), "http" | "https") && hop.url.has_host());
        assert!(!(before.url.scheme() == "https" && hop.url.scheme() == "http"), "{location}");
        assert!(
            hop.url.username().is_empty() && hop.url.password().is_none() && hop.url.fragment().is_none()
        );
        left_home |= hop.url.origin() != first.origin();
        assert_eq!(hop.same_origin, !left_home, "{location}");
        assert!(hop.method == method || hop.method == UpstreamMethod::Get);
        assert!(hop.method != UpstreamMethod::Post || !left_home, "a body for another origin: {location}");
    }
});
