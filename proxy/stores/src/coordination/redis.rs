//! Coordination through Redis or Valkey. Everything of its client library stays in here.
//!
//! Nothing waits for it: a call ends within [`CALL`], and after one that was not answered all others fail at once,
//! without the network, until Redis answers a probe (RS-84). What stands under our keys may be anything; what is not
//! ours counts as absent.

mod quiet;
mod tally;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use artifactapi_model::ports::{CoordinationError, Coordinator, Heard, Lease, Messages};
use async_trait::async_trait;
use bytes::Bytes;
use fred::{
    clients::{Client, SubscriberClient, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike, EventInterface, KeysInterface, LuaInterface, PubsubInterface},
    types::{
        Builder, Expiration, Value,
        config::{Config, Options, ReconnectPolicy},
    },
};
use tokio::{sync::broadcast, time::timeout};

use self::quiet::Quiet;
pub use self::tally::{RedisCall, RedisCounts, RedisTally};
use crate::random::random;

/// Longest wait for an answer.
const CALL: Duration = Duration::from_millis(80);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Pause before an attempt to connect, in milliseconds: before the first one, the longest one, and how much longer
/// it becomes each time. The library pauses before the very first attempt too, and a replica that is ready
/// before it has connected fetches on its own.
const RECONNECT: (u32, u32, u32) = (5, 1_000, 4);
/// Longest random addition to a pause, in milliseconds.
const JITTER: u32 = 10;
/// Commands that wait for the connection; more fail.
const MAX_WAITING: usize = 4_096;
/// Messages a slow subscriber may be behind.
const MAX_BEHIND: usize = 1_024;
const SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];
/// What our keys begin with.
const PREFIX: &str = "artifactapi:";

/// Takes a lease unless one of ours is there: KEYS[1] the lease, ARGV[1] token and note, ARGV[2] life in
/// milliseconds. Returns nothing, or the holder's value.
const ACQUIRE: &str = "local held = redis.pcall('GET', KEYS[1]) \
     if type(held) == 'string' and string.match(held, '^%x+|') then return held end \
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return false";
/// KEYS[1] the lease, ARGV[1] the token, ARGV[2] life in milliseconds. Returns 1 when it was ours.
const RENEW: &str = "local held = redis.pcall('GET', KEYS[1]) \
     if type(held) == 'string' and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. '|' then \
     return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// KEYS[1] the lease, ARGV[1] the token.
const RELEASE: &str = "local held = redis.pcall('GET', KEYS[1]) \
     if type(held) == 'string' and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. '|' then \
     return redis.call('DEL', KEYS[1]) end return 0";

/// `REDIS_URL` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "REDIS_URL cannot be used: {0}; it is redis://, rediss://, redis-sentinel:// or redis-cluster:// with host, and \
     where needed with user:password@ and :port"
)]
pub struct RedisUrlError(String);

/// Leases, expiring keys and messages in Redis.
pub struct RedisCoordinator {
    client: WithOptions<Client>,
    prefix: String,
    quiet: Arc<Quiet>,
    tally: Arc<RedisTally>,
    messages: broadcast::Sender<Heard>,
}

impl RedisCoordinator {
    /// Connects to `url` in the background and returns at once; calls are counted in `tally`.
    ///
    /// # Errors
    /// [`RedisUrlError`], without the password.
    pub fn connect(url: &str, tally: Arc<RedisTally>) -> Result<Self, RedisUrlError> {
        Self::with_prefix(url, tally, PREFIX)
    }

    fn with_prefix(url: &str, tally: Arc<RedisTally>, prefix: &str) -> Result<Self, RedisUrlError> {
        // The library's own words may quote the URL, and with it the password.
        let wrong = |error: Error| RedisUrlError(format!("{:?}", error.kind()));
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !SCHEMES.contains(&scheme) {
            return Err(RedisUrlError("its scheme is not one of redis".into()));
        }
        let mut config = Config::from_url(url).map_err(wrong)?;
        // At the start Redis may be away: it is tried again like any other time.
        config.fail_fast = false;
        let mut builder = Builder::from_config(config);
        let mut policy = ReconnectPolicy::new_exponential(0, RECONNECT.0, RECONNECT.1, RECONNECT.2);
        policy.set_jitter(JITTER);
        builder
            .set_policy(policy)
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT;
                connection.internal_command_timeout = CONNECT;
                connection.max_command_buffer_len = MAX_WAITING;
                connection.max_command_attempts = 1;
                connection.tcp.nodelay = Some(true);
            })
            .with_performance_config(|performance| performance.broadcast_channel_capacity = MAX_BEHIND);
        let client = builder.build().map_err(wrong)?;
        let subscriber = builder.build_subscriber_client().map_err(wrong)?;
        let messages = broadcast::Sender::new(MAX_BEHIND);
        tokio::spawn(listen(subscriber, format!("{prefix}messages"), messages.clone()));
        client.connect();
        let options =
            Options { timeout: Some(CALL), max_attempts: Some(1), fail_fast: true, ..Options::default() };
        let client = client.with_options(&options);
        let quiet = Quiet::start(client.clone(), tally.clone());
        Ok(RedisCoordinator { client, prefix: prefix.to_owned(), quiet, tally, messages })
    }

    fn lease_key(&self, key: &str) -> String {
        format!("{}lease:{key}", self.prefix)
    }

    fn value_key(&self, key: &str) -> String {
        format!("{}value:{key}", self.prefix)
    }

    /// Makes one call, unless Redis is known not to answer.
    async fn call<T>(
        &self,
        call: RedisCall,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Trouble> {
        if self.quiet.is_on() {
            self.tally.count_skipped();
            return Err(Trouble::Silent("it did not answer a moment ago".into()));
        }
        self.tally.count(call);
        let outcome = timeout(CALL, work).await;
        let trouble = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Trouble::of(&error),
            Err(_) => Trouble::Silent(format!("there was no answer within {CALL:?}")),
        };
        self.tally.count_failed();
        if let Trouble::Silent(reason) = &trouble {
            self.quiet.begin(reason);
        }
        Err(trouble)
    }
}

