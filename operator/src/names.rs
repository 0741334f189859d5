//! Names whose objects went a moment ago. Who deletes an object to make it again must not lose its name, with everything
//! that clients have under it, to somebody who has waited for just that; so its namespace keeps the name for a while.
//!
//! A successor of this leader does not know of it: what it finds stored keeps its name, and what it does not find does not.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How long a namespace keeps a name, unless `ARTIFACTAPI_NAME_GRACE` says otherwise.
pub const GRACE: Duration = Duration::from_secs(120);

/// The names.
#[derive(Debug)]
pub struct Vacated {
    grace: Duration,
    names: BTreeMap<String, (String, Instant)>,
}

impl Vacated {
    /// None; each is kept for `grace`.
    pub fn new(grace: Duration) -> Self {
        Vacated { grace, names: BTreeMap::new() }
    }

    /// The object that had a name in `namespace` is no more.
    pub fn note(&mut self, name: &str, namespace: &str) {
        let now = Instant::now();
        self.names.retain(|_, (_, until)| now < *until);
        self.names.insert(name.to_owned(), (namespace.to_owned(), now + self.grace));
    }

    /// The namespace that keeps a name.
    pub fn namespace(&self, name: &str) -> Option<&str> {
        let (namespace, until) = self.names.get(name)?;
        (Instant::now() < *until).then_some(namespace)
    }

    /// Until when it does.
    pub fn until(&self, name: &str) -> Option<Instant> {
        self.names.get(name).map(|(_, until)| *until).filter(|until| Instant::now() < *until)
    }

    /// How long a name is kept.
    pub fn grace(&self) -> Duration {
        self.grace
    }
}
