//! The registry face: documents with our own URLs, and where upstream has what they name.

use std::io::{self, BufRead, Write};

use url::Url;

use super::{
    documents::{self, Discovery, Download},
    route::{File, Package},
};
use crate::{Fact, IndexError, Reach, json};

/// What discovery answers, relative to itself.
const OWN_DISCOVERY: &[u8] = br#"{"providers.v1":"../v1/providers/"}"#;

/// Upstream's discovery document becomes ours, if it has a provider registry at all.
///
/// # Errors
/// [`IndexError`] when it is none.
pub(super) fn rewrite_discovery(input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), IndexError> {
    let document = documents::whole(input)?;
    let discovery: Discovery = json::parse(&document)?;
    output.write_all(if discovery.providers.is_some() { OWN_DISCOVERY } else { b"{}" })?;
    Ok(())
}

/// Where upstream has its provider registry.
///
/// # Errors
/// [`IndexError`] when the document is none or names no usable URL.
pub(super) fn discovery_facts(
    source: &Url,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    let document = documents::whole(input)?;
    let discovery: Discovery = json::parse(&document)?;
    if let Some(providers) = discovery.providers {
        sink(Fact {
            path: "v1/providers/".to_owned(),
            reach: Reach::Prefix,
            url: Some(documents::resolve(source, &providers)?),
            checksums: Vec::new(),
        });
    }
    Ok(())
}

/// Replaces the three URLs of a download document by our own; everything else keeps its bytes.
///
/// # Errors
/// [`IndexError`] when it is no download document.
pub(super) fn rewrite_download(
    package: &Package,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let document = documents::whole(input)?;
    let download = Download::parse(&document)?;
    let mut bytes = document.as_slice();
    let mut reader = json::Reader::new(&mut bytes)?;
    reader.object(output, |reader, output, key| {
        let file = match key {
            "download_url" => download.filename.as_str(),
            "shasums_url" if download.shasums_url.is_some() => File::Sums.name(),
            "shasums_signature_url" if download.shasums_signature_url.is_some() => File::Signature.name(),
            _ => return reader.value(output),
        };
        reader.value(&mut io::sink())?;
        // Relative to `…/download/{os}/{arch}`, whose last segment is a file to a URL.
        output.write_all(json::quoted(&format!("{}/{file}", package.arch)).as_bytes())?;
        Ok(())
    })?;
    reader.end(&mut io::sink())
}

/// Where upstream has the files of a package, and what the archive hashes to.
///
/// # Errors
/// [`IndexError`] when the document is none or names no usable URL.
pub(super) fn download_facts(
    package: &Package,
    source: &Url,
    input: &mut dyn BufRead,
    sink: &mut dyn FnMut(Fact),
) -> Result<(), IndexError> {
    let document = documents::whole(input)?;
    let download = Download::parse(&document)?;
    let archive = File::Archive(download.filename.clone());
    let files = [
        (archive, Some(&download.download_url), vec![download.checksum()?]),
        (File::Sums, download.shasums_url.as_ref(), Vec::new()),
        (File::Signature, download.shasums_signature_url.as_ref(), Vec::new()),
    ];
    for (file, url, checksums) in files {
        let Some(url) = url else { continue };
        let url = Some(documents::resolve(source, url)?);
        sink(Fact { path: package.file(&file), reach: Reach::File, url, checksums });
    }
    Ok(())
}
