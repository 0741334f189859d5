//! A bounded pool of connections that read, each on the blocking pool while it is used. In WAL mode they
//! wait neither for the writer nor for each other.

use std::sync::{Arc, Mutex, PoisonError};

use artifactapi_model::ports::MetadataError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{
    super::operation::{Operation, SqlStatements},
    error,
    session::Session,
};

#[derive(Clone)]
pub(super) struct Readers {
    pool: Arc<Pool>,
}

struct Pool {
    /// Locked only to take a connection out or to put it back.
    idle: Mutex<Vec<Connection>>,
    /// As many permits as there are connections.
    places: Arc<Semaphore>,
    statements: Arc<SqlStatements>,
}

/// A connection on loan; it goes back however its use ends.
struct Loan {
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, statements: Arc<SqlStatements>) -> Self {
        let places = Arc::new(Semaphore::new(connections.len()));
        Readers { pool: Arc::new(Pool { idle: Mutex::new(connections), places, statements }) }
    }

    /// Runs `work` in a transaction of its own, so that all its statements see one state.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl FnOnce(&Session<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, MetadataError> {
        let pool = self.pool.clone();
        let place = pool.places.clone().acquire_owned().await.map_err(|_| error::stopped())?;
        let ran = tokio::task::spawn_blocking(move || {
            // The permit outlives the loan: whoever gets it next finds a connection.
            let _place = place;
            let connection = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut loan = Loan { connection, pool };
            let statements = loan.pool.statements.clone();
            let connection = loan.connection.as_mut().ok_or_else(error::stopped)?;
            let read = || {
                let transaction = connection.transaction()?;
                let value = work(&Session::new(&transaction, operation, &statements))?;
                transaction.commit()?;
                Ok(value)
            };
            read().map_err(|error| error::failed(operation, &error))
        });
        ran.await.unwrap_or_else(|_| Err(error::stopped()))
    }
}
