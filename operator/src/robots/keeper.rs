//! Hands out the tokens of robots: what the store and the API server have, what is to be done ([`super::plan`]), and
//! doing it. Of one robot once at a time, of a few at the same time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{
    Timestamp,
    account::{RobotKey, RobotToken, TokenId},
    failpoint,
    ports::{Accounts, MetadataError, accounts::Source},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::PostParams};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    plan::{Known, Plan, Step, plan},
    secret::{self, Found, Owner, Wanted},
};
use crate::{
    api::{self, Failure},
    conditions::{Outcome, Reason},
};

/// Robots that are looked after at the same time.
const AT_ONCE: usize = 8;
/// First pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Longest time until a robot is looked at again although nothing happens.
const OFTEN: Duration = Duration::from_secs(600);

/// A robot that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which object.
    pub object: ObjectRef,
    /// Which account.
    pub key: RobotKey,
    /// Its identity.
    pub uid: String,
    /// Name of the Secret.
    pub secret: String,
    /// Name of the Secret that it had before, if that is another.
    pub before: Option<String>,
    /// Life of its tokens.
    pub ttl: Option<Duration>,
    /// The request for another token.
    pub requested_at: Option<String>,
}

/// What became of a robot.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Which.
    pub object: ObjectRef,
    /// Its identity.
    pub uid: String,
    /// Whether it is ready.
    pub outcome: Outcome,
    /// What it adds to the status.
    pub status: Map<String, Value>,
}

/// Why a robot has no usable Secret.
#[derive(Debug)]
enum Trouble {
    /// The name is taken.
    Taken,
    /// The Secret is the robot's and cannot be changed.
    Stuck,
    /// The API server.
    Api(Failure),
    /// The store.
    Store(MetadataError),
    /// Somebody else was faster; the next look sees what they did.
    Raced,
    /// Nobody knows where the proxies are.
    Nowhere,
    /// The machine.
    NoRandomness,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Api(failure)
    }
}

impl From<MetadataError> for Trouble {
    fn from(error: MetadataError) -> Self {
        Trouble::Store(error)
    }
}

/// Looks after robots.
pub struct Keeper {
    hands: Hands,
    waiting: BTreeMap<ObjectRef, Turn>,
    under_way: FuturesUnordered<BoxFuture<'static, (Job, Result<Done, Trouble>)>>,
}

struct Turn {
    job: Job,
    at: Instant,
    failures: u32,
    is_under_way: bool,
    /// Something happened while it was under way.
    again: bool,
    /// Its readiness is somebody else's to tell.
    is_muted: bool,
}

/// What is needed to do something.
#[derive(Clone)]
struct Hands {
    client: Client,
    accounts: Arc<dyn Accounts>,
    registry: Option<String>,
}

struct Done {
    expires_at: Option<Timestamp>,
    again: Option<Duration>,
}

impl Keeper {
    /// Looks after nobody yet. `registry` is where clients find the proxies, as `host:port`.
    pub fn new(client: Client, accounts: Arc<dyn Accounts>, registry: Option<String>) -> Self {
        let hands = Hands { client, accounts, registry };
        Keeper { hands, waiting: BTreeMap::new(), under_way: FuturesUnordered::new() }
    }

    /// Looks after a robot from now on, and now.
    pub fn begin(&mut self, job: Job) {
        let now = Instant::now();
        let turn = self.waiting.entry(job.object.clone()).or_insert_with(|| Turn {
            job: job.clone(),
            at: now,
            failures: 0,
            is_under_way: false,
            again: false,
            is_muted: false,
        });
        turn.job = job;
        turn.is_muted = false;
        turn.at = now;
        turn.again |= turn.is_under_way;
    }

    /// The Secret called `name` has changed.
    pub fn touch(&mut self, namespace: &str, name: &str) {
        let now = Instant::now();
        let users = self
            .waiting
            .values_mut()
            .filter(|turn| turn.job.key.namespace == namespace && turn.job.secret == name);
        for turn in users {
            turn.at = turn.at.min(now);
            turn.again |= turn.is_under_way;
        }
    }

    /// The robot cannot be accepted as it is by now: it is looked after as before, and nothing is told.
    pub fn mute(&mut self, object: &ObjectRef) {
        if let Some(turn) = self.waiting.get_mut(object) {
            turn.is_muted = true;
        }
    }

    /// A robot is no more: its tokens went with it, and its Secret goes by its owner.
    pub fn forget(&mut self, object: &ObjectRef) {
        self.waiting.remove(object);
    }

