//! The life of sessions: each is one connection for calls and one for messages; the keeper makes the next when
//! one has ended.

use std::{collections::HashSet, sync::Arc, time::Duration};

use artifactapi_model::ports::Heard;
use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _},
    types::{Builder, ConnectHandle, Message, Value},
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{MAX_BEHIND, RedisOptions, Shared};

/// Longest time for a connection and its handshake.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// Pause between two attempts. With the handshake well below the five seconds a recovery may take.
const RETRY: Duration = Duration::from_secs(1);
/// Shortest local mode after an answer that did not come: a Redis that is slow now is not asked again at once.
const LOCAL: Duration = Duration::from_secs(5);
/// Time between two questions whether an idle session still answers.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What is said only to hear it.
const BEAT: &[u8] = b"beat";
/// Longest message that is passed on; ours are shorter than 8 KiB.
const MAX_MESSAGE: usize = 64 << 10;
/// Most commands that wait to be written.
const MAX_WAITING: usize = 4096;
/// Most different reasons said in one outage.
const MAX_REASONS: usize = 4;

/// One session; its connections end with it.
struct Session {
    client: Arc<Client>,
    messages: Receiver<Message>,
    calls: Connection,
    subscription: Connection,
}

/// The task that drives a connection.
struct Connection(ConnectHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Why it has ended.
    async fn ended(&mut self) -> Error {
        match (&mut self.0).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => Error::new(ErrorKind::IO, "the connection was closed"),
        }
    }
}

/// Keeps a session as well as can be, for ever.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut said = HashSet::new();
    let mut quiet = Instant::now();
    loop {
        match open(&shared.options, quiet).await {
            Ok(session) => {
                if !said.is_empty() {
                    tracing::info!("redis answers again: coordinating with the other replicas");
                    said.clear();
                }
                shared.tally.session();
                shared.set_session(Some(session.client.clone()));
                // Whoever listened before has missed what was said meanwhile.
                let _ = shared.messages.send(Heard::Gap);
                let (error, unanswered) = serve(&shared, session).await;
                shared.set_session(None);
                say(&mut said, &error);
                quiet = Instant::now() + if unanswered { LOCAL } else { Duration::ZERO };
            }
            Err(error) => {
                say(&mut said, &error);
                sleep(RETRY).await;
            }
        }
    }
}

/// Once for each reason of an outage.
fn say(said: &mut HashSet<String>, error: &Error) {
    if said.len() < MAX_REASONS && said.insert(error.details().to_owned()) {
        let reason = error.details();
        tracing::warn!(
            reason,
            "redis (REDIS_URL) does not answer: this replica coordinates with itself only until it does"
        );
    }
}

/// Connects and subscribes; returns not before `quiet`, and then only if an answer comes within the budget.
async fn open(options: &RedisOptions, quiet: Instant) -> Result<Session, Error> {
    let (client, calls) = connect(options).await?;
    let (subscriber, subscription) = connect(options).await?;
    let messages = subscriber.message_rx();
    within(HANDSHAKE, subscriber.subscribe(options.channel())).await?;
    sleep_until(quiet).await;
    within(options.budget, client.ping::<()>(None)).await?;
    Ok(Session { client: Arc::new(client), messages, calls, subscription })
}

async fn connect(options: &RedisOptions) -> Result<(Client, Connection), Error> {
    let mut builder = Builder::from_config(options.config.clone());
    builder.with_connection_config(|config| {
        config.connection_timeout = HANDSHAKE;
        config.internal_command_timeout = HANDSHAKE;
        config.max_command_attempts = 1;
        config.max_command_buffer_len = MAX_WAITING;
        config.tcp.nodelay = Some(true);
    });
    builder.with_performance_config(|config| config.broadcast_channel_capacity = MAX_BEHIND);
    let client = builder.build()?;
    let mut connection = Connection(client.connect());
    within(HANDSHAKE, async {
        tokio::select! {
            error = connection.ended() => Err(error),
            connected = client.wait_for_connect() => connected,
        }
    })
    .await?;
    Ok((client, connection))
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(time, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, format!("no answer within {time:?}"))))
}

/// Passes messages on until the session ends; why it did, and whether an answer was wanting.
async fn serve(shared: &Shared, mut session: Session) -> (Error, bool) {
    let mut beat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut unheard = false;
    loop {
        tokio::select! {
            () = shared.failed.notified() => {
                // A wake-up that belonged to the session before is none of this one's.
                if shared.current().is_none() {
                    return (Error::new(ErrorKind::Timeout, "a call was not answered in time"), true);
                }
            }
            error = session.calls.ended() => return (error, false),
            error = session.subscription.ended() => return (error, false),
            message = session.messages.recv() => match message {
                Ok(message) => {
                    unheard = false;
                    pass_on(shared, message);
                }
                Err(RecvError::Lagged(_)) => { let _ = shared.messages.send(Heard::Gap); }
                Err(RecvError::Closed) => {
                    return (Error::new(ErrorKind::IO, "the subscription was closed"), false);
                }
            },
            _ = beat.tick() => {
                // What is said must come back: a subscription may be lost without a word.
                if unheard {
                    return (Error::new(ErrorKind::Timeout, "no message comes over the subscription"), true);
                }
                let (channel, beat) = (shared.options.channel(), Value::Bytes(BEAT.into()));
                if let Err(error) = within(HANDSHAKE, session.client.publish::<(), _, _>(channel, beat)).await {
                    return (error, true);
                }
                unheard = true;
            }
        }
    }
}

fn pass_on(shared: &Shared, message: Message) {
    match message.value.into_bytes() {
        Some(bytes) if *bytes == *BEAT => {}
        Some(bytes) if bytes.len() <= MAX_MESSAGE => {
            // Nobody listening is no failure.
            let _ = shared.messages.send(Heard::Message(bytes));
        }
        _ => shared.foreign("message"),
    }
}
