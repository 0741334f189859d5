//! Reading a member's packument: its versions one by one, and what it says besides.

use std::{collections::BTreeMap, io::BufRead};

use serde::Deserialize;

use crate::{
    IndexError,
    json::{self, Fields},
    limits::{Allowance, MAX_PART},
};

/// Largest document of a version, and largest field about the whole package, in bytes.
const MAX_VALUE: usize = MAX_PART as usize;
/// Largest sum of those fields, in bytes.
const MAX_FIELDS: usize = 16 << 20;

/// What is about the package as a whole.
pub(super) struct Whole {
    /// What is none of the others.
    pub(super) fields: Fields,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) times: BTreeMap<String, String>,
    pub(super) modified: Option<String>,
}

/// Receives a version and its document.
pub(super) type Visit<'v> = dyn FnMut(&str, &[u8]) -> Result<(), IndexError> + 'v;

/// Reads a packument: hands its versions to `visit` and returns the rest.
pub(super) fn read(document: &mut dyn BufRead, visit: &mut Visit<'_>) -> Result<Whole, IndexError> {
    let (mut has_versions, mut has_times) = (false, false);
    let mut whole = Whole {
        fields: Fields::within(Allowance::of(MAX_FIELDS, "size of what is about a whole package")),
        tags: BTreeMap::new(),
        times: BTreeMap::new(),
        modified: None,
    };
    json::distinct(document, |reader, out, key| match key {
        "versions" => {
            has_versions = true;
            reader.object(out, |reader, _, version| visit(version, &reader.raw(MAX_VALUE)?))
        }
        "dist-tags" => {
            let tags: BTreeMap<String, Option<String>> = reader.parse(MAX_VALUE)?;
            whole.tags = tags.into_iter().filter_map(|(tag, version)| Some((tag, version?))).collect();
            Ok(())
        }
        "time" => {
            has_times = true;
            reader.object(out, |reader, out, key| {
                // `unpublished` is an object.
                if reader.peek(out)? != b'"' {
                    return reader.value(out);
                }
                let time = reader.parse(MAX_VALUE)?;
                whole.times.insert(key.to_owned(), time);
                Ok(())
            })
        }
        "modified" if reader.peek(out)? == b'"' => {
            whole.modified = Some(reader.parse(MAX_VALUE)?);
            Ok(())
        }
        "_rev" | "_attachments" | "modified" => reader.value(out),
        _ => whole.fields.take(key, reader, MAX_VALUE),
    })?;
    // A package that was taken back has no versions.
    if has_versions || has_times { Ok(whole) } else { Err(IndexError::malformed("it has no \"versions\"")) }
}

/// The tarball's URL in the document of a version, which must be one.
pub(super) fn tarball(json: &[u8]) -> Result<Option<String>, IndexError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Version {
        dist: Option<Dist>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Dist {
        tarball: Option<String>,
    }
    let text = str::from_utf8(json).map_err(|_| IndexError::malformed("a version is not UTF-8"))?;
    if !text.starts_with('{') {
        return Err(IndexError::malformed("a version is no object"));
    }
    let version: Version =
        serde_json::from_str(text).map_err(|error| IndexError::malformed(format!("a version: {error}")))?;
    Ok(version.dist.and_then(|dist| dist.tarball))
}