    /// Ends all of it; whoever leads next begins again.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.under_way.clear();
    }

    /// Whether nothing is under way or due.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        let now = Instant::now();
        self.waiting.values().all(|turn| !turn.is_under_way && turn.at > now)
    }

    /// What became of the next robot; never ready while nothing is to be done.
    pub async fn next(&mut self) -> Kept {
        loop {
            self.fill();
            let due = self.waiting.values().filter(|turn| !turn.is_under_way).map(|turn| turn.at).min();
            let due = due.filter(|_| self.under_way.len() < AT_ONCE);
            let done = tokio::select! {
                Some(done) = self.under_way.next() => done,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => continue,
                else => std::future::pending().await,
            };
            if let Some(kept) = self.note(done) {
                return kept;
            }
        }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let due = self.waiting.values_mut().filter(|turn| !turn.is_under_way && turn.at <= now);
        for turn in due.take(AT_ONCE.saturating_sub(self.under_way.len())) {
            turn.is_under_way = true;
            let (hands, job) = (self.hands.clone(), turn.job.clone());
            let work = async move {
                let done = hands.keep(&job).await;
                (job, done)
            };
            self.under_way.push(work.boxed());
        }
    }

    fn note(&mut self, (job, result): (Job, Result<Done, Trouble>)) -> Option<Kept> {
        let now = Instant::now();
        let turn = self.waiting.get_mut(&job.object)?;
        turn.is_under_way = false;
        let pause = match &result {
            Ok(done) => {
                turn.failures = 0;
                done.again.unwrap_or(OFTEN).min(OFTEN)
            }
            Err(trouble) => {
                turn.failures += 1;
                trouble.pause(turn.failures)
            }
        };
        turn.at = if std::mem::take(&mut turn.again) { now } else { now + pause };
        if turn.job != job || turn.is_muted {
            return None;
        }
        let mut status = Map::new();
        let outcome = match result {
            Ok(done) => {
                status.insert("secretName".into(), json!(job.secret));
                if let Some(expires_at) = done.expires_at {
                    status.insert("tokenExpiresAt".into(), json!(rfc3339(expires_at)));
                }
                Outcome {
                    reason: Reason::Stored,
                    message: format!("the Robot is valid, and its token is in Secret {}", job.secret),
                }
            }
            // Nothing is wrong: the next look is a moment away.
            Err(Trouble::Raced) => return None,
            Err(trouble) => trouble.outcome(&job),
        };
        Some(Kept { object: job.object, uid: job.uid, outcome, status })
    }
}

impl Trouble {
    fn pause(&self, failures: u32) -> Duration {
        match self {
            Trouble::Raced => Duration::from_millis(200),
            // The watch tells when it is free.
            Trouble::Taken | Trouble::Stuck | Trouble::Nowhere => OFTEN,
            Trouble::Api(_) | Trouble::Store(_) | Trouble::NoRandomness => {
                (PAUSE * 2_u32.pow(failures.saturating_sub(1).min(8))).min(MAX_PAUSE)
            }
        }
    }

    fn outcome(self, job: &Job) -> Outcome {
        let name = &job.secret;
        let (reason, message) = match self {
            Trouble::Stuck => (
                Reason::SecretConflict,
                format!("Secret {name} cannot be mended, since it is immutable or of another type: delete it"),
            ),
            Trouble::Taken => (
                Reason::SecretConflict,
                format!(
                    "Secret {name} is there and is not this Robot's, so it is left alone: delete it, or choose another \
                     name by spec.secretName"
                ),
            ),
            Trouble::Api(Failure::Forbidden) => (
                Reason::SecretForbidden,
                format!("Secret {name} cannot be written: the operator has no right to Secrets of this namespace"),
            ),
            Trouble::Api(Failure::Other(error)) => {
                (Reason::SecretFailed, format!("Secret {name} cannot be written, which goes on being tried: {error}"))
            }
            Trouble::Store(error) => (
                Reason::StoreUnavailable,
                format!("the Robot's token cannot be recorded, which goes on being tried: {error}"),
            ),
            Trouble::Nowhere => (
                Reason::PublicURLMissing,
                "nobody knows under which name clients reach the proxies: set ARTIFACTAPI_PUBLIC_URL of the operator \
                 (chart: publicURL)"
                    .to_owned(),
            ),
            Trouble::NoRandomness | Trouble::Raced => {
                (Reason::SecretFailed, "the operating system gave no random bytes".to_owned())
            }
        };
        Outcome { reason, message }
    }
}

