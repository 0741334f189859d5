//! Pages of `tags/list` and `referrers`: which query parameters count, and where the next page is.
//!
//! `n` and `last` are the protocol's; `next_page` (Quay) and `nextToken` (ECR) are opaque continuations that
//! registries put into their `Link` instead. Everything else is ignored and never part of the key.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

use crate::{PlanError, PublicBase, Resource};

/// Most entries asked for at once (RS-68).
const MAX_PAGE: u64 = 1000;
/// Longest value, in bytes; continuations are long.
const MAX_VALUE: usize = 2048;

const TAGS: &[&str] = &["last", "n", "nextToken", "next_page"];
const REFERRERS: &[&str] = &["artifactType", "last", "n", "nextToken", "next_page"];

/// RFC 3986 `unreserved` stays as it is.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The two forms of one page's query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// As part of the key, canonical.
    pub(super) key: String,
    /// As upstream is asked.
    pub(super) upstream: String,
}

/// The page of a tag list that `query` asks for.
///
/// # Errors
/// [`PlanError::Query`] for a repeated, overlong or unprintable parameter and for an `n` that is no number.
pub(super) fn tags(query: &str) -> Result<Page, PlanError> {
    let key = canonical(query, TAGS)?;
    // Some registries refuse n=0: ask for one and give none.
    let upstream = if asks_for_none(&key) { replace_n(&key) } else { key.clone() };
    Ok(Page { key, upstream })
}

/// The page of a referrers list that `query` asks for.
///
/// # Errors
/// As [`tags`].
pub(super) fn referrers(query: &str) -> Result<Page, PlanError> {
    let key = canonical(query, REFERRERS)?;
    Ok(Page { upstream: key.clone(), key })
}

/// Whether a canonical query asks for no entry at all.
pub(super) fn asks_for_none(key: &str) -> bool {
    key.split('&').any(|parameter| parameter == "n=0")
}

/// The artifact type a canonical query asks for.
pub(super) fn artifact_type(key: &str) -> Option<String> {
    let mut parameters = form_urlencoded::parse(key.as_bytes());
    parameters.find(|(name, _)| name == "artifactType").map(|(_, value)| value.into_owned())
}

/// Upstream's `Link` to the next page as clients get it: the same document below our own prefix. `None`
/// where there is no next page, or where upstream continues by a parameter that is not ours to know: no
/// link is better than one that leads to the same page again.
pub(super) fn next(link: &str, resource: &Resource, base: &PublicBase) -> Option<String> {
    if asks_for_none(&resource.query) {
        return None;
    }
    let target = next_target(link)?;
    let (_, query) = target.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let known = if resource.path.as_str().ends_with("/tags/list") { TAGS } else { REFERRERS };
    if form_urlencoded::parse(query.as_bytes()).any(|(name, _)| !known.contains(&&*name)) {
        return None;
    }
    let query = canonical(query, known).ok().filter(|query| *query != resource.query)?;
    Some(format!("<{}{}?{query}>; rel=\"next\"", base.prefix, resource.path.encode()))
}

/// The target of the link whose relation is `next` (RFC 8288).
fn next_target(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let end = parameters.find('<').unwrap_or(parameters.len());
        let is_next = parameters[..end].split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && relations.any(|rel| rel.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = &parameters[end..];
    }
    None
}

fn canonical(query: &str, known: &[&'static str]) -> Result<String, PlanError> {
    let mut values: Vec<Option<String>> = vec![None; known.len()];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = known.iter().position(|parameter| *parameter == name) else { continue };
        let value = if name == "n" { clamp(&value) } else { text(&value) };
        let value = value.filter(|_| values[at].is_none()).ok_or(PlanError::Query(known[at]))?;
        values[at] = Some(value);
    }
    let mut parameters = Vec::with_capacity(known.len());
    for (name, value) in known.iter().zip(values) {
        // An empty continuation means the beginning, as its absence does.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            parameters.push(format!("{name}={}", utf8_percent_encode(&value, VALUE)));
        }
    }
    Ok(parameters.join("&"))
}

fn clamp(value: &str) -> Option<String> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // All digits, so the only failure is overflow.
    Some(value.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE).to_string())
}

fn text(value: &str) -> Option<String> {
    let fits = value.len() <= MAX_VALUE && !value.chars().any(|c| c.is_control() || c == '\u{fffd}');
    fits.then(|| value.to_owned())
}

fn replace_n(key: &str) -> String {
    let one = |parameter| if parameter == "n=0" { "n=1" } else { parameter };
    key.split('&').map(one).collect::<Vec<_>>().join("&")
}
