//! `migrate`: brings the database's schema up to date.

use std::time::{Duration, Instant};

use artifactapi_model::Reminder;
use artifactapi_stores::{
    PostgresMetadata,
    postgres::{Migrated, PostgresError, PostgresSettings},
};
use clap::Args;

use super::{Failure, running::wait_for_signal, runtime, settings};
use crate::config::{environment, periods::period};

/// Pause before a database that could not be used is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Flags of `migrate`.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    /// How long a database that does not answer, or refuses, is tried again
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = period)]
    wait: Duration,
}

/// Migrates and says what was done.
pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let database = settings(environment::database(&environment::process))?;
    runtime()?.block_on(async {
        // As the first process of a container it would hear no signal that it does not ask for.
        let migrated = tokio::select! {
            migrated = migrate(&database, flags.wait) => migrated?,
            signal = wait_for_signal() => {
                signal?;
                return Err("stopped before the schema was up to date".into());
            }
        };
        println!("{migrated}");
        Ok(())
    })
}

/// Tries until it succeeds, or `patience` ends, or no patience helps; says meanwhile why it has not succeeded yet.
async fn migrate(database: &PostgresSettings, patience: Duration) -> Result<Migrated, PostgresError> {
    let (end, mut reminder) = (Instant::now() + patience, Reminder::default());
    loop {
        match PostgresMetadata::migrate(database).await {
            Err(error) if !error.is_lasting() && Instant::now() + RETRY < end => {
                let reason = error.to_string();
                if reminder.is_due(&reason, Instant::now()) {
                    eprintln!(
                        "artifactapi: waiting for the database (DBHOST, DBPORT, DBUSER, DBPASS, DBNAME): {reason}"
                    );
                }
            }
            result => return result,
        }
        tokio::time::sleep(RETRY).await;
    }
}
