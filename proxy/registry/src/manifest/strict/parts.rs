//! The parts of a manifest that are kept something of.

use std::collections::BTreeMap;

use artifactapi_model::oci::InvalidOciDigest;
use serde::de::{MapAccess, SeqAccess};

use super::{Context, Descriptor, Document, Part, Place, Read, Reader};
use crate::manifest::is_foreign;

const DOCUMENT: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "annotations",
    "subject",
    "config",
    "layers",
    "manifests",
];
const DESCRIPTOR: &[&str] = &["mediaType", "digest", "size"];

pub(super) fn root<'de, A: MapAccess<'de>>(context: &mut Context, entries: &mut A) -> Result<Read, A::Error> {
    let mut document = Box::<Document>::default();
    while let Some(key) = context.key(entries, DOCUMENT)? {
        match key {
            Some("schemaVersion") => document.schema_version = context.number(entries)?,
            Some(key @ "mediaType") => document.media_type = context.media_type(entries, key)?,
            Some(key @ "artifactType") => document.artifact_type = context.media_type(entries, key)?,
            Some("annotations") => {
                document.annotations = match context.value(entries, Part::Annotations)? {
                    Read::Annotations(annotations) => annotations,
                    Read::Null => BTreeMap::new(),
                    _ => return Err(context.refuse("annotations are no object")),
                };
            }
            Some(key @ ("subject" | "config")) => {
                let place = Place(key, None);
                let read = context.value(entries, Part::Descriptor(place))?;
                let descriptor = context.descriptor(place, read)?;
                if key == "config" {
                    document.config = Some(descriptor);
                } else {
                    document.subject = Some(descriptor.digest);
                }
            }
            Some(key @ "layers") => document.layers = context.list(entries, key)?,
            Some(key @ "manifests") => document.manifests = context.list(entries, key)?,
            _ => {
                context.value(entries, Part::Other)?;
            }
        }
    }
    Ok(Read::Document(document))
}

pub(super) fn annotations<'de, A: MapAccess<'de>>(
    context: &mut Context,
    entries: &mut A,
) -> Result<Read, A::Error> {
    let mut annotations = BTreeMap::new();
    while context.key(entries, &[])?.is_some() {
        let key = context.keys.last().to_owned();
        let Read::Text(text) = context.value(entries, Part::Text)? else {
            return Err(context.refuse("an annotation is no text"));
        };
        annotations.insert(key, text);
    }
    Ok(Read::Annotations(annotations))
}

pub(super) fn descriptor<'de, A: MapAccess<'de>>(
    context: &mut Context,
    entries: &mut A,
    place: Place,
) -> Result<Read, A::Error> {
    let (mut media_type, mut digest, mut size) = (None, None, None);
    while let Some(key) = context.key(entries, DESCRIPTOR)? {
        match key {
            Some(key @ "mediaType") => media_type = context.media_type(entries, key)?,
            Some("digest") => {
                digest = match context.value(entries, Part::Digest)? {
                    Read::Digest(digest) => Some(digest),
                    Read::Null => None,
                    _ => return Err(context.refuse("digest is no media type")),
                };
            }
            Some("size") => size = context.number(entries)?,
            _ => {
                context.value(entries, Part::Other)?;
            }
        }
    }
    let Some(media_type) = media_type else {
        return Err(context.refuse(format!("{place} has no mediaType")));
    };
    if size.is_none() {
        return Err(context.refuse(format!("{place} has no size")));
    }
    let Some(digest) = digest else {
        return Err(context.refuse(format!("{place}.digest: {InvalidOciDigest}")));
    };
    Ok(Read::Descriptor(Descriptor { media_type, digest }))
}

pub(super) fn list<'de, A: SeqAccess<'de>>(
    context: &mut Context,
    mut items: A,
    key: &'static str,
) -> Result<Read, A::Error> {
    let mut digests = Vec::new();
    for at in 0.. {
        let place = Place(key, Some(at));
        let item = Reader { context, part: Part::Descriptor(place) };
        let Some(read) = items.next_element_seed(item)? else { break };
        let descriptor = context.descriptor(place, read)?;
        if key != "layers" || !is_foreign(&descriptor.media_type) {
            digests.push(descriptor.digest);
        }
    }
    Ok(Read::List(digests))
}
