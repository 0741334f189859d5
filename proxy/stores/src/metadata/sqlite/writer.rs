//! One thread that writes. What waits in its bounded queue shares one transaction and one sync of the log;
//! nobody hears of success before that sync. A job that fails takes back only its own changes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use artifactapi_model::{failpoint, ports::MetadataError};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    super::operation::{Operation, SqlStatements},
    error,
    session::Session,
};

/// Jobs that may wait; more wait in their callers.
const QUEUE: usize = 256;
/// Jobs that share one transaction.
const BATCH: usize = 64;

/// The way to the writing thread, which ends with it.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    /// Lets the thread finish what waits and close its connection, so that the log is folded into the file.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It catches its jobs' panics.
            let _ = thread.join();
        }
    }
}

impl Writer {
    pub(super) fn start(connection: Connection, statements: Arc<SqlStatements>) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread =
            Builder::new().name("sqlite-writer".into()).spawn(move || work(connection, jobs, &statements))?;
        Ok(Writer { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `work` and returns when its changes are durable.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let queue = self.queue.as_ref().ok_or_else(error::stopped)?;
        let (caller, answer) = oneshot::channel();
        let job = Pending { operation, work: Some(work), done: None, caller };
        queue.send(Box::new(job)).await.map_err(|_| error::stopped())?;
        answer.await.map_err(|_| error::stopped())?
    }
}

/// Something to write, without its types.
trait Job: Send {
    fn operation(&self) -> Operation;
    /// Does it; on an error the changes are to be taken back.
    fn run(&mut self, session: &Session<'_>) -> Result<(), MetadataError>;
    /// Tells the caller what came of it, now that it is known whether the batch is durable.
    fn answer(self: Box<Self>, batch: &Result<(), MetadataError>);
}

struct Pending<T, F> {
    operation: Operation,
    work: Option<F>,
    done: Option<Result<T, MetadataError>>,
    caller: oneshot::Sender<Result<T, MetadataError>>,
}

impl<T, F> Job for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send,
{
    fn operation(&self) -> Operation {
        self.operation
    }

    fn run(&mut self, session: &Session<'_>) -> Result<(), MetadataError> {
        let done = self.work.take().map(|work| work(session).map_err(|e| error::failed(self.operation, &e)));
        let result = match &done {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        };
        self.done = done;
        result
    }

    fn answer(self: Box<Self>, batch: &Result<(), MetadataError>) {
        let result = match (self.done, batch) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.clone()),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(error::stopped()),
        };
        // A caller that left does not need to know.
        let _ = self.caller.send(result);
    }
}

fn work(mut connection: Connection, mut jobs: mpsc::Receiver<Box<dyn Job>>, statements: &SqlStatements) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        let run = AssertUnwindSafe(|| {
            let result = run_batch(&mut connection, &mut batch, statements);
            batch.into_iter().for_each(|job| job.answer(&result));
        });
        // Unwinding rolls the transaction back and drops the jobs, which tells their callers.
        if catch_unwind(run).is_err() {
            tracing::error!("a database job panicked; what shared its transaction was rolled back");
        }
    }
}

fn run_batch(
    connection: &mut Connection,
    batch: &mut [Box<dyn Job>],
    statements: &SqlStatements,
) -> Result<(), MetadataError> {
    let operation = batch[0].operation();
    let failed = |error: rusqlite::Error| error::failed(operation, &error);
    // An announcement protects bytes from a collector of this machine; when the machine loses power, what it
    // announced is found as a stray and lives for another grace period. Not worth a sync of its own.
    let lasting = batch.iter().any(|job| job.operation() != Operation::AnnounceBlob);
    let synchronous = if lasting { "FULL" } else { "NORMAL" };
    connection.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
    let mut transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for job in batch {
        let savepoint = transaction.savepoint().map_err(failed)?;
        match job.run(&Session::new(&savepoint, job.operation(), statements)) {
            Ok(()) => savepoint.commit().map_err(failed)?,
            // A full disk or a failed write ends the whole transaction, and the savepoint with it.
            Err(error) => savepoint.finish().map_err(|_| error)?,
        }
    }
    failpoint("metadata.commit.before");
    transaction.commit().map_err(failed)?;
    failpoint("metadata.commit.after");
    Ok(())
}
