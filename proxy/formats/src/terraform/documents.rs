//! The JSON documents of the provider registry protocol, as far as we read them.

use std::io::{BufRead, Read};

use artifactapi_model::Checksum;
use serde::Deserialize;
use url::Url;

use super::{MAX_DOCUMENT, route::is_archive};
use crate::{IndexError, json, limits::Capped};

/// `.well-known/terraform.json`.
#[derive(Deserialize)]
pub(super) struct Discovery {
    /// Where the provider registry is, relative to the document.
    #[serde(rename = "providers.v1")]
    pub(super) providers: Option<String>,
}

/// `…/download/{os}/{arch}`.
#[derive(Deserialize)]
pub(super) struct Download {
    /// The archive's name, also in `SHA256SUMS`.
    pub(super) filename: String,
    /// The archive.
    pub(super) download_url: String,
    /// `SHA256SUMS`.
    #[serde(default)]
    pub(super) shasums_url: Option<String>,
    /// Its signature.
    #[serde(default)]
    pub(super) shasums_signature_url: Option<String>,
    /// SHA-256 of the archive, in hex.
    pub(super) shasum: String,
}

impl Download {
    /// Reads a download document.
    ///
    /// # Errors
    /// [`IndexError`] when it is none, or names a file that is no plain `.zip`.
    pub(super) fn parse(document: &[u8]) -> Result<Self, IndexError> {
        let download: Download = json::parse(document)?;
        if !is_archive(&download.filename) {
            return Err(IndexError::malformed("a provider's filename is no plain name of a .zip"));
        }
        Ok(download)
    }

    /// The claim about the archive.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when `shasum` is no SHA-256.
    pub(super) fn checksum(&self) -> Result<Checksum, IndexError> {
        Checksum::from_hex("sha256", &self.shasum)
            .ok_or_else(|| IndexError::malformed("a provider's shasum is no SHA-256"))
    }
}

/// One entry of `…/versions`.
#[derive(Deserialize)]
pub(super) struct Version {
    /// Without `v`.
    pub(super) version: String,
    /// For what it is built.
    #[serde(default)]
    pub(super) platforms: Option<Vec<Platform>>,
}

/// A platform of a version.
#[derive(Clone, Deserialize)]
pub(super) struct Platform {
    /// Operating system.
    pub(super) os: String,
    /// Architecture.
    pub(super) arch: String,
}

/// Takes a small document whole.
///
/// # Errors
/// [`IndexError::TooLarge`] above [`MAX_DOCUMENT`].
pub(super) fn whole(input: &mut dyn BufRead) -> Result<Vec<u8>, IndexError> {
    let mut document = Vec::new();
    Capped::new(input, MAX_DOCUMENT, "size of a provider document").read_to_end(&mut document)?;
    Ok(document)
}

/// The URL that `document` (read from there) means by `reference`.
///
/// # Errors
/// [`IndexError::Malformed`] for other schemes than http and https (RS-26), for userinfo, and for http in a
/// document that came over https (RS-32).
pub(super) fn resolve(document: &Url, reference: &str) -> Result<Url, IndexError> {
    let refuse = |why: &str| Err(IndexError::malformed(format!("a URL of a provider document {why}")));
    let Ok(url) = document.join(reference) else { return refuse("is none") };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return refuse("is not http or https");
    }
    if document.scheme() == "https" && url.scheme() == "http" {
        return refuse("is http although the document came over https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("has credentials in it");
    }
    Ok(url)
}
