//! Where the operator writes what it has accepted: a port with an adapter for PostgreSQL ([`postgres`]), one for a
//! directory that a standalone proxy reads ([`directory`]), and one in memory ([`memory`]).
//!
//! All of a change happens or nothing; a change is refused when the leader that makes it has a successor, or when the
//! contents are no longer those it was made for. `suite` holds what every adapter keeps.

pub mod directory;
pub mod memory;
pub mod postgres;
#[cfg(test)]
mod suite;

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{
    Digest,
    account::{Robot, RobotKey},
};
use artifactapi_stores::postgres::Declared;
use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};

/// An object as it is to be stored.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which object.
    pub object: ObjectRef,
    /// Its identity in Kubernetes.
    pub uid: String,
    /// Its generation there; Secrets and ConfigMaps have none.
    pub generation: Option<i64>,
    /// The manifest as JSON. That of a Secret has its values.
    pub document: SecretString,
}

impl Row {
    /// Whether it holds secrets.
    pub fn is_secret(&self) -> bool {
        self.object.kind == "Secret"
    }

    /// SHA-256 of its document.
    pub fn digest(&self) -> Digest {
        digest_of(self.document.expose_secret())
    }
}

/// SHA-256 of a document.
pub fn digest_of(document: &str) -> Digest {
    Digest::of(document.as_bytes())
}

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// Which object.
    pub object: ObjectRef,
    /// Its identity in Kubernetes; `None` when people put it there without.
    pub uid: Option<String>,
    /// Its generation there.
    pub generation: Option<i64>,
    /// SHA-256 of its document; `None` when that cannot be opened.
    pub digest: Option<Digest>,
    /// The manifest as JSON, unless it holds secrets.
    pub document: Option<String>,
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Version, which rises with every change by whomever.
    pub version: i64,
    /// All objects of kinds we know, by kind, namespace and name.
    pub rows: Vec<StoredRow>,
    /// What is recorded beside them; `None` where whoever reads the objects does that.
    pub records: Option<Records>,
}

/// What stores keep of repositories and robots beside the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Repositories that exist.
    pub repositories: Vec<Declared>,
    /// Robots of manifests.
    pub robots: Vec<Robot>,
}

/// A change; everything it does not name stays.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Objects to add or replace.
    pub upserts: Vec<Row>,
    /// Objects to delete.
    pub deletes: Vec<ObjectRef>,
    /// Repositories that exist after it.
    pub declare: Vec<Declared>,
    /// Repositories that retire.
    pub retire: Vec<Declared>,
    /// Robots after it.
    pub robots: Vec<Robot>,
    /// Robots that go.
    pub robots_gone: Vec<RobotKey>,
}

impl Delta {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        let Delta { upserts, deletes, declare, retire, robots, robots_gone } = self;
        upserts.is_empty()
            && deletes.is_empty()
            && declare.is_empty()
            && retire.is_empty()
            && robots.is_empty()
            && robots_gone.is_empty()
    }
}

pub use artifactapi_stores::postgres::Written;

/// Why a sink did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It cannot be reached or has no room: trying again may help. Whether a change was made nobody knows; making it
    /// again is harmless.
    #[error("{0}")]
    Unavailable(String),
    /// It refuses what it was given.
    #[error("{0}")]
    Refused(String),
}

/// Where accepted objects go.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Highest epoch of a leader so far.
    async fn epoch(&self) -> Result<i64, SinkError>;

    /// Cuts off every leader of an epoch below `epoch`, and returns the epoch that leads: another one when there is a
    /// higher.
    async fn raise(&self, epoch: i64) -> Result<i64, SinkError>;

    /// Everything that is stored, as of one moment.
    async fn load(&self) -> Result<Contents, SinkError>;

    /// Makes a change for the leader of `epoch` to the contents of version `based_on`.
    async fn write(&self, epoch: i64, based_on: i64, delta: &Delta) -> Result<Written, SinkError>;

    /// Says that everything is stored that this leader has seen at its beginning. Where the contents outlive every
    /// process nobody needs to know.
    async fn complete(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Deletes some of the bytes a repository that exists no more has left, and returns how much; 0 when nothing is
    /// left. For `deletionPolicy: Purge`.
    async fn purge(&self, repository: &Declared) -> Result<u64, SinkError>;
}
