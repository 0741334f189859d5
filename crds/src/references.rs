//! The Secrets and ConfigMaps that manifests refer to, as the caller has read them.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretSlice};

use crate::manifests::ObjectRef;

/// A `v1/Secret`.
#[derive(Debug, Default)]
pub struct Secret {
    data: BTreeMap<String, SecretSlice<u8>>,
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let same = |key: &str, value: &SecretSlice<u8>| {
            other.data.get(key).is_some_and(|theirs| theirs.expose_secret() == value.expose_secret())
        };
        self.data.len() == other.data.len() && self.data.iter().all(|(key, value)| same(key, value))
    }
}

impl Secret {
    /// Takes decoded entries.
    pub fn new(data: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Secret { data: data.into_iter().map(|(key, value)| (key, value.into())).collect() }
    }

    /// Whether there is an entry `key`.
    pub fn has(&self, key: &str) -> bool {
        self.data.contains_key(key)
    }

    /// All entries in base64, as a manifest writes them; for storing them sealed.
    pub(crate) fn encoded(&self) -> BTreeMap<&str, String> {
        let encode = |value: &SecretSlice<u8>| STANDARD.encode(value.expose_secret());
        self.data.iter().map(|(key, value)| (key.as_str(), encode(value))).collect()
    }

    /// The entry `key` as text, without one trailing line break (the usual slip of `echo` and editors).
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn text(&self, key: &'static str) -> Result<&str, EntryError> {
        let bytes = self.data.get(key).ok_or(EntryError::Missing(key))?.expose_secret();
        let text = std::str::from_utf8(bytes).map_err(|_| EntryError::NotText(key))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() { Err(EntryError::Empty(key)) } else { Ok(text) }
    }
}

/// Why an entry cannot be used. Names the key, never the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// No such key.
    #[error("has no key {0}")]
    Missing(&'static str),
    /// The value is empty.
    #[error("has nothing under the key {0}")]
    Empty(&'static str),
    /// The value is not UTF-8.
    #[error("has bytes that are no text under the key {0}")]
    NotText(&'static str),
}

/// A `v1/ConfigMap`; entries of `binaryData` are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// Entries.
    pub data: BTreeMap<String, String>,
}

type Key = (String, String);

/// Everything a set of manifests may refer to, by namespace and name.
#[derive(Debug, Default)]
pub struct References {
    secrets: BTreeMap<Key, Secret>,
    config_maps: BTreeMap<Key, ConfigMap>,
}

impl References {
    /// Adds a Secret; `false` (and no change) when there is one of that name.
    pub fn add_secret(&mut self, namespace: &str, name: &str, secret: Secret) -> bool {
        add(&mut self.secrets, namespace, name, secret)
    }

    /// Adds a ConfigMap; `false` (and no change) when there is one of that name.
    pub fn add_config_map(&mut self, namespace: &str, name: &str, config_map: ConfigMap) -> bool {
        add(&mut self.config_maps, namespace, name, config_map)
    }

    /// The Secret `name` of `namespace`.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Whether `object`, a Secret or a ConfigMap, is here what it is in `other`; being in neither is the same.
    pub fn agrees(&self, other: &References, object: &ObjectRef) -> bool {
        let ObjectRef { kind, namespace, name } = object;
        match *kind {
            "Secret" => self.secret(namespace, name) == other.secret(namespace, name),
            _ => self.config_map(namespace, name) == other.config_map(namespace, name),
        }
    }

    /// The ConfigMap `name` of `namespace`.
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<&ConfigMap> {
        self.config_maps.get(&(namespace.to_owned(), name.to_owned()))
    }
}

fn add<T>(map: &mut BTreeMap<Key, T>, namespace: &str, name: &str, value: T) -> bool {
    use std::collections::btree_map::Entry;
    match map.entry((namespace.to_owned(), name.to_owned())) {
        Entry::Occupied(_) => false,
        Entry::Vacant(free) => {
            free.insert(value);
            true
        }
    }
}
