//! Rows of Locals of type docker. What writes is a function of the schema (`V2__registry.sql`), which says in which
//! order locks are taken; a second time it answers as the first, so that an unknown outcome can be asked again
//! (RS-86).

mod links;
mod manifests;
mod places;
mod uploads;

use std::time::Duration;

use artifactapi_model::{
    oci::OciDigest,
    ports::{MetadataError, registry::Linking},
};
use deadpool_postgres::tokio_postgres::Row;

use super::{
    super::{operation::Operation, registry_rows::parsed},
    PostgresMetadata, failed,
    pool::Values,
    rows,
};

/// Rows deleted in one statement: pushes to the same Local wait for it.
const PART: usize = 200;

/// A column of text that has to make sense.
fn column<T: std::str::FromStr>(row: &Row, at: usize) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    parsed(rows::column(row, at)?)
}

fn linking(operation: Operation, answer: &str) -> Result<Linking, MetadataError> {
    match answer {
        "linked" => Ok(Linking::Linked),
        "missing" => Ok(Linking::Missing),
        "over quota" => Ok(Linking::OverQuota),
        "deleting" => Ok(Linking::BeingDeleted),
        other => Err(failed(operation, other)),
    }
}

fn texts(digests: &[OciDigest]) -> Vec<String> {
    digests.iter().map(OciDigest::to_string).collect()
}

impl PostgresMetadata {
    /// The one row of a function's answer.
    async fn answer(
        &self,
        operation: Operation,
        statement: &str,
        values: Values<'_>,
    ) -> Result<Row, MetadataError> {
        let rows = self.read(operation, statement, values).await?;
        rows.into_iter().next().ok_or_else(|| failed(operation, "there is no answer"))
    }

    /// Deletes up to `limit` rows in parts: `statement` deletes up to as many as its last parameter, after `values`,
    /// says, and returns how many.
    async fn in_parts(
        &self,
        operation: Operation,
        statement: &str,
        values: Values<'_>,
        limit: usize,
    ) -> Result<u64, MetadataError> {
        let (mut gone, limit) = (0, limit as u64);
        while gone < limit {
            let most = (limit - gone).min(PART as u64);
            let part = most.cast_signed();
            let mut all = values.to_vec();
            all.push(&part);
            let done = self.counted(operation, statement, &all).await?;
            gone += done;
            if done < most {
                break;
            }
        }
        Ok(gone)
    }
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
