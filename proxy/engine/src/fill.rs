//! One fill: ask upstream, tee the body into the hash and the staged blob while readers follow, verify,
//! commit, announce. Bytes are durable before their row, and the row before anyone sees the last bytes.

mod head;
pub(crate) mod late;
mod settle;
mod tee;
mod turn;

use std::{sync::Arc, time::Duration};

use artifactapi_formats::{Location, Resource};
use artifactapi_model::{
    ArtifactKey, Checksum, Checksums, Mutability, Remote,
    failpoint::failpoint,
    ports::{UpstreamMethod, UpstreamRequest, UpstreamResponse, upstream::Resume},
    repository::OnUpstreamGone,
};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};

use head::merge_headers;
pub(crate) use head::{Head, head_of, refusal};
use tee::Kept;
pub(crate) use tee::{Poured, Tee};
use turn::Start;

use crate::{Engine, error::FetchError, fetch::Need, flights::Pilot, hot::HotEntry, verify, window::Window};

/// How long a stored body is served stale after a failed revalidation before upstream is asked again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// A fill with this share of its body done goes on when every client has left.
const WORTH_FINISHING: f64 = 0.5;

/// How far a fill is.
#[derive(Clone)]
pub(crate) enum Progress {
    /// Nothing has come back yet.
    Asking,
    /// This many bytes can be read.
    Growing { head: Arc<Head>, window: Arc<Window>, written: u64 },
    /// It is over.
    Done(Finished),
}

/// How a fill ended.
#[derive(Clone)]
pub(crate) enum Finished {
    /// A new body is stored.
    Stored(Arc<HotEntry>),
    /// Upstream confirmed the stored body.
    Confirmed(Arc<HotEntry>),
    /// A twin had stored a body when this fill began.
    Landed(Arc<HotEntry>),
    /// The body is whole but could not or must not be kept.
    Unstored { head: Arc<Head>, window: Arc<Window>, size: u64 },
    /// There is none.
    Failed(Arc<FetchError>),
}

/// What to fill.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) remote: Remote,
    pub(crate) resource: Resource,
    pub(crate) key: ArtifactKey,
    pub(crate) mutability: Mutability,
    /// The stored body that is to be revalidated.
    pub(crate) previous: Option<Arc<HotEntry>>,
    /// Fetch anew although there is one.
    pub(crate) unconditional: bool,
    /// Depth of the chain of indexes this fill is part of.
    pub(crate) depth: u8,
}

impl Job {
    /// A body that is not stored.
    pub(crate) fn new(
        remote: &Remote,
        resource: &Resource,
        key: ArtifactKey,
        mutability: Mutability,
        need: Need,
    ) -> Self {
        let (remote, resource, depth) = (remote.clone(), resource.clone(), need.depth());
        Job { remote, resource, key, mutability, previous: None, unconditional: false, depth }
    }

    /// The stored body `entry` is to be revalidated.
    pub(crate) fn replacing(self, entry: &Arc<HotEntry>) -> Self {
        Job { previous: Some(entry.clone()), ..self }
    }

    /// It is fetched anew, whatever upstream thinks of it.
    pub(crate) fn unconditionally(self) -> Self {
        Job { unconditional: true, ..self }
    }
}

impl Engine {
    /// Runs `job` in a task of its own: it outlives the client that caused it.
    pub(crate) fn spawn_fill(self: &Arc<Self>, job: Job, pilot: Pilot) {
        let engine = self.clone();
        tokio::spawn(async move {
            let finished = tokio::select! {
                biased;
                finished = engine.fill(&job, &pilot) => finished,
                () = engine.given_up(&job.key, &pilot) => Err(FetchError::Abandoned),
            };
            let finished = match finished {
                Ok(finished) => finished,
                Err(error) => {
                    engine.note_failure(&job, &error).await;
                    Finished::Failed(Arc::new(error))
                }
            };
            engine.flights.land(&job.key, &pilot);
            pilot.progress.send_replace(Progress::Done(finished));
        });
    }

    /// Resolves when nobody waits any more and too little is done to be worth finishing.
    async fn given_up(&self, key: &ArtifactKey, pilot: &Pilot) {
        loop {
            pilot.deserted().await;
            let worth = match &*pilot.progress.borrow() {
                Progress::Growing { head, written, .. } => {
                    head.length.is_some_and(|length| *written as f64 >= length as f64 * WORTH_FINISHING)
                }
                Progress::Asking | Progress::Done(_) => false,
            };
            if worth {
                // It runs to its end, whether or not someone comes back to it.
                std::future::pending::<()>().await;
            }
            if self.flights.abandon(key, pilot) {
                return;
            }
        }
    }

