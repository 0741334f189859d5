//! What the upstream was asked: every request with its headers, for counting and for finding secrets that
//! should never have arrived.

use bytes::Bytes;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// HTTP method.
    pub method: String,
    /// Request target without its leading slash, still percent-encoded, with its query.
    pub target: String,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
    /// Body, at most 1 MiB of it.
    pub body: Bytes,
    /// `1.1` or `2`.
    pub version: &'static str,
}

impl Recorded {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query; empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of one query parameter, percent-decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query().as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether `needle` occurs anywhere: target, headers or body.
    pub fn contains(&self, needle: &str) -> bool {
        self.target.contains(needle)
            || self.headers.iter().any(|(_, value)| value.contains(needle))
            || String::from_utf8_lossy(&self.body).contains(needle)
    }
}
