//! The network mirror face, made from the registry's documents.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use artifactapi_model::Digest;
use serde_json::{Map, Value};

use super::{
    DISCOVERY_PATH, JSON,
    documents::{Platform, Version},
    is_mirrored,
    route::{File, Package, Provider, is_archive, is_version},
};
use crate::{
    Documents, IndexError, Step,
    json::{self, Object},
    limits::Allowance,
};

/// Largest entry of a versions document, in bytes.
pub(super) const MAX_VERSION: usize = 256 << 10;
/// The platform whose `SHA256SUMS` is read where there is a choice: each lists the archives of all.
const USUAL: (&str, &str) = ("linux", "amd64");

/// Hands every entry of a versions document to `visit`.
fn each_version(
    input: &mut dyn BufRead,
    mut visit: impl FnMut(Version) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut entries = Allowance::of_entries("number of versions");
    json::document(input, &mut io::sink(), |reader, skipped, key| {
        if key != "versions" || reader.peek(skipped)? != b'[' {
            return reader.value(skipped);
        }
        reader.array(skipped, |reader, _| {
            entries.take(1)?;
            let version: Version = reader.parse(MAX_VERSION)?;
            if is_version(&version.version) { visit(version) } else { Ok(()) }
        })
    })
}

/// A versions document as `index.json`: `{"versions":{"1.0.0":{}}}`. One text that is no version would make the
/// client refuse them all; such entries are left out.
///
/// # Errors
/// [`IndexError`] when it is no versions document.
pub(super) fn index(input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), IndexError> {
    write_index(output, |list| {
        each_version(input, |version| Ok(list.key(&version.version)?.write_all(b"{}")?))
    })
}

/// Writes an `index.json`, whose `versions` `list` gives: each is a key with an empty object.
pub(super) fn write_index(
    output: &mut dyn Write,
    list: impl FnOnce(&mut Object<'_>) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let mut index = Object::begin(output)?;
    let mut versions = Object::begin(index.key("versions")?)?;
    list(&mut versions)?;
    versions.end()?;
    Ok(index.end()?)
}

/// The archives of one version, from the versions document (which platforms there are) and `SHA256SUMS` (what
/// their archives are called and hash to). An archive without a hash is not offered, since the client would
/// install it unverified, and one that `permits` does not let clients have is not offered either.
///
/// # Errors
/// [`IndexError`] when a document is not what it should be, or no archive has a hash.
pub(super) fn version(
    provider: &Provider,
    version: &str,
    documents: &Documents,
    permits: &dyn Fn(&str) -> bool,
) -> Result<Step, IndexError> {
    let Some(versions) = documents.get(&provider.versions()) else {
        // Discovery is there whenever the registry is: its presence alone says that the provider is unknown.
        return Ok(match documents.contains_key(DISCOVERY_PATH) {
            true => Step::Missing,
            false => Step::Need(vec![DISCOVERY_PATH.to_owned(), provider.versions()]),
        });
    };
    let mut packages = packages(provider, version, versions)?;
    packages.retain(|package| is_mirrored(package, permits));
    let usual = packages.iter().find(|package| (&*package.os, &*package.arch) == USUAL);
    let Some(witness) = usual.or(packages.first()) else { return Ok(Step::Missing) };
    let Some(sums) = documents.get(&witness.file(&File::Sums)) else {
        return Ok(match documents.contains_key(&witness.download()) {
            true => Step::Missing,
            false => Step::Need(vec![witness.download(), witness.file(&File::Sums)]),
        });
    };
    let archives = archives(&packages, &sums_of(sums)?);
    if archives.is_empty() {
        return Err(IndexError::malformed("SHA256SUMS names no archive of this version"));
    }
    let body = serde_json::json!({ "archives": archives }).to_string().into_bytes();
    Ok(Step::Done { body, content_type: JSON })
}

fn packages(provider: &Provider, wanted: &str, versions: &[u8]) -> Result<Vec<Package>, IndexError> {
    let mut platforms: Vec<Platform> = Vec::new();
    each_version(&mut &*versions, |version| {
        if version.version == wanted {
            platforms.extend(version.platforms.unwrap_or_default());
        }
        Ok(())
    })?;
    Ok(platforms
        .iter()
        .filter_map(|platform| Package::of(provider.clone(), wanted, &platform.os, &platform.arch))
        .collect())
}

/// Archives by file name.
fn sums_of(sums: &[u8]) -> Result<BTreeMap<&str, Digest>, IndexError> {
    let malformed = || IndexError::malformed("SHA256SUMS is no list of hashes and file names");
    let text = std::str::from_utf8(sums).map_err(|_| malformed())?;
    let mut by_name = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (hash, name) = line.split_once([' ', '\t']).ok_or_else(malformed)?;
        let hash = hash.to_ascii_lowercase().parse().map_err(|_| malformed())?;
        // sha256sum marks binary mode by a star.
        let name = name.trim().trim_start_matches('*');
        if is_archive(name) {
            by_name.insert(name, hash);
        }
    }
    Ok(by_name)
}

fn archives(packages: &[Package], sums: &BTreeMap<&str, Digest>) -> Map<String, Value> {
    let mut archives = Map::new();
    for package in packages {
        let Package { version, os, arch, .. } = package;
        let name = package.archive();
        let Some(digest) = sums.get(&*name) else { continue };
        // Relative to `{hostname}/{namespace}/{type}/{version}.json`.
        let url = format!("{version}/download/{os}/{arch}/{name}");
        let hashes = [format!("zh:{}", digest.to_hex())];
        archives.insert(format!("{os}_{arch}"), serde_json::json!({ "url": url, "hashes": hashes }));
    }
    archives
}
