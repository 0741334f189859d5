//! A manifest as it passes by: what counts is kept, everything else is read all the same and dropped.
//!
//! As a tree of values the 4 MiB of a manifest come to hundreds, so none is built, and what makes a manifest
//! worthless ends the reading at once. No object has a key twice: readers disagree on which of the two counts.

mod keys;
mod parts;

use std::{collections::BTreeMap, fmt};

use artifactapi_model::oci::OciDigest;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{invalid, is_media_type};
use crate::RegistryError;
use keys::Keys;

/// What counts of a document. A list that is there is `Some`, even where it is null.
#[derive(Default)]
pub(super) struct Document {
    pub(super) schema_version: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) subject: Option<OciDigest>,
    pub(super) config: Option<Descriptor>,
    /// Those that have to be in the registry.
    pub(super) layers: Option<Vec<OciDigest>>,
    pub(super) manifests: Option<Vec<OciDigest>>,
}

pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: OciDigest,
}

/// Reads a document whose root is an object. Nesting is bounded by `serde_json`.
///
/// # Errors
/// [`RegistryError::ManifestInvalid`].
pub(super) fn document(bytes: &[u8]) -> Result<Document, RegistryError> {
    let mut context = Context::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Reader { context: &mut context, part: Part::Document }.deserialize(&mut json);
    match read.and_then(|read| json.end().map(|()| read)) {
        Ok(Read::Document(document)) => Ok(*document),
        Ok(_) => Err(invalid("it is no JSON object")),
        Err(error) => Err(invalid(context.reason.unwrap_or_else(|| error.to_string()))),
    }
}

#[derive(Default)]
struct Context {
    keys: Keys,
    /// Why the reading ended, where it was not for the JSON: `serde_json` would add a place to it.
    reason: Option<String>,
}

/// What is to be read.
#[derive(Clone, Copy)]
enum Part {
    Document,
    Annotations,
    Descriptor(Place),
    /// Descriptors, under this key.
    List(&'static str),
    MediaType,
    Digest,
    Text,
    /// A number, or nothing that is kept.
    Other,
}

/// Where a descriptor stands, and at which place of a list.
#[derive(Clone, Copy)]
struct Place(&'static str, Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(at) => write!(f, "{}[{at}]", self.0),
            None => f.write_str(self.0),
        }
    }
}

/// What was read; `Other` is what was not asked for.
enum Read {
    Document(Box<Document>),
    Annotations(BTreeMap<String, String>),
    Descriptor(Descriptor),
    List(Vec<OciDigest>),
    Digest(OciDigest),
    Text(String),
    Number(u64),
    Null,
    Other,
}

impl Context {
    fn refuse<E: de::Error>(&mut self, reason: impl Into<String>) -> E {
        let reason = self.reason.insert(reason.into());
        E::custom(reason)
    }

    /// The next key, if there is one: one of `known`, or any other.
    fn key<'de, A: MapAccess<'de>>(
        &mut self,
        entries: &mut A,
        known: &'static [&'static str],
    ) -> Result<Option<Option<&'static str>>, A::Error> {
        entries.next_key_seed(Key { keys: &mut self.keys, known })
    }

    fn value<'de, A: MapAccess<'de>>(&mut self, entries: &mut A, part: Part) -> Result<Read, A::Error> {
        entries.next_value_seed(Reader { context: self, part })
    }

    fn number<'de, A: MapAccess<'de>>(&mut self, entries: &mut A) -> Result<Option<u64>, A::Error> {
        match self.value(entries, Part::Other)? {
            Read::Number(number) => Ok(Some(number)),
            _ => Ok(None),
        }
    }

    fn media_type<'de, A: MapAccess<'de>>(
        &mut self,
        entries: &mut A,
        key: &str,
    ) -> Result<Option<String>, A::Error> {
        match self.value(entries, Part::MediaType)? {
            Read::Text(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Read::Null => Ok(None),
            _ => Err(self.refuse(format!("{key} is no media type"))),
        }
    }

    fn descriptor<E: de::Error>(&mut self, place: Place, read: Read) -> Result<Descriptor, E> {
        match read {
            Read::Descriptor(descriptor) => Ok(descriptor),
            _ => Err(self.refuse(format!("{place} is no descriptor"))),
        }
    }

    fn list<'de, A: MapAccess<'de>>(
        &mut self,
        entries: &mut A,
        key: &'static str,
    ) -> Result<Option<Vec<OciDigest>>, A::Error> {
        match self.value(entries, Part::List(key))? {
            Read::List(digests) => Ok(Some(digests)),
            Read::Null => Ok(Some(Vec::new())),
            _ => Err(self.refuse(format!("{key} is no list"))),
        }
    }
}

struct Key<'a> {
    keys: &'a mut Keys,
    known: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        self.keys.push(key).map_err(E::custom)?;
        Ok(self.known.iter().copied().find(|known| *known == key))
    }
}

struct Reader<'a> {
    context: &'a mut Context,
    part: Part,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Read, E> {
        Ok(Read::Number(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Read, E> {
        Ok(Read::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Read, E> {
        Ok(match self.part {
            Part::Text => Read::Text(text.to_owned()),
            Part::MediaType if is_media_type(text) => Read::Text(text.to_owned()),
            // One that is malformed is as good as none.
            Part::Digest => text.parse().map_or(Read::Null, Read::Digest),
            _ => Read::Other,
        })
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read, A::Error> {
        if let Part::List(key) = self.part {
            return parts::list(self.context, items, key);
        }
        while items.next_element_seed(Reader { context: self.context, part: Part::Other })?.is_some() {}
        Ok(Read::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Read, A::Error> {
        let Reader { context, part } = self;
        let first = context.keys.open();
        let read = match part {
            Part::Document => parts::root(context, &mut entries)?,
            Part::Annotations => parts::annotations(context, &mut entries)?,
            Part::Descriptor(place) => parts::descriptor(context, &mut entries, place)?,
            _ => {
                while context.key(&mut entries, &[])?.is_some() {
                    context.value(&mut entries, Part::Other)?;
                }
                Read::Other
            }
        };
        if context.keys.close(first) {
            Ok(read)
        } else {
            Err(de::Error::custom("an object has one key twice"))
        }
    }
}
