//! What upstreams say is left of their rate limits. Pure.

use http::HeaderMap;

/// Where it stands: Docker Hub and GitLab, GitHub and others.
const NAMES: [&str; 2] = ["ratelimit-remaining", "x-ratelimit-remaining"];

/// Requests that are left, where upstream says so; Docker Hub adds the window, as `76;w=21600`.
pub(crate) fn left(headers: &HeaderMap) -> Option<u64> {
    let value = NAMES.iter().find_map(|name| headers.get(*name))?.to_str().ok()?;
    value.split([';', ',']).next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn is_read_where_it_is_said() {
        for (name, value, want) in [
            ("ratelimit-remaining", "76;w=21600", Some(76)),
            ("x-ratelimit-remaining", "59", Some(59)),
            ("ratelimit-remaining", "100, 76;w=21600", Some(100)),
            ("ratelimit-remaining", "-1", None),
            ("ratelimit-remaining", "", None),
            ("ratelimit-limit", "100", None),
        ] {
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(left(&headers), want, "{name}: {value}");
        }
    }
}
