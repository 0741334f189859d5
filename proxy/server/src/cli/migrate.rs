//! `migrate`: brings the database's schema up to date.

use artifactapi_stores::PostgresMetadata;

use super::{Failure, runtime, settings};
use crate::config::environment::{self, StoreSettings};

/// Migrates and says what was done.
pub(super) fn run() -> Result<(), Failure> {
    let settings = settings(StoreSettings::read(&environment::process))?;
    runtime()?.block_on(async {
        let migrated = PostgresMetadata::migrate(&settings.database).await?;
        println!("{migrated}");
        Ok(())
    })
}