fn rfc3339(at: Timestamp) -> String {
    let at = k8s_openapi::jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn now() -> Timestamp {
    Timestamp(k8s_openapi::jiff::Timestamp::now().as_millisecond())
}

impl Hands {
    /// One look at one robot.
    async fn keep(&self, job: &Job) -> Result<Done, Trouble> {
        let registry = self.registry.as_deref().ok_or(Trouble::Nowhere)?;
        let namespace = job.key.namespace.as_str();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let owner =
            Owner { namespace: namespace.to_owned(), name: job.object.name.clone(), uid: job.uid.clone() };
        let requested_at = job.requested_at.as_deref();
        let wanted = Wanted { name: &job.secret, owner: &owner, registry, requested_at };
        let there = api::patiently(api.get_opt(&job.secret)).await?;
        let found = wanted.find(there.as_ref());
        let rows = self.accounts.tokens_of(&job.key, Source::Manifest).await?;
        let known = Known { found: &found, rows: &rows, ttl: job.ttl, requested_at, now: now() };
        let Plan { step, revoke, again } = plan(&known);
        let expires_at = match step {
            Step::Keep { expires_at } => expires_at,
            Step::Mend { token, expires_at } => {
                tracing::info!(object = %job.object, "its Secret is mended");
                write(&api, &wanted, &found, &token).await?;
                expires_at
            }
            Step::Renew { why } => {
                tracing::info!(object = %job.object, why, "it gets another token");
                self.renew(&api, &wanted, &found, job).await?
            }
            Step::LeaveAlone => {
                self.revoke(&revoke).await?;
                return Err(Trouble::Taken);
            }
        };
        self.revoke(&revoke).await?;
        if let Some(before) = &job.before {
            hollow(&api, &wanted, before).await?;
        }
        Ok(Done { expires_at, again })
    }

    /// The row first: a Secret that is there works.
    async fn renew(
        &self,
        api: &Api<Secret>,
        wanted: &Wanted<'_>,
        found: &Found,
        job: &Job,
    ) -> Result<Option<Timestamp>, Trouble> {
        if matches!(found, Found::Ours { is_mendable: false, .. }) {
            return Err(Trouble::Stuck);
        }
        let token = RobotToken::generate().map_err(|_| Trouble::NoRandomness)?;
        failpoint("operator.token.before");
        let row = self.accounts.add_token(&job.key, &token.hash(), job.ttl, Source::Manifest).await?;
        // The robot is not stored at this moment.
        let row = row.ok_or(Trouble::Raced)?;
        failpoint("operator.token.after");
        let written = write(api, wanted, found, &token).await;
        if written.is_err() {
            // Nobody will ever show it. Should this fail, it is found again by its age.
            let _ = self.accounts.revoke_token(&row.id).await;
        }
        written?;
        failpoint("operator.token.written");
        Ok(row.expires_at)
    }

    async fn revoke(&self, tokens: &[TokenId]) -> Result<(), MetadataError> {
        for token in tokens {
            self.accounts.revoke_token(token).await?;
        }
        Ok(())
    }
}

/// Writes the Secret with `token` over what was found, and nothing else. The operator deletes no Secret: whoever could
/// might delete every one.
async fn write(
    api: &Api<Secret>,
    wanted: &Wanted<'_>,
    found: &Found,
    token: &RobotToken,
) -> Result<(), Trouble> {
    let mut secret = wanted.with(token);
    match found {
        Found::Ours { is_mendable: true, version, .. } => {
            secret.metadata.resource_version.clone_from(version);
            replace(api, wanted.name, &secret).await
        }
        Found::Ours { .. } => Err(Trouble::Stuck),
        Found::Nothing | Found::Foreign => {
            raced(api::patiently(settled(api.create(&PostParams::default(), &secret))).await?)
        }
    }
}

async fn replace(api: &Api<Secret>, name: &str, secret: &Secret) -> Result<(), Trouble> {
    raced(api::patiently(settled(api.replace(name, &PostParams::default(), secret))).await?)
}

/// Takes the token out of the Secret that the robot had under another name.
async fn hollow(api: &Api<Secret>, wanted: &Wanted<'_>, name: &str) -> Result<(), Trouble> {
    let secret = api::patiently(api.get_opt(name)).await?;
    match (wanted.find(secret.as_ref()), secret) {
        (Found::Ours { is_mendable: true, token: Some(_), .. }, Some(mut secret)) => {
            secret.data = Some(secret::nothing());
            replace(api, name, &secret).await
        }
        _ => Ok(()),
    }
}

/// `false`: something else is there by now than was found.
async fn settled<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<bool> {
    match call.await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        other => other.map(|_| true),
    }
}

fn raced(is_done: bool) -> Result<(), Trouble> {
    if is_done { Ok(()) } else { Err(Trouble::Raced) }
}
