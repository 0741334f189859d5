//! Which layer failed, read from the source chain of the HTTP client's errors. Messages name host and
//! cause; paths, queries and credentials never get into them (RS-37).

use std::{error::Error, io, time::Duration};

use artifactapi_model::{
    ports::upstream::{Layer, UpstreamError},
    repository::{RemoteSpec, Timeouts},
};
use url::Url;

use crate::{resolve::ResolveError, target::closed_address};

/// Longest cause taken over from a lower layer, in bytes.
const MAX_CAUSE: usize = 200;

/// `host:port` of a URL, the name of an upstream in messages, metrics and breakers.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// What breakers and pauses call `url`'s host as `spec` reaches it. Through an egress proxy it is another one than
/// without: whatever fails or is answered there may be the proxy's doing, and whose proxy it is nobody knows.
pub fn way_of(spec: &RemoteSpec, url: &Url) -> String {
    let host = host_of(url);
    match &spec.egress.proxy_url {
        Some(proxy) => format!("{host} through {}", proxy.origin().ascii_serialization()),
        None => host,
    }
}

/// A failure of `layer` at `url`'s host.
pub(crate) fn broken(url: &Url, layer: Layer, message: impl Into<String>) -> UpstreamError {
    UpstreamError::Broken { host: host_of(url), layer, message: message.into() }
}

/// A limit that ran out at `url`'s host.
pub(crate) fn timeout(url: &Url, layer: Layer, limit: Duration) -> UpstreamError {
    UpstreamError::Timeout { host: host_of(url), layer, limit }
}

/// Whether it speaks against the host, whoever asks: policy, pauses and full queues do not. Nor does what only a Remote
/// with the settings of `spec` runs into, since the breaker is everybody's: limits shorter than the usual ones, a
/// client certificate that the host does not take.
pub(crate) fn is_host_failure(spec: &RemoteSpec, error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Broken { layer: Layer::Tls, .. } => spec.tls.client.is_none(),
        UpstreamError::Broken { .. } => true,
        UpstreamError::Timeout { layer: Layer::Http, .. } => {
            spec.timeouts.first_byte >= Timeouts::default().first_byte
        }
        UpstreamError::Timeout { .. } => spec.timeouts.connect >= Timeouts::default().connect,
        _ => false,
    }
}

/// Translates an error of sending a request or reading its body.
pub(crate) fn translate(
    error: &reqwest::Error,
    url: &Url,
    connect: Duration,
    proxied: bool,
) -> UpstreamError {
    if let Some(resolve) = find::<ResolveError>(error) {
        return match resolve {
            ResolveError::Closed(closed) if !proxied => closed_address(url, *closed),
            ResolveError::Closed(_) => broken(url, Layer::Proxy, format!("of egress.proxyURL, {resolve}")),
            ResolveError::Timeout(limit) => timeout(url, Layer::Dns, *limit),
            ResolveError::Empty | ResolveError::Failed(_) if proxied => {
                broken(url, Layer::Proxy, "the host of egress.proxyURL could not be resolved")
            }
            ResolveError::Empty | ResolveError::Failed(_) => broken(url, Layer::Dns, resolve.to_string()),
        };
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return broken(url, Layer::Tls, shorten(&tls.to_string()));
    }
    let connecting = if proxied { Layer::Proxy } else { Layer::Connect };
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => timeout(url, connecting, connect),
        (true, false) => broken(url, connecting, cause(error)),
        (false, _) => broken(url, Layer::Http, cause(error)),
    }
}

/// Whether the connection ended before a single byte of the answer: what a connection looks like that
/// upstream closed just when it was used again. Such a GET or HEAD may be sent once more (RFC 9110, 9.2.2).
pub(crate) fn closed_before_answer(error: &reqwest::Error) -> bool {
    find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message)
}

/// The innermost text. The outer ones repeat it, and reqwest's own would add the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(Error::source) {
        innermost = Some(deeper);
    }
    innermost.map_or_else(|| "no answer that could be read".into(), |e| shorten(&e.to_string()))
}

fn shorten(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_CAUSE.min(text.len()));
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The first `E` in the source chain. An I/O error hides its cause from `source`, one level further down.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| find::<E>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use artifactapi_model::repository::ClientCertificate;

    use super::*;
    use crate::testing::spec;

    #[test]
    fn rs_94_settings_of_one_remote_speak_against_no_host() {
        let url = Url::parse("https://up.test/").unwrap();
        let usual = spec("https://up.test/");
        let (mut hasty, mut eager, mut known) = (usual.clone(), usual.clone(), usual.clone());
        hasty.timeouts.connect /= 2;
        eager.timeouts.first_byte /= 2;
        known.tls.client = Some(ClientCertificate { chain_pem: "c".into(), key_pem: "k".into() });
        for (layer, own) in [(Layer::Dns, &hasty), (Layer::Connect, &hasty), (Layer::Http, &eager)] {
            let error = timeout(&url, layer, Duration::from_secs(1));
            assert!(is_host_failure(&usual, &error) && !is_host_failure(own, &error), "{error}");
        }
        let refused = broken(&url, Layer::Tls, "no");
        assert!(is_host_failure(&usual, &refused) && !is_host_failure(&known, &refused));
        for own in [&hasty, &eager, &known] {
            assert!(is_host_failure(own, &broken(&url, Layer::Connect, "refused")));
        }
        assert!(!is_host_failure(&usual, &UpstreamError::Saturated));
    }
}
