//! Tells what was seen of upstreams, and makes the probes that are due: of one Remote, one replica at a time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use artifactapi_formats::format_of;
use artifactapi_model::{
    PackageType, Remote, RepoId,
    observation::{Failure, IDLE, Observation, Track},
    ports::{
        Observations, Upstream, UpstreamMethod, UpstreamRequest, observations::DueProbe, upstream::Layer,
    },
    repository::{RemoteSpec, RepoIdentity},
};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{App, telemetry::upstreams::SPACING};

/// How often it is looked whether there is something to tell.
const TELLING: Duration = Duration::from_secs(1);
/// How often probes are looked for where nobody says that there are some.
const LOOKING: Duration = Duration::from_secs(10);
/// Probes of this process at the same time.
const AT_ONCE: usize = 8;
/// Longest time of a probe: less than it is ours.
const PATIENCE: Duration = Duration::from_secs(45);

/// Where observations go and probes come from.
pub struct Observing {
    /// The store.
    pub store: Arc<dyn Observations>,
    /// The way out.
    pub upstream: Arc<dyn Upstream>,
}

impl Observing {
    /// Does all of it until `stop`.
    pub async fn run(self, app: Arc<App>, stop: CancellationToken) {
        let telling = async {
            let mut failing = false;
            loop {
                tokio::time::sleep(TELLING).await;
                let outcome = self.tell(&app).await;
                if let Err(error) = &outcome
                    && !failing
                {
                    tracing::warn!(error = %error, "what was seen of upstreams could not be written down");
                }
                failing = outcome.is_err();
            }
        };
        let probing = async {
            let (mut scheduled, mut failing) = (HashSet::new(), false);
            loop {
                let _ = tokio::time::timeout(LOOKING, app.metrics.upstreams.wake.notified()).await;
                let outcome = self.probe_all(&app, &mut scheduled).await;
                if let Err(error) = &outcome
                    && !failing
                {
                    tracing::warn!(error = %error, "probes of upstreams could not be looked for");
                }
                failing = outcome.is_err();
            }
        };
        // Neither of them ends by itself.
        stop.run_until_cancelled(async { tokio::join!(telling, probing) }).await;
    }

    async fn tell(&self, app: &App) -> Result<(), artifactapi_model::ports::MetadataError> {
        let gatherer = &app.metrics.upstreams;
        let due = gatherer.due(app.clock.now());
        if due.is_empty() {
            return Ok(());
        }
        let settled = self.store.observe(&due, SPACING).await?;
        gatherer.told(&due, &settled, app.clock.now());
        Ok(())
    }

    /// Makes what probes are due. `scheduled` are the Remotes that the store knows to be ours.
    async fn probe_all(
        &self,
        app: &App,
        scheduled: &mut HashSet<RepoIdentity>,
    ) -> Result<(), artifactapi_model::ports::MetadataError> {
        if !app.health.is_loaded() {
            return Ok(());
        }
        // First: what is in service then has at least this version.
        let config = app.config_version();
        let snapshot = app.snapshot.load_full();
        let present: HashSet<RepoIdentity> =
            snapshot.remotes().map(|repository| repository.remote.identity).collect();
        if *scheduled != present {
            let new: Vec<RepoIdentity> = present.difference(scheduled).copied().collect();
            self.store.schedule_probes(&new, config, IDLE).await?;
            let repos: HashSet<RepoId> = present.iter().map(|identity| identity.id).collect();
            app.metrics.upstreams.keep_only(&repos);
            *scheduled = present;
        }
        loop {
            let due = self.store.take_probes(config, AT_ONCE).await?;
            if due.is_empty() {
                return Ok(());
            }
            let probes = due.into_iter().map(|due| self.probe(app, due));
            stream::iter(probes).buffer_unordered(AT_ONCE).collect::<()>().await;
        }
    }

    async fn probe(&self, app: &App, due: DueProbe) {
        let snapshot = app.snapshot.load_full();
        let found = snapshot.remotes().find(|repository| repository.remote.identity == due.identity);
        let Some(remote) = found.map(|repository| &repository.remote) else {
            // Whoever misses it asks again when it is back.
            let _ = self.store.forget_probes(&[due.identity]).await;
            return;
        };
        let gatherer = &app.metrics.upstreams;
        if remote.spec.suspend {
            // Nothing is asked of it; the next time is a while away all the same.
            gatherer.take(remote, &Observation::default());
        } else {
            let started = app.clock.now();
            if !ask(&*self.upstream, remote).await {
                let reason = format!("upstream did not answer a probe within {PATIENCE:?}");
                let bad = Some(Failure::new(app.clock.now(), Layer::Http, None, &reason));
                let upstream = Track { good: None, bad };
                gatherer.take(remote, &Observation { upstream, ..Observation::default() });
            }
            gatherer.confirm(remote, started);
        }
        if let Some(token) = &due.token {
            gatherer.answered(remote, token, app.clock.now());
        }
    }
}

/// Asks upstream for something small; whoever observes the way out hears how it ended. `false`: it did not.
async fn ask(upstream: &dyn Upstream, remote: &Remote) -> bool {
    let Some(request) = request(&remote.spec) else { return true };
    tokio::time::timeout(PATIENCE, upstream.send(remote, request)).await.is_ok()
}

/// One cheap request of the Remote's type.
fn request(spec: &RemoteSpec) -> Option<UpstreamRequest> {
    let path = format_of(spec.package_type).probe();
    let url = Url::parse(&format!("{}{path}", spec.base_url)).ok()?;
    // Registries are not bound to answer a HEAD of `/v2/`.
    let is_get = spec.package_type == PackageType::Docker;
    let method = if is_get { UpstreamMethod::Get } else { UpstreamMethod::Head };
    Some(UpstreamRequest { method, ..UpstreamRequest::get(url) })
}
