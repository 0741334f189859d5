//! URLs of upstreams and egress proxies.

use url::Url;

use crate::error::Errors;

/// An http or https URL without user name, query and fragment. Messages never repeat the text.
pub(super) fn plain(path: &str, text: &str, errors: &mut Errors) -> Option<Url> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            errors.push(path, "url", format!("is not a URL: {error}"));
            return None;
        }
    };
    let complaint = if !matches!(url.scheme(), "http" | "https") {
        "must begin with http:// or https://"
    } else if url.host_str().is_none_or(str::is_empty) {
        "must name a host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "must not hold a user name or password"
    } else if url.query().is_some() || url.fragment().is_some() {
        "must have no query and no fragment"
    } else {
        return Some(url);
    };
    errors.push(path, "url", complaint);
    None
}

/// An upstream root, whose path ends in `/` so that paths can be joined to it.
pub(super) fn base(path: &str, text: &str, errors: &mut Errors) -> Option<Url> {
    let mut url = plain(path, text, errors)?;
    if !url.path().ends_with('/') {
        let with_slash = format!("{}/", url.path());
        url.set_path(&with_slash);
    }
    Some(url)
}
