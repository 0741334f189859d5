//! From a plan to a body: lookup, decision, and what follows from it.

use std::{sync::Arc, time::Duration};

use artifactapi_formats::{LinkSigner, Location, PlanError, Resource, Revalidation};
use artifactapi_model::{
    ArtifactKey, Mutability, Remote,
    policy::Refusal,
    ports::{BlobError, UpstreamMethod, UpstreamRequest, metadata::ArtifactRow, upstream::UrlSource},
    repository::{OnUpstreamGone, RemoteSpec},
};
use url::Url;

use crate::{
    Engine,
    content::{CacheOutcome, GrowingBody},
    decide::{Decision, Held, Rules, decide, effective_mutability, may_stand_in},
    error::FetchError,
    facts::{Effort, Known, planned},
    fill::{Finished, Head, Job, Progress},
    flights::{Pilot, Seat},
    hot::HotEntry,
    window::Window,
};

/// Bodies up to this size are verified before anything is shown of them; of larger ones this much is held
/// back until they are.
pub(crate) const HOLD_BACK: u64 = 64 << 10;

/// How long after a document upstream may still be writing what belongs to it: a publisher signs in seconds, and a mirror
/// may bring one of the two an hour before the other.
const SETTLED: Duration = Duration::from_secs(3_600);

/// How much of a body a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It can stream.
    Stream,
    /// All of it, stored (an index to read or rewrite), at this depth of a chain of indexes.
    Whole {
        /// Chain length so far.
        depth: u8,
    },
}

impl Need {
    pub(crate) fn depth(self) -> u8 {
        match self {
            Need::Stream => 0,
            Need::Whole { depth } => depth,
        }
    }
}

/// A body that was found or is being fetched.
pub(crate) enum Obtained {
    /// Stored.
    Held { entry: Arc<HotEntry>, outcome: CacheOutcome },
    /// Being fetched, or fetched but not stored.
    Growing { head: Arc<Head>, body: GrowingBody, outcome: CacheOutcome },
}

impl Obtained {
    /// The stored entry; an error for a body that could not be stored.
    pub(crate) fn into_entry(self) -> Result<Arc<HotEntry>, FetchError> {
        match self {
            Obtained::Held { entry, .. } => Ok(entry),
            Obtained::Growing { .. } => Err(FetchError::Truncated(
                "a document without a framed end cannot be used as an index".into(),
            )),
        }
    }
}

/// The URL of `relative` (encoded path, perhaps with query) below `baseURL`.
///
/// # Errors
/// [`FetchError::Plan`] when the result would leave `baseURL`.
pub(crate) fn below(spec: &RemoteSpec, relative: &str) -> Result<Url, FetchError> {
    let malformed = || FetchError::Plan(PlanError::NotFound("this path leads outside the repository"));
    // Joined as text: `Url::join` would read "a:b" or "//host" in a path as another origin.
    let url = Url::parse(&format!("{}{relative}", spec.base_url)).map_err(|_| malformed())?;
    if url.origin() != spec.base_url.origin() || !url.path().starts_with(spec.base_url.path()) {
        return Err(malformed());
    }
    Ok(url)
}

impl Engine {
    /// The key of `resource`.
    pub(crate) fn key(remote: &Remote, resource: &Resource) -> ArtifactKey {
        ArtifactKey::new(remote.identity.id, remote.identity.epoch, &resource.path, &resource.query)
    }

    /// Whether clients may have the file of `remote` at canonical `path`: as it decides when it is asked for the file,
    /// and so under every name that the file has, as signed links have several.
    pub(crate) fn permits(remote: &Remote, path: &str, links: &LinkSigner) -> bool {
        if !remote.spec.hides() {
            return true;
        }
        planned(remote, path, "", links).is_ok_and(|resource| Self::permit(remote, &resource).is_ok())
    }

    /// Policy on `resource`, under every name it has.
    pub(crate) fn permit(remote: &Remote, resource: &Resource) -> Result<(), FetchError> {
        let names =
            std::iter::once(resource.path.as_str()).chain(resource.aliases.iter().map(String::as_str));
        remote.spec.policy.permits(names)?;
        if let Some(tag) = &resource.tag
            && remote.spec.docker.ban_tags.matches(tag)
        {
            return Err(Refusal::BannedTag.into());
        }
        Ok(())
    }

    /// What is stored under `key`: from memory, else from the database.
    pub(crate) async fn lookup(
        self: &Arc<Self>,
        key: &ArtifactKey,
    ) -> Result<Option<Arc<HotEntry>>, FetchError> {
        if let Some(entry) = self.hot.get(key) {
            return self.trusted(key, entry).await;
        }
        self.look_up(key).await
    }

    pub(crate) fn rules(remote: &Remote, key: &ArtifactKey, mutability: Mutability) -> Rules {
        let spec = &remote.spec;
        let ttl = match mutability {
            Mutability::Immutable => spec.immutable_ttl,
            Mutability::Mutable => spec.mutable_ttl,
        };
        Rules {
            ttl,
            stale_while_revalidate: spec.stale_while_revalidate,
            stale_if_error: spec.stale_if_error,
            suspended: spec.suspend,
            jitter: jitter(key),
        }
    }

