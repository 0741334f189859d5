//! The last step of a reconcile: what became of an object, written into its status when that does not say so already.
//!
//! Statuses wait in an outbox of which a few are under way at a time, so that a slow API server does not hold up what
//! is stored. Of an object only the latest counts.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use artifactapi_crds::{GROUP, VERSION, manifests::ObjectRef};
use artifactapi_model::failpoint;
use kube::{
    Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    api,
    seen::{Text, custom_kind},
    watches::dynamic,
};

/// Who writes: the field manager of our part of the status.
pub const MANAGER: &str = "artifactapi-operator";
/// Statuses written at the same time.
const AT_ONCE: usize = 16;
/// Pause after a failure, doubled with every further one.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A status to be written.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Whose.
    pub object: ObjectRef,
    /// Its identity: another object of the name is none of our business.
    pub uid: String,
    /// The status.
    pub status: Text,
    /// What it was before.
    pub before: Text,
}

/// What became of a letter.
#[derive(Debug)]
pub enum Sent {
    /// It is written.
    Written(Letter),
    /// It is tried again later.
    Delayed,
    /// There is no such object any more.
    Dropped,
}

/// Statuses on their way.
pub struct Outbox {
    client: Client,
    manager: &'static str,
    waiting: BTreeMap<ObjectRef, Letter>,
    order: VecDeque<ObjectRef>,
    /// Tasks of their own: they go on while the operator does something else.
    under_way: JoinSet<(Letter, Result<(), Trouble>)>,
    pause: Duration,
    not_before: Option<Instant>,
}

enum Trouble {
    Gone,
    Failed(String),
}

impl Outbox {
    /// An empty one of the field manager `manager`.
    pub fn new(client: Client, manager: &'static str) -> Self {
        Outbox {
            client,
            manager,
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            under_way: JoinSet::new(),
            pause: PAUSE,
            not_before: None,
        }
    }

    /// Takes a letter, in place of any older one to the same object.
    pub fn put(&mut self, mut letter: Letter) {
        let object = letter.object.clone();
        match self.waiting.remove(&object) {
            // Nobody has seen what was in it.
            Some(older) => letter.before = older.before,
            None => self.order.push_back(object.clone()),
        }
        self.waiting.insert(object, letter);
        self.fill();
    }

    /// The letter to an object that is not written yet.
    pub fn waiting(&self, object: &ObjectRef) -> Option<&Letter> {
        self.waiting.get(object)
    }

    /// Forgets everything that is not under way.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.order.clear();
    }

    /// How many are not written yet.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn fill(&mut self) {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.not_before = None;
        while self.under_way.len() < AT_ONCE
            && let Some(object) = self.order.pop_front()
        {
            if let Some(letter) = self.waiting.remove(&object) {
                self.under_way.spawn(write(self.client.clone(), self.manager, letter));
            }
        }
    }

    /// What became of the next letter; never ready while none is under way or due.
    pub async fn next(&mut self) -> Sent {
        self.fill();
        if self.under_way.is_empty() {
            match self.not_before {
                Some(at) if !self.order.is_empty() => tokio::time::sleep_until(at).await,
                _ => std::future::pending::<()>().await,
            }
            return Sent::Delayed;
        }
        let Some(Ok((letter, result))) = self.under_way.join_next().await else { return Sent::Delayed };
        match result {
            Ok(()) => {
                self.pause = PAUSE;
                Sent::Written(letter)
            }
            Err(Trouble::Gone) => Sent::Dropped,
            Err(Trouble::Failed(error)) => {
                tracing::warn!(object = %letter.object, error, "a status could not be written, and is tried again");
                self.not_before = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(MAX_PAUSE);
                // A newer one is on its way already.
                if !self.waiting.contains_key(&letter.object) {
                    self.order.push_back(letter.object.clone());
                    self.waiting.insert(letter.object.clone(), letter);
                }
                Sent::Delayed
            }
        }
    }
}

async fn write(client: Client, manager: &'static str, letter: Letter) -> (Letter, Result<(), Trouble>) {
    failpoint("operator.status.before");
    let result = patch(&client, manager, &letter).await;
    failpoint("operator.status.after");
    (letter, result)
}

async fn patch(client: &Client, manager: &str, letter: &Letter) -> Result<(), Trouble> {
    let ObjectRef { kind, namespace, name } = &letter.object;
    let Some(kind) = custom_kind(kind) else { return Ok(()) };
    let api = dynamic(client, kind, Some(namespace));
    let patch = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind.as_str(),
        // With another identity the patch is refused.
        "metadata": { "name": name, "uid": letter.uid },
        "status": letter.status.read(),
    });
    let params = PatchParams::apply(manager).force();
    let call = async {
        match api.patch_status(name, &params, &Patch::Apply(&patch)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            other => other.map(Some),
        }
    };
    match api::patiently(call).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Trouble::Gone),
        Err(failure) => Err(Trouble::Failed(failure.to_string())),
    }
}
