//! Redirects, decided by hand (RS-32, RS-35): how many, where to, with which method, and whether secrets may
//! still travel. Pure; the exchange sends what this returns.

use artifactapi_model::ports::upstream::UpstreamMethod;
use http::{HeaderMap, StatusCode, header::LOCATION};
use url::Url;

/// Most redirects that are followed for one request.
pub(crate) const MAX_REDIRECTS: usize = 5;
/// Longest `Location`, in bytes; presigned URLs take two or three thousand.
const MAX_LOCATION: usize = 16 * 1024;

/// One request of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Method to send.
    pub(crate) method: UpstreamMethod,
    /// Where to; without userinfo and fragment.
    pub(crate) url: Url,
    /// Whether no origin other than the first one has been seen. Secrets travel only then: a foreign host
    /// that redirects back could otherwise choose what is asked in our name.
    pub(crate) same_origin: bool,
}

/// The chain so far.
#[derive(Debug)]
pub(crate) struct Trail {
    visited: Vec<Hop>,
}

impl Trail {
    /// A chain that begins at `url`.
    pub(crate) fn new(method: UpstreamMethod, url: Url) -> Self {
        Trail { visited: vec![Hop { method, url: bare(url), same_origin: true }] }
    }

    /// The request to send now.
    pub(crate) fn hop(&self) -> &Hop {
        &self.visited[self.visited.len() - 1]
    }

    /// Takes the redirect that the present hop was answered with. `Ok(false)`: `status` is none.
    ///
    /// # Errors
    /// Why it may not be followed.
    pub(crate) fn follow(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<bool, String> {
        if !is_redirect(status) {
            return Ok(false);
        }
        if self.visited.len() > MAX_REDIRECTS {
            return Err(format!("more than {MAX_REDIRECTS} redirects"));
        }
        let from = self.hop();
        let url = target(&from.url, status, headers)?;
        let method = method_after(from.method, status);
        let same_origin = from.same_origin && from.url.origin() == url.origin();
        if method == UpstreamMethod::Post && !same_origin {
            return Err("it would send a request body to another origin".into());
        }
        if self.visited.iter().any(|hop| hop.method == method && hop.url == url) {
            return Err("it leads back to a URL of the same chain".into());
        }
        self.visited.push(Hop { method, url, same_origin });
        Ok(true)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// RFC 9110, 15.4: only 307 and 308 keep a POST; GET and HEAD stay what they are.
fn method_after(method: UpstreamMethod, status: StatusCode) -> UpstreamMethod {
    match (method, status.as_u16()) {
        (UpstreamMethod::Post, 301..=303) => UpstreamMethod::Get,
        (method, _) => method,
    }
}

fn target(from: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers
        .get(LOCATION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
        .filter(|text| !text.is_empty() && text.len() <= MAX_LOCATION)
        .ok_or_else(|| format!("a {} without a usable Location", status.as_u16()))?;
    let url = from.join(location).map_err(|_| "its Location is not a URL".to_owned())?;
    match (from.scheme(), url.scheme()) {
        ("https", "http") => Err("it leaves https for http".into()),
        (_, "http" | "https") if url.has_host() => Ok(bare(url)),
        _ => Err("it leads away from http and https".into()),
    }
}

/// Without userinfo, which would turn into credentials that nobody configured, and without fragment.
pub(crate) fn bare(mut url: Url) -> Url {
    url.set_fragment(None);
    // Both fail only for URLs that cannot have userinfo.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn to(location: &str) -> HeaderMap {
        HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(location).unwrap())])
    }

    fn trail(method: UpstreamMethod, url: &str) -> Trail {
        Trail::new(method, Url::parse(url).unwrap())
    }

    #[test]
    fn follows() {
        use UpstreamMethod::{Get, Head, Post};
        for (method, status, location, want_method, want_url, same_origin) in [
            (Get, 301, "/b", Get, "https://a.example/b", true),
            (Get, 302, "c?d=e#f", Get, "https://a.example/x/c?d=e", true),
            (Head, 303, "https://a.example:443/b", Head, "https://a.example/b", true),
            (Head, 307, "//b.example/", Head, "https://b.example/", false),
            (Get, 308, "https://a.example:8443/b", Get, "https://a.example:8443/b", false),
            (Get, 307, "https://u:p@a.example/b", Get, "https://a.example/b", true),
            (Post, 303, "https://b.example/", Get, "https://b.example/", false),
            (Post, 307, "/again", Post, "https://a.example/again", true),
        ] {
            let mut trail = trail(method, "https://a.example/x/y?token=1");
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(trail.follow(status, &to(location)), Ok(true), "{location}");
            let hop = trail.hop();
            assert_eq!((hop.method, hop.url.as_str()), (want_method, want_url));
            assert_eq!(hop.same_origin, same_origin, "{location}");
        }
    }

    #[test]
    fn rs_32_refuses() {
        use UpstreamMethod::{Get, Post};
        for (method, status, location, why) in [
            (Get, 302, "http://a.example/", "leaves https"),
            (Get, 302, "ftp://a.example/", "away from http"),
            (Get, 302, "file:///etc/passwd", "away from http"),
            (Get, 302, "data:text/plain,x", "away from http"),
            (Get, 302, "https://", "not a URL"),
            (Get, 302, "", "usable Location"),
            (Get, 302, "/x", "leads back"),
            (Post, 308, "https://b.example/", "request body"),
        ] {
            let mut trail = trail(method, "https://a.example/x");
            let status = StatusCode::from_u16(status).unwrap();
            let error = trail.follow(status, &to(location)).unwrap_err();
            assert!(error.contains(why), "{location}: {error}");
        }
    }

    #[test]
    fn rs_32_five_hops_and_no_more() {
        let mut trail = trail(UpstreamMethod::Get, "http://a.example/0");
        for n in 1..=5 {
            assert_eq!(trail.follow(StatusCode::FOUND, &to(&format!("/{n}"))), Ok(true));
        }
        assert!(trail.follow(StatusCode::FOUND, &to("/6")).is_err());
    }

    #[test]
    fn rs_35_secrets_do_not_come_back_with_a_returning_chain() {
        let mut trail = trail(UpstreamMethod::Get, "https://a.example/0");
        trail.follow(StatusCode::FOUND, &to("https://b.example/")).unwrap();
        trail.follow(StatusCode::FOUND, &to("https://a.example/admin")).unwrap();
        assert!(!trail.hop().same_origin);
    }

    #[test]
    fn other_answers_are_no_redirects() {
        for status in [200, 300, 304, 305, 306, 404] {
            let mut trail = trail(UpstreamMethod::Get, "http://a.example/");
            assert_eq!(trail.follow(StatusCode::from_u16(status).unwrap(), &to("/b")), Ok(false));
        }
    }
}
