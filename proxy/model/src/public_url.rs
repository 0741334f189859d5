//! The URL under which clients reach the service.

use url::Url;

/// A configured public URL in its two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// `scheme://host[:port]`.
    pub origin: String,
    /// Path in front of ours, without a trailing slash; often empty.
    pub prefix: String,
}

impl PublicUrl {
    /// Takes an http(s) URL without query and fragment.
    ///
    /// # Errors
    /// What is wrong with it, for a message.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "is no URL")?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("must begin with http:// or https:// and name a host");
        }
        if url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err("must have no user name, query or fragment");
        }
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(PublicUrl { origin: url.origin().ascii_serialization(), prefix })
    }
}