    /// Finds or fetches the body of `resource`. Policy has been asked by whoever serves it: an index that is
    /// only read on the way to a file need not be on the list of allowed paths.
    pub(crate) async fn obtain(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        need: Need,
    ) -> Result<Obtained, FetchError> {
        let key = Self::key(remote, resource);
        let held = self.lookup(&key).await?;
        let now = self.ports.clock.now();
        let by_policy = remote.spec.policy.mutability(&key.path, resource.mutability);
        let mutability = effective_mutability(by_policy, held.as_ref().map(|entry| entry.row.mutability));
        let rules = Self::rules(remote, &key, mutability);
        let Some(entry) = held else {
            if rules.suspended {
                return Err(FetchError::Suspended);
            }
            if let Some(absence) = self.negative.get(&key, now) {
                return Err(absence);
            }
            return self.fetch(Job::new(remote, resource, key, by_policy, need), None, need).await;
        };
        let freshness = Held { checked_at: entry.row.checked_at };
        let job = || Job::new(remote, resource, key.clone(), by_policy, need).replacing(&entry);
        if !rules.suspended && self.contradicted(remote, resource, &key, &entry, need.depth()).await? {
            return self.fetch(job().unconditionally(), None, need).await;
        }
        let decision = self.decide_beside(remote, resource, &entry, &rules).await?;
        let stand_in = may_stand_in(freshness, &rules, now);
        match decision {
            Decision::Serve { .. } => {
                entry.touch(now);
                Ok(Obtained::Held { entry, outcome: CacheOutcome::Hit })
            }
            Decision::ServeStale => Ok(stale(entry)),
            Decision::ServeAndRevalidate | Decision::Revalidate if stand_in && entry.is_resting(now) => {
                Ok(stale(entry))
            }
            Decision::ServeAndRevalidate => {
                self.revalidate_in_background(job());
                entry.touch(now);
                Ok(stale(entry))
            }
            Decision::Revalidate => self.fetch(job(), stand_in.then(|| entry.clone()), need).await,
            Decision::Fetch | Decision::Refuse => Err(FetchError::Suspended),
        }
    }

    /// What becomes of `entry`: by its age, or, when it belongs to another document (a detached signature), by that one's.
    /// Upstream may write the two some time apart. So whatever was checked before the document last changed is checked
    /// again, for a while also whenever the document has been, and then stays as it is for as long as the document does.
    async fn decide_beside(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        entry: &HotEntry,
        rules: &Rules,
    ) -> Result<Decision, FetchError> {
        let checked_at = entry.row.checked_at;
        let companion = match &resource.fresh_with {
            Some(path) if !rules.suspended => self.held(remote, path).await?,
            _ => None,
        };
        let Some(companion) = companion else {
            return Ok(decide(Some(Held { checked_at }), rules, self.ports.clock.now()));
        };
        let ArtifactRow { stored_at: changed_at, checked_at: confirmed_at, .. } = companion.row;
        let is_of_one_time = checked_at >= changed_at + SETTLED || checked_at >= confirmed_at.max(changed_at);
        Ok(if is_of_one_time { Decision::Serve { fresh_for: None } } else { Decision::Revalidate })
    }

