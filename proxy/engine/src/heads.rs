//! HEAD of a body that is not stored: upstream is asked the same, and the body is not fetched but for a tag's manifest.
//! A rollout's nodes all ask at once, before any of them fetches anything: those of one replica share an answer, and of a
//! tag whose manifest is stored by that, all replicas do.

use std::{
    collections::HashMap,
    sync::{self, Arc, PoisonError},
};

use artifactapi_formats::{PublicBase, Resource};
use artifactapi_model::{
    ArtifactKey, Digest, Remote,
    ports::{UpstreamMethod, UpstreamRequest},
};
use http::StatusCode;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use crate::{
    Engine,
    content::{Body, CacheOutcome, Content},
    error::FetchError,
    fill::{self, Head},
    share::Making,
};

/// What upstream has said of a body. `None`: nothing, it is to be had as any other.
type Answer = Result<Option<Head>, FetchError>;
/// The last answer and when it came, for those who were waiting for it.
type Last = Option<(Instant, Answer)>;
type Turn = Arc<Mutex<Last>>;

/// Questions under way.
#[derive(Default)]
pub(crate) struct Heads(sync::Mutex<HashMap<ArtifactKey, Turn>>);

impl Heads {
    fn turn(&self, key: &ArtifactKey) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(key.clone()).or_default().clone()
    }
}

impl Engine {
    /// Answers a HEAD for a body that is not stored. `None`: it is stored, or upstream has no HEAD.
    pub(crate) async fn head_only(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
    ) -> Result<Option<Content>, FetchError> {
        let key = Self::key(remote, resource);
        if self.lookup(&key).await?.is_some() {
            return Ok(None);
        }
        if remote.spec.suspend {
            return Err(FetchError::Suspended);
        }
        let began = Instant::now();
        let last = self.heads.turn(&key).lock_owned().await;
        let answer = match &*last {
            Some((came, answer)) if *came >= began => answer.clone(),
            _ => self.ask_for_all(remote, resource, last).await,
        };
        let describe =
            |head| self.describe_growing(remote, resource, base, &head, CacheOutcome::Bypass, Body::Absent);
        Ok(answer?.map(describe))
    }

    /// Asks in a task of its own: others wait for the answer when the client that caused it has left.
    async fn ask_for_all(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        mut last: OwnedMutexGuard<Last>,
    ) -> Answer {
        let (engine, remote, resource) = (self.clone(), remote.clone(), resource.clone());
        let asking = tokio::spawn(async move {
            let answer = engine.ask_for_head(&remote, &resource, &Self::key(&remote, &resource)).await;
            *last = Some((Instant::now(), answer.clone()));
            answer
        });
        asking.await.unwrap_or(Err(FetchError::Abandoned))
    }

    async fn ask_for_head(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        key: &ArtifactKey,
    ) -> Answer {
        if let Some(absence) = self.negative.get(key, self.ports.clock.now()) {
            return Err(absence);
        }
        let _lease = match resource.tag {
            Some(_) => {
                let stored = || async { Ok(self.lookup(key).await?.map(drop)) };
                match self.making(&Digest::of(format!("head\n{key:?}").as_bytes()), stored).await? {
                    Making::Made(()) => return Ok(None),
                    Making::Ours(lease) => lease,
                    // It was told nothing that could be stored: whoever has waited for that asks now, all at once.
                    Making::Left(_) => None,
                }
            }
            None => None,
        };
        if let Some(absence) = self.shared_absence(remote, key).await {
            return Err(absence);
        }
        let (request, known) = self.locate(remote, resource, 0).await?;
        let request = UpstreamRequest { method: UpstreamMethod::Head, ..request };
        // Without a fence nothing can be recorded, and the answer is none the worse.
        let fence = match &resource.tag {
            Some(_) => self.ports.metadata.next_fetch_seq().await.ok(),
            None => None,
        };
        let response = self.ports.upstream.send(remote, request).await?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => {
                let error = fill::refusal(resource, &response);
                if let FetchError::NotFound { gone } = error {
                    let life = remote.spec.negative_ttl;
                    self.negative.put(key.clone(), self.ports.clock.now() + life, gone);
                    self.share_absence(key, gone, life);
                }
                return Err(error);
            }
        }
        let mutability = remote.spec.policy.mutability(&key.path, resource.mutability);
        let mut checksums = resource.checksums.clone();
        checksums.extend(known.checksums);
        let head = fill::head_of(remote, resource, mutability, &response, checksums);
        if let Some(fetch_seq) = fence {
            // That it fails costs nobody anything.
            if let Err(error) = self.remember_tag(remote, resource, key, &head, fetch_seq).await {
                tracing::debug!(key = ?key, %error, "a tag could not be recorded by its digest");
            }
        }
        Ok(Some(head))
    }
}
