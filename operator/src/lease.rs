//! Leader election by a Lease of the Kubernetes API, with the usual times: a leader that has not renewed for 15 s has
//! none any more, one that could not renew for 10 s stops, and everyone looks every 2 s.
//!
//! Times are told by this machine's steady clock only: a lease has run out when it has not changed for its length as
//! seen from here, so clocks of different machines need not agree. A leadership has an epoch, the number of
//! transitions of the lease, which the fence of the sink knows ([`crate::sink::Sink::raise`]): the lease saves work,
//! the fence protects data.

use std::{fmt, sync::Arc, time::Duration};

use artifactapi_model::failpoint;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::api;

/// The lease's name when nobody says.
pub const NAME: &str = "artifactapi-operator";
/// How long a lease holds without being renewed.
const LENGTH: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it stops.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const PERIOD: Duration = Duration::from_secs(2);
/// Longest time of a call.
const CALL: Duration = Duration::from_secs(5);

/// A leadership.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// Its number; a later one has a higher.
    pub epoch: i64,
    /// Until when it holds if it is not renewed.
    pub until: Instant,
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.epoch)
    }
}

impl Leadership {
    /// Whether it still holds at this moment.
    pub fn holds(&self) -> bool {
        Instant::now() < self.until
    }
}

/// The part of an operator in the election.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    observed: Option<Observed>,
    state: watch::Sender<Option<Leadership>>,
    /// The fence is known to be this high: a lower epoch is of no use.
    floor: watch::Receiver<i64>,
}

/// A lease as it was when it last changed.
struct Observed {
    version: Option<String>,
    since: Instant,
}

impl Candidate {
    /// Takes part in the election that the lease `name` of `namespace` is about, as `identity`; nothing happens before
    /// [`Candidate::run`]. `floor` is the highest epoch the sink has seen.
    pub fn new(
        client: &Client,
        (namespace, name): (&str, &str),
        identity: String,
        floor: watch::Receiver<i64>,
    ) -> Self {
        let (api, name) = (Api::namespaced(client.clone(), namespace), name.to_owned());
        Candidate { api, name, identity, observed: None, state: watch::Sender::new(None), floor }
    }

    /// Where the outcome shows.
    pub fn outcome(&self) -> watch::Receiver<Option<Leadership>> {
        self.state.subscribe()
    }

    /// Stands for election until `stop`, then gives the lease back so that a successor need not wait. `idle` ends when
    /// nothing that a leader began is under way any more.
    pub async fn run(mut self, stop: CancellationToken, idle: Arc<tokio::sync::Notify>) {
        let mut told = None;
        while !stop.is_cancelled() {
            let looked = tokio::time::timeout(CALL, self.look()).await;
            let failure = match looked {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure.to_string()),
                Err(_) => Some("the Kubernetes API gave no answer in time".to_owned()),
            };
            if let Some(error) = failure.as_ref().filter(|_| failure != told) {
                tracing::warn!(error, "the lease cannot be looked after");
            }
            told = failure;
            if self.state.borrow().is_some_and(|leadership| !leadership.holds()) {
                tracing::warn!("the lease is lost: it could not be renewed in time");
                self.state.send_replace(None);
            }
            let mut floor = self.floor.clone();
            floor.mark_unchanged();
            tokio::select! {
                () = stop.cancelled() => {}
                // A higher fence than ours: at once, or nothing can be written.
                _ = floor.changed() => {}
                () = sleep(PERIOD) => {}
            }
        }
        idle.notified().await;
        let was_leader = self.state.send_replace(None).is_some();
        if was_leader && let Err(error) = self.release().await {
            tracing::warn!(error = %error, "the lease could not be given back: a successor waits until it runs out");
        }
    }

    /// Looks at the lease once: makes it, renews it, or takes it over.
    async fn look(&mut self) -> Result<(), api::Failure> {
        let asked = Instant::now();
        let Some(found) = api::patiently(self.api.get_opt(&self.name)).await? else {
            let lease = self.lease(1.max(*self.floor.borrow() + 1), None);
            return self.won(asked, self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = found.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let transitions = i64::from(spec.lease_transitions.unwrap_or_default());
        let version = found.metadata.resource_version.clone();
        if self.observed.as_ref().is_none_or(|seen| seen.version != version) {
            self.observed = Some(Observed { version, since: asked });
        }
        let floor = *self.floor.borrow();
        if holder == self.identity {
            let epoch = if transitions >= floor { transitions } else { floor + 1 };
            let mut lease = self.lease(epoch, Some(&found));
            if let Some(new) = lease.spec.as_mut() {
                new.acquire_time = spec.acquire_time.clone();
            }
            return self.won(asked, self.api.replace(&self.name, &PostParams::default(), &lease).await);
        }
        if self.state.send_replace(None).is_some() {
            tracing::warn!(lease.holder = holder, "another operator leads");
        }
        let length = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let length = length.map_or(LENGTH, Duration::from_secs);
        let has_ended = self.observed.as_ref().is_some_and(|seen| asked >= seen.since + length);
        if !holder.is_empty() && !has_ended {
            return Ok(());
        }
        let lease = self.lease(transitions.max(floor) + 1, Some(&found));
        self.won(asked, self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn lease(&self, epoch: i64, over: Option<&Lease>) -> Lease {
        let now = Timestamp::now();
        let metadata = match over {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LENGTH.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: i32::try_from(epoch).ok(),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Takes up the answer to an attempt that began at `asked`.
    fn won(&mut self, asked: Instant, answer: kube::Result<Lease>) -> Result<(), api::Failure> {
        let lease = match answer {
            Ok(lease) => lease,
            // Somebody was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 403 => return Err(api::Failure::Forbidden),
            Err(error) => return Err(api::Failure::Other(api::describe(&error))),
        };
        self.observed = Some(Observed { version: lease.metadata.resource_version, since: asked });
        let epoch = lease.spec.and_then(|spec| spec.lease_transitions).map_or(0, i64::from);
        let before = self.state.send_replace(Some(Leadership { epoch, until: asked + DEADLINE }));
        if before.is_none_or(|before| before.epoch != epoch) {
            failpoint("operator.lease.after_acquire");
            tracing::info!(lease.epoch = epoch, lease.identity = self.identity, "this operator leads");
        }
        Ok(())
    }

    async fn release(&self) -> Result<(), api::Failure> {
        let Some(mut lease) = api::patiently(self.api.get_opt(&self.name)).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        api::patiently(self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(drop)
    }
}
