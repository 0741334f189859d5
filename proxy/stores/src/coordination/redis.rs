//! Coordination through Redis or Valkey. All of fred stays in here.
//!
//! fred reconnects nothing by itself, so that no command ever waits for a connection: a session that fails once
//! is thrown away, the replica is in *local mode* (every call fails at once, without touching the network), and
//! a task in the background makes the next session (RS-84).

mod address;
mod session;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicBool},
    time::Duration,
};

use artifactapi_model::ports::{CoordinationError, Coordinator, Heard, Lease, Messages};
use async_trait::async_trait;
use bytes::Bytes;
use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::{KeysInterface as _, LuaInterface as _, PubsubInterface as _},
    types::{Expiration, Value},
};
use tokio::{
    sync::{Notify, broadcast, watch},
    task::JoinHandle,
};

pub use address::{RedisOptions, RedisUrlError};
pub use tally::{RedisCounts, RedisTally};

use crate::random::random;

/// Messages a slow subscriber may be behind.
const MAX_BEHIND: usize = 1024;
/// Longest life of a key.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
/// Beginning of every value of ours; anything else was written by somebody else.
const MARK: &str = "v1:";
/// Characters of a token.
const TOKEN: usize = 32;

/// Takes the lease `KEYS[1]` with the value `ARGV[1]` for `ARGV[2]` ms; else the value of its holder. What cannot
/// be a lease (another type, other text, no end) holds nothing. The first of two answers says whether it was so.
const ACQUIRE: &str = r"
local foreign = 0
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  local held = redis.pcall('GET', KEYS[1])
  if type(held) == 'string' and string.find(held, '^v1:%x+:') == 1
    and string.sub(held, 36, 36) == ':' and redis.call('PTTL', KEYS[1]) > 0 then
    return {0, held}
  end
  foreign = 1
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return {foreign, ''}";
/// Extends the lease whose value begins with `ARGV[1]`.
const RENEW: &str = r"
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.sub(held, 1, #ARGV[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0";
/// Gives back the lease whose value begins with `ARGV[1]`.
const RELEASE: &str = r"
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' and string.sub(held, 1, #ARGV[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0";

/// Leases, expiring keys and messages in Redis.
pub struct RedisCoordinator {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

/// What calls and the keeper of the session have in common.
struct Shared {
    options: RedisOptions,
    session: RwLock<Option<Arc<Client>>>,
    /// Whether there is a session.
    live: watch::Sender<bool>,
    /// Wakes the keeper when a call found the session dead.
    failed: Notify,
    messages: broadcast::Sender<Heard>,
    tally: Arc<RedisTally>,
    said_foreign: AtomicBool,
}

impl RedisCoordinator {
    /// Begins to connect, in the background: a Redis that is down only means local mode until it is back.
    /// Needs a tokio runtime.
    pub fn start(options: RedisOptions) -> Self {
        let shared = Arc::new(Shared {
            options,
            session: RwLock::default(),
            live: watch::Sender::new(false),
            failed: Notify::new(),
            messages: broadcast::Sender::new(MAX_BEHIND),
            tally: Arc::default(),
            said_foreign: AtomicBool::new(false),
        });
        let keeper = tokio::spawn(session::keep(shared.clone()));
        RedisCoordinator { shared, keeper }
    }

    /// Where the counts are.
    pub fn tally(&self) -> Arc<RedisTally> {
        self.shared.tally.clone()
    }

    /// Waits until Redis answers, at most `patience`; whether it does.
    pub async fn connected(&self, patience: Duration) -> bool {
        let mut live = self.shared.live.subscribe();
        matches!(tokio::time::timeout(patience, live.wait_for(|live| *live)).await, Ok(Ok(_)))
    }

    /// One call within the budget. Whatever is no answer ends the session.
    async fn call<T, F>(&self, kind: tally::Call, work: impl FnOnce(Arc<Client>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let shared = &self.shared;
        let Some(client) = shared.current() else {
            shared.tally.refused();
            return Err(Error::new(ErrorKind::Canceled, "in local mode"));
        };
        shared.tally.called(kind);
        let budget = shared.options.budget;
        let error = match tokio::time::timeout(budget, work(client.clone())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => Error::new(ErrorKind::Timeout, format!("no answer within {budget:?}")),
        };
        if is_foreign(&error) {
            return Err(error);
        }
        shared.tally.failed();
        if ends_session(&error) {
            shared.drop_session(&client);
        }
        Err(error)
    }

    fn key(&self, family: &str, key: &str) -> String {
        format!("{}{family}:{key}", self.shared.options.prefix)
    }

    /// Runs a script on a lease that is ours.
    async fn on_lease(
        &self,
        kind: tally::Call,
        script: &'static str,
        lease: &Lease,
        ttl: Duration,
    ) -> Result<bool, CoordinationError> {
        let key = self.key("lease", &lease.key);
        let args = vec![format!("{MARK}{}:", lease.token), millis(ttl).to_string()];
        self.call(kind, async |client| client.eval::<i64, _, _, _>(script, key, args).await)
            .await
            .map(|changed| changed == 1)
            .map_err(told)
    }
}

impl Drop for RedisCoordinator {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shared {
    fn current(&self) -> Option<Arc<Client>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_session(&self, session: Option<Arc<Client>>) {
        let live = session.is_some();
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
        self.tally.set_local(!live);
        self.live.send_replace(live);
    }

    /// Into local mode at once, unless another call was faster or there is a newer session.
    fn drop_session(&self, dead: &Arc<Client>) {
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_some_and(|session| Arc::ptr_eq(session, dead)) {
            *session = None;
            self.tally.set_local(true);
            self.live.send_replace(false);
            self.failed.notify_one();
        }
    }

    /// Somebody else writes what is ours: counted, and said once.
    fn foreign(&self, what: &str) {
        self.tally.foreign();
        if !self.said_foreign.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let prefix = &self.options.prefix;
            tracing::warn!(what, prefix, "redis holds something foreign under a key of ours; it is ignored");
        }
    }
}

#[async_trait]
impl Coordinator for RedisCoordinator {
    async fn acquire(
        &self,
        key: &str,
        note: &str,
        ttl: Duration,
    ) -> Result<Result<Lease, String>, CoordinationError> {
        let token = hex::encode(random::<16>().map_err(|error| CoordinationError(error.to_string()))?);
        let args = vec![format!("{MARK}{token}:{note}"), millis(ttl).to_string()];
        let name = self.key("lease", key);
        let (foreign, held): (i64, Bytes) = self
            .call(tally::Call::Acquire, async |client| client.eval(ACQUIRE, name, args).await)
            .await
            .map_err(told)?;
        if foreign == 1 {
            self.shared.foreign("lease");
        }
        if held.is_empty() {
            return Ok(Ok(Lease { key: key.to_owned(), token }));
        }
        let note = held.get(MARK.len() + TOKEN + 1..).unwrap_or_default();
        Ok(Err(String::from_utf8_lossy(note).into_owned()))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, CoordinationError> {
        self.on_lease(tally::Call::Renew, RENEW, lease, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), CoordinationError> {
        self.on_lease(tally::Call::Release, RELEASE, lease, Duration::ZERO).await.map(drop)
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError> {
        let name = self.key("value", key);
        let value = Bytes::from([MARK.as_bytes(), &value].concat());
        let life = Some(Expiration::PX(millis(ttl)));
        self.call(tally::Call::Put, async |client| {
            client.set::<(), _, _>(name, Value::Bytes(value), life, None, false).await
        })
        .await
        .map_err(told)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        let name = self.key("value", key);
        let found =
            self.call(tally::Call::Get, async |client| client.get::<Option<Bytes>, _>(name).await).await;
        let value = match found {
            Ok(None) => return Ok(None),
            Ok(Some(value)) => value,
            Err(error) if is_foreign(&error) => Bytes::new(),
            Err(error) => return Err(told(error)),
        };
        if !value.starts_with(MARK.as_bytes()) {
            self.shared.foreign("value");
            return Ok(None);
        }
        Ok(Some(value.slice(MARK.len()..)))
    }

    async fn delete(&self, key: &str) -> Result<(), CoordinationError> {
        let name = self.key("value", key);
        self.call(tally::Call::Delete, async |client| client.del::<(), _>(name).await).await.map_err(told)
    }

    async fn publish(&self, message: Bytes) -> Result<(), CoordinationError> {
        let channel = self.shared.options.channel();
        self.call(tally::Call::Publish, async |client| {
            client.publish::<(), _, _>(channel, Value::Bytes(message)).await
        })
        .await
        .map_err(told)
    }

    fn subscribe(&self) -> Messages {
        super::heard(self.shared.messages.subscribe())
    }
}

/// What Redis takes as a life.
fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.min(MAX_TTL).as_millis()).unwrap_or(i64::MAX).max(1)
}

fn told(error: Error) -> CoordinationError {
    CoordinationError(error.details().to_owned())
}

/// A key of ours holds another type.
fn is_foreign(error: &Error) -> bool {
    error.details().contains("WRONGTYPE")
}

/// Whether the next call would fail as well: no answer, or one of a server that is none at the moment.
fn ends_session(error: &Error) -> bool {
    use ErrorKind::{Auth, Canceled, Cluster, IO, Protocol, Routing, Sentinel, Timeout, Tls};
    const UNFIT: [&str; 5] = ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH"];
    matches!(error.kind(), Auth | Canceled | Cluster | IO | Protocol | Routing | Sentinel | Timeout | Tls)
        || UNFIT.iter().any(|word| error.details().starts_with(word))
}
