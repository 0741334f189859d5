//! Connections: few, bounded in time, thrown away when they failed.
//!
//! Every call ends in time: the server gives up a statement or a lock after [`STATEMENT`], we give up waiting
//! for a connection and the answer together after [`CALL`]. What was asked on a connection that then died is
//! asked once more, on a new connection, only where doing it twice is doing it once.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use artifactapi_model::ports::MetadataError;
use deadpool_postgres::{
    ClientWrapper, Connect, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime, Timeouts,
    tokio_postgres::{Client, Config, Error, Row, types::ToSql},
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinHandle,
    time::Instant,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    super::operation::{Operation, SqlStatements},
    gate::{Gate, Pass},
    settings::PostgresSettings,
    tls,
    trouble::{Trouble, describe},
};

/// Connections of one replica, but for the one that listens and that of a turn: 20 together (RS-85).
pub(super) const CONNECTIONS: usize = 18;
/// Longest time to connect, encrypt and log in; tests on a busy machine give their pools more.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// Longest time the server works on one statement, or waits for a lock.
pub(super) const STATEMENT: Duration = Duration::from_secs(2);
/// Longest time of a call, the wait for a connection included.
pub(super) const CALL: Duration = Duration::from_secs(5);

/// What of it is left for the statement: a long wait is not to be taken for a server that does not answer.
const ANSWER: Duration = Duration::from_millis(2_500);

/// Values of a statement's parameters.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Whether a statement may be executed twice when nobody knows what became of the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It reads, or a second time changes nothing more.
    Safe,
    /// Never.
    Never,
}

/// The connections of this process.
pub(super) struct Pool {
    pool: deadpool_postgres::Pool,
    /// One for each connection. Whoever waited for one looks at the gate again before connecting.
    permits: Semaphore,
    gate: Gate,
    statements: Arc<SqlStatements>,
    place: String,
    pub(super) connect: Duration,
}

impl Pool {
    /// None is made yet. The error says why the settings cannot be used.
    pub(super) fn new(settings: &PostgresSettings, statements: Arc<SqlStatements>) -> Result<Self, String> {
        let connector = Connector { tls: tls::connector(&settings.tls)?, settings: settings.clone() };
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(settings.config_without_password(), connector, config);
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| error.to_string())?;
        let permits = Semaphore::new(CONNECTIONS);
        let (gate, place) = (Gate::default(), settings.place());
        Ok(Pool { pool, permits, gate, statements, place, connect: CONNECT })
    }

    pub(super) fn statements(&self) -> &SqlStatements {
        &self.statements
    }

    /// Executes one statement.
    pub(super) async fn ask(
        &self,
        operation: Operation,
        repeat: Repeat,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, MetadataError> {
        let deadline = Instant::now() + CALL;
        let answer = match self.ask_once(operation, deadline, sql, values).await {
            Err(trouble) if repeat == Repeat::Safe && trouble.is_passing() => {
                self.ask_once(operation, deadline, sql, values).await
            }
            answer => answer,
        };
        answer.map_err(|trouble| trouble.into_error(operation))
    }

    async fn ask_once(
        &self,
        operation: Operation,
        deadline: Instant,
        sql: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, Trouble> {
        let client = self.acquire(deadline).await?;
        let outcome = within(deadline, async {
            let statement = client.prepare_cached(sql).await?;
            self.statements.count(operation);
            Ok(client.query(&statement, values).await?)
        });
        let outcome = outcome.await;
        self.settle(client, outcome)
    }

    /// A connection. To be given back by [`Pool::settle`] with what came of it.
    pub(super) async fn acquire(&self, deadline: Instant) -> Result<Lease<'_>, Trouble> {
        if let Some(cause) = self.gate.cause() {
            return Err(Trouble::Unreachable(cause));
        }
        let permit = tokio::time::timeout_at(deadline - ANSWER, self.permits.acquire()).await;
        let Ok(Ok(permit)) = permit else {
            let cause = format!("all {CONNECTIONS} connections to {} are busy", self.place);
            return Err(Trouble::Unreachable(cause));
        };
        let probe = match self.gate.pass() {
            Pass::Open => None,
            Pass::Shut(cause) => return Err(Trouble::Unreachable(cause)),
            Pass::Probe(probe) => {
                // Whatever lies in the pool is from before; a new connection tells how things are now.
                self.forget_idle();
                Some(probe)
            }
        };
        // What has ended unnoticed is no news.
        self.pool.retain(|client, _| !client.is_closed());
        let timeouts = Timeouts { wait: None, create: Some(self.connect), recycle: None };
        let cause = match self.pool.timeout_get(&timeouts).await {
            Ok(client) => {
                if probe.is_some() {
                    self.gate.open();
                }
                return Ok(Lease { client, _permit: permit });
            }
            Err(PoolError::Timeout(_)) => {
                format!("{} does not answer: no connection within {} s", self.place, self.connect.as_secs())
            }
            Err(PoolError::Backend(error)) => format!("{}: {}", self.place, describe(&error)),
            Err(other) => format!("{}: {other}", self.place),
        };
        self.gate.shut(&cause);
        drop(probe);
        Err(Trouble::Unreachable(cause))
    }

    /// Gives a connection back, or throws it away when it failed.
    pub(super) fn settle<T>(&self, lease: Lease<'_>, outcome: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(trouble) = &outcome
            && trouble.spoils_connection()
        {
            drop::<ClientWrapper>(Object::take(lease.client));
            // The same has probably happened to the others.
            self.forget_idle();
            if matches!(trouble, Trouble::Late) {
                self.gate.shut(&format!("{} does not answer", self.place));
            }
        }
        outcome
    }

    fn forget_idle(&self) {
        self.pool.retain(|_, _| false);
    }
}

/// A connection in use.
pub(super) struct Lease<'a> {
    // Goes back before its permit does.
    client: Object,
    _permit: SemaphorePermit<'a>,
}

impl Deref for Lease<'_> {
    type Target = Object;

    fn deref(&self) -> &Object {
        &self.client
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Object {
        &mut self.client
    }
}

/// The outcome of `work`, or [`Trouble::Late`] at `deadline`.
pub(super) async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or(Err(Trouble::Late))
}

/// Makes connections whose statements are bounded.
struct Connector {
    tls: MakeRustlsConnect,
    settings: PostgresSettings,
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async move {
            // Not the manager's: the password may be another by now.
            let config = self.settings.config().await;
            let (client, connection) = config.connect(self.tls.clone()).await?;
            let driver = tokio::spawn(async move {
                // Whoever waits for an answer hears of it.
                if let Err(error) = connection.await {
                    tracing::debug!(error = %describe(&error), "a database connection ended");
                }
            });
            // Statements, not parameters of the connection: proxies in between know only a few of those.
            let bounds = format!(
                "SET statement_timeout = {0}; SET lock_timeout = {0}; \
                 SET idle_in_transaction_session_timeout = {1}; \
                 SET default_transaction_isolation = 'read committed'",
                STATEMENT.as_millis(),
                2 * CALL.as_millis(),
            );
            client.batch_execute(&bounds).await?;
            Ok((client, driver))
        })
    }
}
