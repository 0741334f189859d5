//! Streaming through when there is no room to store (RS-96) or the store cannot be read (RS-87): one upstream request per client, a bounded window
//! of bytes in memory, framing and checksums judged as ever before the last bytes are shown.

use std::sync::Arc;

use artifactapi_formats::{Plan, PublicBase, Request, format_of};
use artifactapi_model::{Checksum, Mutability, Remote};
use futures_util::StreamExt as _;
use http::StatusCode;

use crate::{
    Engine,
    content::{Body, CacheOutcome, GrowingBody, Reply},
    error::FetchError,
    fetch::{Need, Obtained},
    fill::{Finished, Job, Poured, Progress, Tee, head_of, refusal},
    flights::Pilot,
    verify,
    window::Window,
};

impl Engine {
    /// Answers `request` from upstream although it is stored, since what is stored cannot be read at this moment
    /// (RS-87): nothing is kept, and the bytes must be those that are stored.
    ///
    /// # Errors
    /// [`FetchError`]; also for documents that are made of stored ones.
    pub async fn get_past_store(
        self: &Arc<Self>,
        remote: &Remote,
        request: &Request<'_>,
        base: &PublicBase,
    ) -> Result<Reply, FetchError> {
        let plan = format_of(remote.spec.package_type).plan(request, &remote.spec, &self.links)?;
        let Plan::Serve(mut resource) = plan else { return Err(FetchError::NotFound { gone: false }) };
        if remote.spec.suspend || resource.representation.is_some() {
            return Err(FetchError::Suspended);
        }
        Self::permit(remote, &resource)?;
        let key = Self::key(remote, &resource);
        let mutability = remote.spec.policy.mutability(&key.path, resource.mutability);
        if let Some(entry) = self.hot.get(&key)
            && mutability == Mutability::Immutable
        {
            resource.checksums.push(Checksum::Sha256(entry.row.digest.0));
        }
        let job = Job::new(remote, &resource, key, mutability, Need::Stream);
        match self.stream_through(job).await? {
            Obtained::Growing { head, body, outcome } => {
                let body = Body::Growing(body);
                let content = self.describe_growing(remote, &resource, base, &head, outcome, body);
                Ok(Reply::Content(Box::new(content)))
            }
            Obtained::Held { .. } => Err(FetchError::Abandoned),
        }
    }

    /// Serves `job` to one client without storing anything.
    pub(crate) async fn stream_through(self: &Arc<Self>, job: Job) -> Result<Obtained, FetchError> {
        let mut body = self.spawn_through(job)?;
        let begun = body.progress.wait_for(|progress| !matches!(progress, Progress::Asking)).await;
        let progress = begun.map_err(|_| FetchError::Abandoned)?.clone();
        match progress {
            Progress::Growing { head, .. } | Progress::Done(Finished::Unstored { head, .. }) => {
                Ok(Obtained::Growing { head, body, outcome: CacheOutcome::Bypass })
            }
            Progress::Done(Finished::Failed(error)) => Err((*error).clone()),
            Progress::Asking | Progress::Done(_) => Err(FetchError::Abandoned),
        }
    }

    fn spawn_through(self: &Arc<Self>, job: Job) -> Result<GrowingBody, FetchError> {
        let (pilot, seat) = Pilot::solo();
        let window = Window::unstaged();
        let body = seat.follow(window.enter().ok_or(FetchError::Abandoned)?);
        let engine = self.clone();
        tokio::spawn(async move {
            let finished = tokio::select! {
                finished = engine.run_through(&job, &pilot, window) => finished,
                () = pilot.deserted() => Err(FetchError::Abandoned),
            };
            let finished = finished.unwrap_or_else(|error| Finished::Failed(Arc::new(error)));
            pilot.progress.send_replace(Progress::Done(finished));
        });
        Ok(body)
    }

    async fn run_through(
        self: &Arc<Self>,
        job: &Job,
        pilot: &Pilot,
        window: Arc<Window>,
    ) -> Result<Finished, FetchError> {
        let (request, known) = self.locate(&job.remote, &job.resource, job.depth).await?;
        let mut checksums = job.resource.checksums.clone();
        checksums.extend(known.checksums);
        let response = self.ports.upstream.send(&job.remote, request).await?;
        if response.status != StatusCode::OK {
            return Err(refusal(&job.resource, &response));
        }
        let head = head_of(&job.remote, &job.resource, job.mutability, &response, checksums);
        let head = Arc::new(head);
        let mut tee = Tee::unstaged(&job.resource, &pilot.progress, head.clone(), window);
        let mut body = response.body;
        while let Some(chunk) = body.next().await {
            tee.take(chunk.map_err(|error| FetchError::Truncated(error.to_string()))?).await?;
        }
        let Poured { window, hashed, .. } = tee.finish()?;
        verify::check_outside(&head.checksums, &hashed)?;
        Ok(Finished::Unstored { head, window, size: hashed.size })
    }
}