/// Why a call failed.
enum Trouble {
    /// Redis is lost, for all we know.
    Silent(String),
    /// It answers, and refuses: what stands under the key is not ours, or it has no room.
    Refused(String),
}

impl Trouble {
    fn of(error: &Error) -> Self {
        let reason = error.details().to_owned();
        match error.kind() {
            ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Tls
            | ErrorKind::Auth
            | ErrorKind::Routing
            | ErrorKind::Backpressure
            | ErrorKind::Sentinel
            | ErrorKind::Cluster => Trouble::Silent(reason),
            _ => Trouble::Refused(reason),
        }
    }
}

impl From<Trouble> for CoordinationError {
    fn from(trouble: Trouble) -> Self {
        let (Trouble::Silent(reason) | Trouble::Refused(reason)) = trouble;
        CoordinationError(reason)
    }
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::from(i32::MAX) * 1_000)
}

#[async_trait]
impl Coordinator for RedisCoordinator {
    async fn acquire(
        &self,
        key: &str,
        note: &str,
        ttl: Duration,
    ) -> Result<Result<Lease, String>, CoordinationError> {
        let token = random::<16>().map_err(|error| CoordinationError(error.to_string()))?;
        let token = hex::encode(token);
        let arguments = vec![format!("{token}|{note}"), millis(ttl).to_string()];
        let script = self.client.eval::<Value, _, _, _>(ACQUIRE, self.lease_key(key), arguments);
        let held = self.call(RedisCall::Acquire, script).await?;
        match held.as_string() {
            None => Ok(Ok(Lease { key: key.to_owned(), token })),
            Some(held) => Ok(Err(held.split_once('|').map(|(_, note)| note.to_owned()).unwrap_or_default())),
        }
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, CoordinationError> {
        let arguments = vec![lease.token.clone(), millis(ttl).to_string()];
        let script = self.client.eval::<i64, _, _, _>(RENEW, self.lease_key(&lease.key), arguments);
        Ok(self.call(RedisCall::Renew, script).await? == 1)
    }

    async fn release(&self, lease: &Lease) -> Result<(), CoordinationError> {
        let arguments = vec![lease.token.clone()];
        let script = self.client.eval::<i64, _, _, _>(RELEASE, self.lease_key(&lease.key), arguments);
        self.call(RedisCall::Release, script).await?;
        Ok(())
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CoordinationError> {
        let life = Some(Expiration::PX(millis(ttl)));
        let set = self.client.set::<(), _, _>(self.value_key(key), Value::Bytes(value), life, None, false);
        Ok(self.call(RedisCall::Put, set).await?)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, CoordinationError> {
        let get = self.client.get::<Option<Bytes>, _>(self.value_key(key));
        match self.call(RedisCall::Get, get).await {
            Ok(value) => Ok(value),
            Err(Trouble::Refused(reason)) => {
                self.tally.count_foreign(&reason);
                Ok(None)
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), CoordinationError> {
        let del = self.client.del::<i64, _>(self.value_key(key));
        self.call(RedisCall::Delete, del).await?;
        Ok(())
    }

    async fn publish(&self, message: Bytes) -> Result<(), CoordinationError> {
        let channel = format!("{}messages", self.prefix);
        let publish = self.client.publish::<i64, _, _>(channel, Value::Bytes(message));
        self.call(RedisCall::Publish, publish).await?;
        Ok(())
    }

    fn subscribe(&self) -> Messages {
        super::heard(self.messages.subscribe())
    }
}

/// Passes on what comes over `channel`, for as long as someone may listen; tells of every time that something may
/// have been missed.
async fn listen(subscriber: SubscriberClient, channel: String, messages: broadcast::Sender<Heard>) {
    let (mut received, mut reconnected) = (subscriber.message_rx(), subscriber.reconnect_rx());
    let (connection, resubscribing) = (subscriber.connect(), subscriber.manage_subscriptions());
    // Waits for the first connection; later ones subscribe by themselves.
    let mut subscribed = false;
    loop {
        tokio::select! {
            done = subscriber.subscribe(channel.as_str()), if !subscribed => match done {
                Ok(()) => subscribed = true,
                Err(_) => tokio::time::sleep(CALL).await,
            },
            message = received.recv() => match message {
                Ok(message) => {
                    if let Some(bytes) = message.value.into_bytes() {
                        // Nobody listening is no failure.
                        let _ = messages.send(Heard::Message(bytes));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => drop(messages.send(Heard::Gap)),
                Err(broadcast::error::RecvError::Closed) => break,
            },
            server = reconnected.recv() => match server {
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => drop(messages.send(Heard::Gap)),
                Err(broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    connection.abort();
    resubscribing.abort();
}
