//! What a merged page says besides its files.

use std::collections::HashSet;

use crate::pypi::{model::Item, name};

/// What one member's page says besides its files.
#[derive(Default)]
pub(super) struct Said {
    minor: u32,
    versions: Option<Vec<String>>,
    status: Option<Item>,
    /// Versions that names of files say, of files that policy shows, and of those that it hides.
    shown: HashSet<Box<str>>,
    hidden: HashSet<Box<str>>,
}

impl Said {
    /// Takes an item that is no file and no project.
    pub(super) fn hear(&mut self, item: Item) {
        match item {
            Item::Minor(minor) => self.minor = minor,
            Item::Versions(versions) => self.versions = Some(versions),
            status @ Item::Status { .. } => self.status = Some(status),
            Item::File(_) | Item::Project(_) | Item::Tracks(_) | Item::AlternateLocations(_) => {}
        }
    }

    /// Takes note of the file called `name`.
    pub(super) fn note(&mut self, name: &str, is_shown: bool) {
        let versions = if is_shown { &mut self.shown } else { &mut self.hidden };
        versions.extend(name::version_of(name).map(Box::from));
    }
}

/// What the members whose files are taken say together.
pub(super) struct Head {
    /// The oldest minor version of the API among them.
    minor: Option<u32>,
    /// All versions; `None` as soon as one of them does not list its own.
    versions: Option<Vec<String>>,
    known: HashSet<String>,
    status: Option<Item>,
}

impl Default for Head {
    fn default() -> Self {
        Head { minor: None, versions: Some(Vec::new()), known: HashSet::new(), status: None }
    }
}

impl Head {
    /// Adds what the next member says.
    pub(super) fn add(&mut self, said: Said) {
        let Said { minor, versions, status, shown, hidden } = said;
        if self.minor.is_none() {
            self.status = status;
        }
        self.minor = Some(self.minor.map_or(minor, |known| known.min(minor)));
        let Some(versions) = versions else {
            self.versions = None;
            return;
        };
        let Some(all) = &mut self.versions else { return };
        for version in versions {
            let is_hidden = hidden.contains(version.as_str()) && !shown.contains(version.as_str());
            if !is_hidden && self.known.insert(version.clone()) {
                all.push(version);
            }
        }
    }

    /// What is written in front of the files.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        let minor = self.minor.map(Item::Minor);
        let versions = self.versions.clone().filter(|_| minor.is_some()).map(Item::Versions);
        [minor, versions, self.status.clone()].into_iter().flatten()
    }
}
