//! One entry of a chart index: the types that Helm decodes it into, and where its file lies.
//!
//! Source: helm/helm:pkg/repo/v1/index.go (`ChartVersion`), pkg/chart/v2/{metadata,dependency}.go.

use std::{fmt, marker::PhantomData, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IntoDeserializer as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;
use url::Url;

use crate::{
    IndexError,
    json::{MAX_FOLDED, folded},
    merge,
    reference::below,
};

/// A chart version. Fields that are only checked are there for Helm's sake. Their names are [`folded`].
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a chart version")]
struct Fields<'a> {
    version: Option<String>,
    #[serde(borrow)]
    urls: Option<&'a RawValue>,
    name: Option<Text>,
    home: Option<Text>,
    sources: Option<Vec<Option<Text>>>,
    description: Option<Text>,
    keywords: Option<Vec<Option<Text>>>,
    maintainers: Option<Vec<Option<Object<Maintainer>>>>,
    icon: Option<Text>,
    #[serde(rename = "apiversion")]
    api_version: Option<Text>,
    condition: Option<Text>,
    tags: Option<Text>,
    #[serde(rename = "appversion")]
    app_version: Option<Text>,
    deprecated: Option<bool>,
    annotations: Option<Texts>,
    #[serde(rename = "kubeversion")]
    kube_version: Option<Text>,
    dependencies: Option<Vec<Option<Object<Dependency>>>>,
    r#type: Option<Text>,
    created: Option<Time>,
    removed: Option<bool>,
    digest: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "a maintainer")]
struct Maintainer {
    name: Option<Text>,
    email: Option<Text>,
    url: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "a dependency")]
struct Dependency {
    name: Option<Text>,
    version: Option<Text>,
    repository: Option<Text>,
    condition: Option<Text>,
    tags: Option<Vec<Option<Text>>>,
    enabled: Option<bool>,
    alias: Option<Text>,
}

/// An entry that was read.
pub(super) struct Chart {
    version: Option<String>,
    urls: Vec<String>,
    urls_at: Range<usize>,
}

/// Where the file of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<T> {
    /// Canonical path in the Virtual.
    Ours(T),
    /// A URL of what we do not serve.
    Elsewhere(T),
}

impl Chart {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`IndexError::Malformed`] when it is none that Helm would take.
    pub(super) fn parse(json: &[u8]) -> Result<Self, IndexError> {
        let text = str::from_utf8(json).map_err(|_| malformed("it is not UTF-8"))?;
        // Helm passes over an empty entry.
        let fields: Option<Object<Fields<'_>>> = serde_json::from_str(text).map_err(malformed)?;
        let Fields { version, urls, .. } = fields.map(|fields| fields.0).unwrap_or_default();
        let Some(urls) = urls else { return Ok(Chart { version, urls: Vec::new(), urls_at: 0..0 }) };
        let start = urls.get().as_ptr() as usize - text.as_ptr() as usize;
        let urls_at = start..start + urls.get().len();
        let urls: Option<Vec<Option<String>>> = serde_json::from_str(urls.get()).map_err(malformed)?;
        Ok(Chart { version, urls: urls.into_iter().flatten().flatten().collect(), urls_at })
    }

    /// Version and file, in the merged index of `directory`; `None` for an entry that nobody could install.
    pub(super) fn advertised(&self, directory: &str, member: &str) -> Option<(&str, Target<String>)> {
        let version = self.version.as_deref().filter(|version| !version.is_empty())?;
        let target = self.urls.iter().find_map(|url| place(url, directory, member))?;
        Some((version, target))
    }

    /// Where the entry has the value of `urls`.
    pub(super) fn urls_at(&self) -> Range<usize> {
        self.urls_at.clone()
    }
}

/// Where `url` leads. Helm appends `.prov` to it, so one of ours has no query.
fn place(url: &str, directory: &str, member: &str) -> Option<Target<String>> {
    if url.starts_with("oci://") {
        return Some(Target::Elsewhere(url.to_owned()));
    }
    match Url::parse(url) {
        Ok(absolute) if matches!(absolute.scheme(), "http" | "https") => {
            Some(Target::Elsewhere(url.to_owned()))
        }
        Ok(_) => None,
        Err(_) => {
            let path = below(directory, url)?.path;
            merge::qualified(directory, member, path.as_str()).map(Target::Ours)
        }
    }
}

fn malformed(why: impl fmt::Display) -> IndexError {
    IndexError::malformed(format!("a chart version: {why}"))
}

/// A `T` written as an object, whose names are [`folded`] before they are compared with those of `T`'s fields; one that
/// comes twice is an error. serde would take an array of its fields too, which Helm does not.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Seen<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(Folding(map))).map(Object)
            }
        }
        deserializer.deserialize_map(Seen(PhantomData))
    }
}

/// An object whose names are folded.
struct Folding<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Folding<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(Folded(seed))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// Takes a name folded.
struct Folded<K>(K);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Folded<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for Folded<K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<K::Value, E> {
        self.0.deserialize(folded(name, &mut [0; MAX_FOLDED]).unwrap_or(name).into_deserializer())
    }
}

/// A text, not kept.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl Visitor<'_> for Seen {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, _text: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(Seen)
    }
}

/// A mapping of texts, not kept.
struct Texts;

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                while map.next_entry::<Text, Option<Text>>()?.is_some() {}
                Ok(Texts)
            }
        }
        deserializer.deserialize_map(Seen)
    }
}

/// A moment as Go reads one from JSON (RFC 3339), not kept.
struct Time;

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl Visitor<'_> for Seen {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                if is_time(text) { Ok(Time) } else { Err(E::custom("a time is not as in RFC 3339")) }
            }
        }
        deserializer.deserialize_str(Seen)
    }
}

fn is_time(text: &str) -> bool {
    let Some((seconds, rest)) = text.split_at_checked(19) else { return false };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    let number = |text: &str, most| text.parse::<u32>().is_ok_and(|number| number <= most);
    let looks = |text: &str, like: &str| {
        let digit = |(byte, like): (u8, u8)| if like == b'0' { byte.is_ascii_digit() } else { byte == like };
        text.len() == like.len() && text.bytes().zip(like.bytes()).all(digit)
    };
    let is_zone = |zone: &str| {
        zone == "Z"
            || (looks(&zone.replace('-', "+"), "+00:00") && number(&zone[1..3], 23) && number(&zone[4..], 59))
    };
    looks(seconds, "0000-00-00T00:00:00")
        && (1..=12).contains(&seconds[5..7].parse().unwrap_or(0))
        && (1..=31).contains(&seconds[8..10].parse().unwrap_or(0))
        && number(&seconds[11..13], 23)
        && number(&seconds[14..16], 59)
        && number(&seconds[17..], 59)
        && is_zone(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_that_go_reads() {
        for (text, want) in [
            ("2024-05-06T07:08:09Z", true),
            ("2024-05-06T07:08:09.123456789+02:00", true),
            ("2024-05-06T07:08:09-23:59", true),
            ("2024-05-06T07:08:09.Z", false),
            ("2024-05-06 07:08:09Z", false),
            ("2024-13-06T07:08:09Z", false),
            ("2024-05-32T07:08:09Z", false),
            ("2024-05-06T24:08:09Z", false),
            ("2024-05-06T07:08:09", false),
            ("2024-05-06T07:08:09+0200", false),
            ("2024-05-06T07:08:0é", false),
            ("yesterday", false),
            ("", false),
        ] {
            assert_eq!(is_time(text), want, "{text}");
        }
    }
}
