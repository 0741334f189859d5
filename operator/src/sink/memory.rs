//! A sink in memory, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{
    PackageType,
    account::{Robot, RobotKey},
};
use artifactapi_stores::postgres::{Declared, Written};
use async_trait::async_trait;
use secrecy::ExposeSecret as _;

use super::{Contents, Delta, Records, Row, Sink, SinkError, StoredRow};

/// The sink.
#[derive(Debug, Default)]
pub struct MemorySink(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    epoch: i64,
    version: i64,
    rows: BTreeMap<ObjectRef, (Option<String>, Row)>,
    repositories: BTreeMap<(String, String, PackageType), Declared>,
    robots: BTreeMap<RobotKey, Robot>,
    purged: BTreeSet<String>,
    completed: Vec<usize>,
    failure: Option<SinkError>,
    crash: Option<Crash>,
    refused: Option<String>,
}

/// When the next write goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing is changed.
    BeforeWrite,
    /// It is done, and nobody hears of it.
    AfterWrite,
}

impl MemorySink {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Has every call fail from now on, or none.
    pub fn fail(&self, failure: Option<SinkError>) {
        self.state().failure = failure;
    }

    /// Has every change refused that writes an object of this name.
    pub fn refuse(&self, name: Option<&str>) {
        self.state().refused = name.map(str::to_owned);
    }

    /// Has the next write go wrong.
    pub fn crash(&self, crash: Crash) {
        self.state().crash = Some(crash);
    }

    /// Deletes an object behind everyone's back.
    pub fn lose(&self, object: &ObjectRef) {
        let mut state = self.state();
        state.version += 1;
        state.rows.remove(object);
    }

    /// Stores an object as people without Kubernetes do.
    pub fn put_by_hand(&self, row: Row) {
        let mut state = self.state();
        state.version += 1;
        state.rows.insert(row.object.clone(), (None, row));
    }

    /// Has a repository exist, as proxies see to it where they need one: no version tells of it.
    pub fn ensure(&self, declared: Declared) {
        let place = (declared.namespace.clone(), declared.name.to_string(), declared.package_type);
        self.state().repositories.insert(place, declared);
    }

    /// Retires all repositories of a name behind everyone's back.
    pub fn retire(&self, name: &str) {
        let mut state = self.state();
        state.version += 1;
        state.repositories.retain(|_, declared| declared.name.as_str() != name);
    }

    /// Names of the repositories whose bytes were purged.
    pub fn purged(&self) -> BTreeSet<String> {
        self.state().purged.clone()
    }

    /// How many objects there were each time that all were said to be there.
    pub fn completed(&self) -> Vec<usize> {
        self.state().completed.clone()
    }

    /// The document of an object.
    pub fn document(&self, object: &ObjectRef) -> Option<String> {
        self.state().rows.get(object).map(|(_, row)| row.document.expose_secret().to_owned())
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn epoch(&self) -> Result<i64, SinkError> {
        let state = self.state();
        state.failure.clone().map_or(Ok(state.epoch), Err)
    }

    async fn raise(&self, epoch: i64) -> Result<i64, SinkError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        state.epoch = state.epoch.max(epoch);
        Ok(state.epoch)
    }

    async fn load(&self) -> Result<Contents, SinkError> {
        let state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let row = |(uid, row): &(Option<String>, Row)| StoredRow {
            object: row.object.clone(),
            uid: uid.clone(),
            generation: row.generation,
            digest: Some(row.digest()),
            document: (!row.is_secret()).then(|| row.document.expose_secret().to_owned()),
        };
        Ok(Contents {
            version: state.version,
            rows: state.rows.values().map(row).collect(),
            records: Some(Records {
                repositories: state.repositories.values().cloned().collect(),
                robots: state.robots.values().cloned().collect(),
            }),
        })
    }

    async fn write(&self, epoch: i64, based_on: i64, delta: &Delta) -> Result<Written, SinkError> {
        let Delta { upserts, deletes, declare, retire, robots, robots_gone } = delta;
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.epoch > epoch {
            return Ok(Written::Fenced(state.epoch));
        }
        if state.version != based_on {
            return Ok(Written::Outdated(state.version));
        }
        let refused = upserts.iter().find(|row| Some(&row.object.name) == state.refused.as_ref());
        if let Some(row) = refused {
            return Err(SinkError::Refused(format!("{} is refused", row.object.name)));
        }
        let crash = state.crash.take();
        let lost = || Err(SinkError::Unavailable("the connection is gone".into()));
        if crash == Some(Crash::BeforeWrite) {
            return lost();
        }
        state.epoch = epoch;
        let place = |it: &Declared| (it.namespace.clone(), it.name.to_string(), it.package_type);
        deletes.iter().for_each(|object| drop(state.rows.remove(object)));
        for row in upserts {
            state.rows.insert(row.object.clone(), (Some(row.uid.clone()), row.clone()));
        }
        retire.iter().for_each(|it| drop(state.repositories.remove(&place(it))));
        declare.iter().for_each(|it| drop(state.repositories.insert(place(it), it.clone())));
        robots_gone.iter().for_each(|key| drop(state.robots.remove(key)));
        robots.iter().for_each(|robot| drop(state.robots.insert(robot.key.clone(), robot.clone())));
        if !delta.is_empty() {
            state.version += 1;
        }
        if crash == Some(Crash::AfterWrite) {
            return lost();
        }
        Ok(Written::Version(state.version))
    }

    async fn complete(&self) -> Result<(), SinkError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let count = state.rows.len();
        state.completed.push(count);
        Ok(())
    }

    async fn purge(&self, repository: &Declared) -> Result<u64, SinkError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        Ok(u64::from(state.purged.insert(repository.name.to_string())))
    }
}
