//! `deletionPolicy: Purge`: a finalizer holds the object until its bytes are given up, for as long as that takes and no
//! longer than somebody would wait.
//!
//! The row goes first, and proxies get a moment to stop serving. Then what the repository left is deleted in steps that
//! hold up nothing else. Where no step succeeds for [`PATIENCE`], the object is let go all the same, since a finalizer
//! that waits for a lost database would hold a whole namespace; `artifactapi purge NAME` does the rest.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifactapi_crds::{GROUP, VERSION, manifests::ObjectRef, schema::Kind};
use artifactapi_model::{PackageType, RepoName, failpoint};
use artifactapi_stores::postgres::Declared;
use kube::{
    Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    api,
    seen::{FINALIZER, Seen, custom_kind},
    sink::{Sink, SinkError},
    watches::dynamic,
};

/// Longest time without any success.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Time for proxies to notice that the repository is no more.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Purges under way at a time.
const AT_ONCE: usize = 2;
/// Field manager of the finalizer.
const MANAGER: &str = "artifactapi-operator-finalizer";

/// A purge that has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Of which object.
    pub object: ObjectRef,
    /// Its identity.
    pub uid: String,
    /// Why it was given up, if it was.
    pub failure: Option<String>,
}

/// Purges.
pub struct Purges {
    sink: Arc<dyn Sink>,
    waiting: BTreeMap<ObjectRef, Purge>,
    under_way: JoinSet<(ObjectRef, Result<u64, SinkError>)>,
}

struct Purge {
    uid: String,
    repository: Option<Declared>,
    /// When there was success the last time.
    since: Instant,
    at: Instant,
    is_under_way: bool,
}

impl Purges {
    /// None yet.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Purges { sink, waiting: BTreeMap::new(), under_way: JoinSet::new() }
    }

    /// Begins to purge what `seen`, whose row is gone, has left.
    pub fn begin(&mut self, seen: &Seen) {
        let now = Instant::now();
        self.waiting.entry(seen.object.clone()).or_insert_with(|| Purge {
            uid: seen.uid.clone(),
            repository: repository_of(seen),
            since: now,
            at: now + GRACE,
            is_under_way: false,
        });
    }

    /// Does no more for `object`; a step that is under way ends by itself.
    pub fn forget(&mut self, object: &ObjectRef) {
        self.waiting.remove(object);
    }

    /// Ends all of it; whoever leads next begins again.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.under_way = JoinSet::new();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether one of them is of `object`.
    pub fn has(&self, object: &ObjectRef) -> bool {
        self.waiting.contains_key(object)
    }

    /// The next that comes to its end; never ready while there is none.
    pub async fn next(&mut self) -> Ended {
        loop {
            self.fill();
            let due = self.waiting.values().filter(|purge| !purge.is_under_way).map(|purge| purge.at).min();
            let due = due.filter(|_| self.under_way.len() < AT_ONCE);
            let done = tokio::select! {
                Some(Ok(done)) = self.under_way.join_next() => done,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
                else => std::future::pending().await,
            };
            if let Some(ended) = self.note(done) {
                return ended;
            }
        }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let due = self.waiting.iter_mut().filter(|(_, purge)| !purge.is_under_way && purge.at <= now);
        for (object, purge) in due.take(AT_ONCE.saturating_sub(self.under_way.len())) {
            purge.is_under_way = true;
            let (sink, object, repository) = (self.sink.clone(), object.clone(), purge.repository.clone());
            let step = async move {
                let Some(repository) = repository else { return (object, Ok(0)) };
                let gone = sink.purge(&repository).await;
                failpoint("operator.purge.after");
                (object, gone)
            };
            self.under_way.spawn(step);
        }
    }

    fn note(&mut self, (object, result): (ObjectRef, Result<u64, SinkError>)) -> Option<Ended> {
        let now = Instant::now();
        let purge = self.waiting.get_mut(&object)?;
        purge.is_under_way = false;
        let failure = match result {
            Ok(0) => None,
            Ok(_) => {
                (purge.since, purge.at) = (now, now);
                return None;
            }
            Err(error) if now - purge.since < PATIENCE => {
                tracing::warn!(object = %object, error = %error, "a purge failed, and is tried again");
                purge.at = now + PAUSE;
                return None;
            }
            Err(error) => Some(error.to_string()),
        };
        let purge = self.waiting.remove(&object)?;
        Some(Ended { object, uid: purge.uid, failure })
    }
}

/// The repository that an object was.
fn repository_of(seen: &Seen) -> Option<Declared> {
    let manifest = seen.manifest.read();
    let text = manifest.pointer("/spec/type").and_then(Value::as_str)?;
    Some(Declared {
        namespace: seen.object.namespace.clone(),
        name: RepoName::try_from(seen.object.name.as_str()).ok()?,
        package_type: PackageType::ALL.into_iter().find(|known| known.as_str() == text)?,
        base_url: String::new(),
    })
}

/// Puts our finalizer on an object; those of others stay.
///
/// # Errors
/// [`api::Failure`]; nothing is wrong when there is no such object any more.
pub async fn hold(client: &Client, object: &ObjectRef, uid: &str) -> Result<(), api::Failure> {
    let Some(kind) = custom_kind(object.kind) else { return Ok(()) };
    let patch = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind.as_str(),
        "metadata": { "name": object.name, "uid": uid, "finalizers": [FINALIZER] },
    });
    patched(client, kind, object, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await?;
    failpoint("operator.finalizer.after_add");
    Ok(())
}

/// Takes our finalizer from an object that was seen with `finalizers`; those of others stay.
///
/// It may have come with a manifest, so that it is not ours by the API server's books and an apply would leave it there.
/// Hence a patch of the whole list, which is refused if another is there by now.
///
/// # Errors
/// [`api::Failure`], also when it has other finalizers by now; nothing is wrong when there is no such object any more.
pub async fn release(
    client: &Client,
    object: &ObjectRef,
    uid: &str,
    finalizers: &[String],
) -> Result<(), api::Failure> {
    let Some(kind) = custom_kind(object.kind) else { return Ok(()) };
    let others: Vec<&String> = finalizers.iter().filter(|one| *one != FINALIZER).collect();
    let steps = json!([
        { "op": "test", "path": "/metadata/uid", "value": uid },
        { "op": "test", "path": "/metadata/finalizers", "value": finalizers },
        { "op": "replace", "path": "/metadata/finalizers", "value": others },
    ]);
    let steps = serde_json::from_value(steps).map_err(|error| api::Failure::Other(error.to_string()))?;
    failpoint("operator.finalizer.before_remove");
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    patched(client, kind, object, &params, &Patch::Json(steps)).await
}

async fn patched(
    client: &Client,
    kind: Kind,
    object: &ObjectRef,
    params: &PatchParams,
    patch: &Patch<Value>,
) -> Result<(), api::Failure> {
    let api = dynamic(client, kind, Some(&object.namespace));
    let call = async {
        match api.patch(&object.name, params, patch).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(drop),
        }
    };
    api::patiently(call).await
}