    /// Joins or starts the fill of a key and waits for as much as `need` asks. `stand_in` is served when
    /// upstream fails.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        job: Job,
        stand_in: Option<Arc<HotEntry>>,
        need: Need,
    ) -> Result<Obtained, FetchError> {
        let keep = job.remote.spec.on_upstream_gone == OnUpstreamGone::Keep;
        let previous = job.previous.clone();
        let key = job.key.clone();
        let (mut seat, pilot) = self.flights.join(&key);
        if let Some(pilot) = pilot {
            if let Some(entry) = self.landed_meanwhile(&job, &pilot) {
                return Ok(Obtained::Held { entry, outcome: CacheOutcome::Collapsed });
            }
            self.spawn_fill(job.clone(), pilot);
        }
        match self.await_fill(&mut seat, need).await {
            Ok(obtained) => Ok(obtained),
            Err(FetchError::Blob(error)) if need == Need::Stream && matches!(*error, BlobError::Full(_)) => {
                tracing::warn!(key = ?key, error = %error, "serving without storing");
                self.stream_through(job).await
            }
            Err(FetchError::NotFound { gone }) => match previous {
                Some(entry) if keep => Ok(stale(entry)),
                _ => Err(FetchError::NotFound { gone }),
            },
            Err(error) => match stand_in {
                Some(entry) if error.permits_stale() => {
                    tracing::warn!(key = ?key, error = %error, "serving a stale copy since upstream failed");
                    Ok(stale(entry))
                }
                _ => Err(error),
            },
        }
    }

    /// A fill that ended between this request's lookup and its own start.
    fn landed_meanwhile(&self, job: &Job, pilot: &Pilot) -> Option<Arc<HotEntry>> {
        let entry = self.hot.get(&job.key)?;
        let newer = match &job.previous {
            Some(previous) => entry.row.checked_at > previous.row.checked_at,
            None => true,
        };
        if !newer {
            return None;
        }
        self.flights.land(&job.key, pilot);
        Some(entry)
    }

    fn revalidate_in_background(self: &Arc<Self>, job: Job) {
        let (seat, pilot) = self.flights.join(&job.key);
        let Some(pilot) = pilot else { return };
        if self.landed_meanwhile(&job, &pilot).is_some() {
            return;
        }
        self.spawn_fill(job, pilot);
        let mut progress = seat.progress;
        let interest = seat.interest;
        tokio::spawn(async move {
            // The interest is kept for as long as the fill runs; nobody else waits for it.
            let _interest = interest;
            let _ = progress.wait_for(|progress| matches!(progress, Progress::Done(_))).await;
        });
    }

    async fn await_fill(&self, seat: &mut Seat, need: Need) -> Result<Obtained, FetchError> {
        let outcome = if seat.started { CacheOutcome::Miss } else { CacheOutcome::Collapsed };
        let enough = |progress: &Progress| match progress {
            Progress::Asking => false,
            Progress::Growing { head, written, .. } => {
                need == Need::Stream
                    && (*written > HOLD_BACK || head.length.is_some_and(|length| length > HOLD_BACK))
            }
            Progress::Done(_) => true,
        };
        let progress = match seat.progress.wait_for(enough).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(FetchError::Abandoned),
        };
        match progress {
            Progress::Asking => Err(FetchError::Abandoned),
            Progress::Growing { head, window, .. } => {
                let body = growing(seat, &window)?;
                Ok(Obtained::Growing { head, body, outcome })
            }
            Progress::Done(Finished::Stored(entry)) => Ok(Obtained::Held { entry, outcome }),
            Progress::Done(Finished::Landed(entry)) => {
                Ok(Obtained::Held { entry, outcome: CacheOutcome::Collapsed })
            }
            Progress::Done(Finished::Confirmed(entry)) => {
                Ok(Obtained::Held { entry, outcome: CacheOutcome::Revalidated })
            }
            Progress::Done(Finished::Unstored { head, window, .. }) => {
                Ok(Obtained::Growing { head, body: growing(seat, &window)?, outcome: CacheOutcome::Bypass })
            }
            Progress::Done(Finished::Failed(error)) => Err((*error).clone()),
        }
    }

    /// The upstream request for `resource`, with what its indexes say about it.
    pub(crate) async fn locate(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        depth: u8,
    ) -> Result<(UpstreamRequest, Known), FetchError> {
        let known = if resource.indexes.is_empty() {
            None
        } else {
            Box::pin(self.facts_about(remote, resource, Effort::Fetch, depth)).await?
        };
        let same_path = || {
            let query =
                if resource.query.is_empty() { String::new() } else { format!("?{}", resource.query) };
            format!("{}{query}", resource.path.encode())
        };
        let (url, url_source) = match (&resource.location, &known) {
            (Location::Below(relative), _) => (below(&remote.spec, relative)?, UrlSource::Configured),
            (Location::Named(url), _) => (url.clone(), UrlSource::Index),
            (Location::Indexed { .. }, Some(Known { url: Some(url), .. })) => (url.clone(), UrlSource::Index),
            (Location::Indexed { fallback: true }, _) | (Location::Indexed { .. }, Some(_)) => {
                (below(&remote.spec, &same_path())?, UrlSource::Configured)
            }
            (Location::Indexed { fallback: false }, None) | (Location::Composed, _) => {
                return Err(FetchError::NotFound { gone: false });
            }
        };
        let request = UpstreamRequest {
            method: UpstreamMethod::Get,
            url,
            url_source,
            accept: resource.accept.map(str::to_owned),
            if_none_match: None,
            if_modified_since: None,
            resume: None,
            scope: resource.scope.clone(),
            body: None,
        };
        Ok((request, known.unwrap_or_default()))
    }

    /// Whether a stale copy is first compared by HEAD.
    pub(crate) fn compares_by_head(resource: &Resource) -> bool {
        resource.revalidation == Revalidation::HeadDigest
    }
}

/// A reader's view of the fill at `seat`.
///
/// # Errors
/// [`BlobError::Full`] when the body's begin has gone by.
fn growing(seat: &Seat, window: &Arc<Window>) -> Result<GrowingBody, FetchError> {
    let late = || BlobError::Full(std::io::ErrorKind::StorageFull.into());
    Ok(seat.follow(window.enter().ok_or_else(late)?))
}

fn stale(entry: Arc<HotEntry>) -> Obtained {
    Obtained::Held { entry, outcome: CacheOutcome::Stale }
}

fn jitter(key: &ArtifactKey) -> u8 {
    // FNV-1a: any fixed spread will do.
    let mut hash: u32 = 0x811c_9dc5;
    for byte in key.path.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    (hash >> 24) as u8
}
