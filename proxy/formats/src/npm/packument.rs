//! The forms of a packument, made from the full one as it streams by.

use std::io::{self, BufRead, Write};

use serde::Deserialize;

use super::dist::Links;
use crate::{
    IndexError,
    json::{self, Object, Reader},
    limits::MAX_PART,
};

/// What an abbreviated version keeps (npm/registry: docs/responses/package-metadata.md, and the keys that
/// installers have come to read since: `libc`, `funding`, `acceptDependencies`).
const ABBREVIATED: [&str; 21] = [
    "name",
    "version",
    "deprecated",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "acceptDependencies",
    "bin",
    "directories",
    "dist",
    "engines",
    "_hasShrinkwrap",
    "hasInstallScript",
    "cpu",
    "os",
    "libc",
    "funding",
];

/// Scripts that make `hasInstallScript` true.
const INSTALL_SCRIPTS: [&str; 3] = ["preinstall", "install", "postinstall"];

/// Copies the packument with our URLs; nothing else changes.
pub(super) fn full(
    links: &Links<'_>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    json::document(input, output, |reader, out, key| match (key, reader.peek(out)?) {
        ("versions", b'{') => {
            reader.object(out, |reader, out, version| full_version(links, version, reader, out))
        }
        _ => reader.value(out),
    })
}

fn full_version(
    links: &Links<'_>,
    version: &str,
    reader: &mut Reader<'_>,
    out: &mut dyn Write,
) -> Result<(), IndexError> {
    if reader.peek(out)? != b'{' {
        return reader.value(out);
    }
    reader.object(out, |reader, out, key| match (key, reader.peek(out)?) {
        ("dist", b'{') => links.rewrite_dist(version, reader, out),
        _ => reader.value(out),
    })
}

/// Copies the document of one version with our URLs. Its version may stand after its `dist`, so it is held
/// in memory, at most [`MAX_PART`] of it.
pub(super) fn version(
    links: &Links<'_>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    #[derive(Deserialize)]
    struct Head {
        version: Option<String>,
    }
    let mut reader = Reader::new(input)?;
    // At least as small as any address space.
    let document = reader.raw(MAX_PART as usize)?;
    reader.end(&mut io::sink())?;
    // Some registries answer a bare string ("version not found"); it passes unchanged.
    let head: Option<Head> = serde_json::from_slice(&document).ok();
    match head.and_then(|head| head.version) {
        Some(version) => full_version(links, &version, &mut Reader::new(&mut &*document)?, output),
        None => Ok(output.write_all(&document)?),
    }
}

/// Writes the abbreviated form.
pub(super) fn abbreviated(
    links: &Links<'_>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let mut members = Object::begin(output)?;
    let mut modified = false;
    json::document(input, &mut io::sink(), |reader, skipped, key| match (key, reader.peek(skipped)?) {
        ("name" | "dist-tags", _) => reader.value(members.key(key)?),
        ("modified", b'"') if !modified => {
            modified = true;
            reader.value(members.key(key)?)
        }
        ("time", b'{') => reader.object(skipped, |reader, skipped, key| {
            if key != "modified" || modified {
                return reader.value(skipped);
            }
            modified = true;
            reader.value(members.key(key)?)
        }),
        ("versions", b'{') => {
            let mut versions = Object::begin(members.key(key)?)?;
            reader.object(skipped, |reader, skipped, version| {
                if reader.peek(skipped)? != b'{' {
                    return reader.value(skipped);
                }
                abbreviated_version(links, version, reader, versions.key(version)?)
            })?;
            Ok(versions.end()?)
        }
        _ => reader.value(skipped),
    })?;
    Ok(members.end()?)
}

fn abbreviated_version(
    links: &Links<'_>,
    version: &str,
    reader: &mut Reader<'_>,
    output: &mut dyn Write,
) -> Result<(), IndexError> {
    let mut members = Object::begin(output)?;
    let (mut stated, mut has_script) = (false, false);
    reader.object(&mut io::sink(), |reader, skipped, key| match (key, reader.peek(skipped)?) {
        ("dist", b'{') => links.rewrite_dist(version, reader, members.key(key)?),
        // Full documents leave out what the registry derives from the scripts.
        ("scripts", b'{') => reader.object(skipped, |reader, skipped, script| {
            has_script |= INSTALL_SCRIPTS.contains(&script);
            reader.value(skipped)
        }),
        _ if ABBREVIATED.contains(&key) => {
            stated |= key == "hasInstallScript";
            reader.value(members.key(key)?)
        }
        _ => reader.value(skipped),
    })?;
    if has_script && !stated {
        members.key("hasInstallScript")?.write_all(b"true")?;
    }
    Ok(members.end()?)
}