    /// Remembers an absence, lets a stored body go where `onUpstreamGone` says so, and keeps a failing
    /// upstream from being asked again at once.
    async fn note_failure(&self, job: &Job, error: &FetchError) {
        let now = self.ports.clock.now();
        let mut rest = RETRY_PAUSE;
        if let FetchError::NotFound { gone } = error {
            rest = job.remote.spec.negative_ttl;
            self.negative.put(job.key.clone(), now + rest, *gone);
            self.share_absence(&job.key, *gone, rest);
            if let Some(previous) = &job.previous
                && job.remote.spec.on_upstream_gone == OnUpstreamGone::Evict
                && let Err(error) = self.forget(&job.key, &previous.row.digest).await
            {
                tracing::warn!(key = ?job.key, error = %error, "a body that is gone upstream could not be dropped");
            }
        }
        if let Some(previous) = &job.previous {
            previous.rest_until(now + rest);
        }
    }

    async fn run_fill<'a>(
        self: &Arc<Self>,
        job: &'a Job,
        pilot: &'a Pilot,
        start: Start<'a>,
    ) -> Result<Finished, FetchError> {
        let (mut request, known) = self.locate(&job.remote, &job.resource, job.depth).await?;
        let mut checksums = job.resource.checksums.clone();
        checksums.extend(known.checksums);
        let previous = start.previous.as_ref().filter(|_| !job.unconditional && start.taken.is_none());
        if let Some(previous) = previous {
            if Self::compares_by_head(&job.resource)
                && let Some(confirmed) = self.compare_by_head(job, &start, previous, &request).await?
            {
                return Ok(confirmed);
            }
            request.if_none_match = previous.row.header("etag").map(str::to_owned);
            request.if_modified_since = previous.row.header("last-modified").map(str::to_owned);
        }
        request.resume = start.taken.as_ref().and_then(resume_at);
        failpoint("fill.request.before");
        let mut response = self.send_anew(job, request.clone(), &mut checksums).await?;
        let mut confirmed = previous;
        if previous.is_some_and(|previous| head::is_about_another(&previous.row, &response)) {
            // It may have looked at the date alone: which body it means by this is not known, and not asked again.
            let anew = UpstreamRequest { if_none_match: None, if_modified_since: None, ..request };
            response = self.send_anew(job, anew, &mut checksums).await?;
            confirmed = None;
        }
        failpoint("fill.head.after");
        match response.status {
            StatusCode::OK => self.take_body(job, pilot, start, response, checksums).await,
            StatusCode::PARTIAL_CONTENT if start.taken.is_some() => {
                self.take_body(job, pilot, start, response, checksums).await
            }
            StatusCode::NOT_MODIFIED => match confirmed {
                Some(previous) => self.confirm(job, &start, previous, Some(&response.headers)).await,
                None => Err(FetchError::UpstreamStatus(304)),
            },
            _ => Err(refusal(&job.resource, &response)),
        }
    }

    /// Sends `request`. Where its URL came from an index and is refused, the index is asked once more: presigned
    /// URLs expire, and files move.
    async fn send_anew(
        self: &Arc<Self>,
        job: &Job,
        request: UpstreamRequest,
        checksums: &mut Checksums,
    ) -> Result<UpstreamResponse, FetchError> {
        let first = request.url.clone();
        let response = self.ports.upstream.send(&job.remote, request).await?;
        let refused = matches!(response.status.as_u16(), 400 | 401 | 403 | 404 | 410);
        if !refused || !matches!(job.resource.location, Location::Indexed { .. }) {
            return Ok(response);
        }
        self.refresh_indexes(job).await?;
        let (again, known) = self.locate(&job.remote, &job.resource, job.depth).await?;
        if again.url == first {
            return Ok(response);
        }
        checksums.clone_from(&job.resource.checksums);
        checksums.extend(known.checksums);
        Ok(self.ports.upstream.send(&job.remote, again).await?)
    }

    /// Compares a stored tag with upstream's by HEAD. `None`: it changed, or upstream does not say.
    async fn compare_by_head(
        self: &Arc<Self>,
        job: &Job,
        start: &Start<'_>,
        previous: &Arc<HotEntry>,
        request: &UpstreamRequest,
    ) -> Result<Option<Finished>, FetchError> {
        let head = UpstreamRequest { method: UpstreamMethod::Head, ..request.clone() };
        let response = self.ports.upstream.send(&job.remote, head).await?;
        if response.status == StatusCode::OK {
            let now = response.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
            let then = previous.row.header("docker-content-digest").map(str::to_owned);
            let then = then.unwrap_or_else(|| previous.row.digest.to_string());
            let unchanged = now == Some(then.as_str());
            return if unchanged {
                self.confirm(job, start, previous, None).await.map(Some)
            } else {
                Ok(None)
            };
        }
        match response.status {
            // A registry without HEAD is asked by GET; a refused HEAD is never followed by one (RS-91).
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(None),
            _ => Err(refusal(&job.resource, &response)),
        }
    }

    /// Upstream says that the stored body still stands.
    async fn confirm(
        self: &Arc<Self>,
        job: &Job,
        start: &Start<'_>,
        previous: &Arc<HotEntry>,
        headers: Option<&HeaderMap>,
    ) -> Result<Finished, FetchError> {
        let now = self.ports.clock.now();
        let mut row = previous.row.clone();
        (row.checked_at, row.fetch_seq) = (now, start.fetch_seq);
        if let Some(headers) = headers {
            row.headers = merge_headers(&row.headers, headers);
        }
        failpoint("fill.confirm.before");
        let metadata = &self.ports.metadata;
        let (digest, headers) = (&row.digest, Some(&*row.headers));
        let recorded = metadata.confirm_artifact(&job.key, digest, row.fetch_seq, now, headers).await;
        let entry = HotEntry::new(row, previous.body.clone(), now);
        match recorded {
            Ok(true) => self.tell_changed(&job.key),
            Ok(false) => {
                tracing::debug!(key = ?job.key, "what was confirmed is not stored any more");
                self.hot.remove(&job.key);
                // What another fill has replaced it with; else it has been evicted, and is good for those who wait.
                let instead = self.lookup(&job.key).await?;
                return Ok(instead.map_or(Finished::Confirmed(entry), Finished::Landed));
            }
            Err(error) => {
                tracing::warn!(key = ?job.key, error = %error, "a confirmation could not be recorded");
            }
        }
        self.hot.put(job.key.clone(), entry.clone());
        Ok(Finished::Confirmed(entry))
    }

    async fn take_body<'a>(
        self: &Arc<Self>,
        job: &'a Job,
        pilot: &'a Pilot,
        start: Start<'a>,
        response: UpstreamResponse,
        mut checksums: Checksums,
    ) -> Result<Finished, FetchError> {
        if let Some(pinned) = start.pinned.filter(|_| job.mutability == Mutability::Immutable) {
            checksums.push(Checksum::Sha256(pinned.0));
        }
        let head = head_of(&job.remote, &job.resource, job.mutability, &response, checksums);
        let over = |length| job.resource.max_size.filter(|limit| length > *limit);
        if let Some(limit) = head.length.and_then(over) {
            return Err(FetchError::TooLarge { limit });
        }
        let mut tee = match start.taken {
            Some(taken) => taken_up(taken, head, response.status, &response.headers).await?,
            None => {
                let staged = self.ports.blobs.stage(head.length).await?;
                Tee::staged(&job.resource, &pilot.progress, Arc::new(head), staged)
            }
        };
        let mut body = response.body;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| FetchError::Truncated(error.to_string()))?;
            if tee.take(chunk).await? == Kept::InMemory {
                // Its begin goes by: who asks from now on starts another.
                self.flights.land(&job.key, pilot);
            }
            failpoint("fill.chunk.after");
        }
        let head = tee.head();
        let Poured { staged, window, hashed } = tee.finish()?;
        match staged {
            Some(staged) => self.settle(job, start.fetch_seq, head, staged, window, hashed).await,
            None => match verify::check_outside(&head.checksums, &hashed) {
                Ok(()) => Ok(Finished::Unstored { head, window, size: hashed.size }),
                Err(error) => Err(self.explain_mismatch(job, &hashed, error).await),
            },
        }
    }

    async fn pinned(&self, job: &Job) -> Result<Option<artifactapi_model::Digest>, FetchError> {
        match job.mutability {
            Mutability::Immutable => Ok(self.ports.metadata.pinned(&job.key).await?),
            Mutability::Mutable => Ok(None),
        }
    }
}

/// Where upstream may go on with a body that a lost twin began, if its validator says which body it was.
fn resume_at(taken: &Tee<'_>) -> Option<Resume> {
    let head = taken.head();
    let etag = head.header("etag").filter(|etag| etag.starts_with('"'))?;
    let is_partial = taken.written() > 0 && head.length.is_some();
    is_partial.then(|| Resume { offset: taken.written(), etag: etag.to_owned() })
}

/// Goes on with `taken`: the answer brings the rest of its body (206), or the whole of a body that must be the same.
async fn taken_up<'a>(
    mut taken: Tee<'a>,
    mut head: Head,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Tee<'a>, FetchError> {
    if status == StatusCode::PARTIAL_CONTENT {
        let range = headers.get(http::header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let begins = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        if begins != Some(taken.written()) {
            return Err(FetchError::Truncated(
                "upstream went on at another place than it was asked to".into(),
            ));
        }
        let before = taken.head();
        (head.length, head.framing) = (before.length, before.framing);
        taken.go_on();
    } else {
        taken.begin_again();
    }
    taken.expect_same(&head)?;
    taken.retarget(Arc::new(head)).await?;
    Ok(taken)
}
