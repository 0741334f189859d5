//! Blobs whose bytes are not in their own place. Triggers of the schema retire a place that a blob loses.

use std::time::Duration;

use artifactapi_model::{
    Digest,
    ports::{MetadataError, registry::Placements, uploads::Place},
};
use async_trait::async_trait;
use rusqlite::Row;

use super::{
    super::{super::operation::Operation, SqliteMetadata, housekeeping::millis, session::Session, sql_limit},
    blob, walk,
};

const PLACE: &str = "SELECT place FROM blob_places WHERE digest = ?1";
const CLEAR: &str = "DELETE FROM blob_places WHERE digest = ?1";
const SET: &str = "INSERT INTO blob_places (digest, place) VALUES (?1, ?2) \
     ON CONFLICT (digest) DO UPDATE SET place = excluded.place";
const PLACED: &str = "SELECT p.digest, b.size, p.place FROM blob_places p JOIN blobs b ON b.digest = p.digest \
     WHERE p.digest > ?1 AND b.state = 'live' ORDER BY p.digest LIMIT ?2";
const SETTLED: &str = "DELETE FROM blob_places WHERE digest = ?1 AND place = ?2";
const RETIRED: &str = concat!(
    "SELECT place FROM retired_places WHERE retired_at <= ",
    now!(),
    " - ?1 ORDER BY retired_at, place LIMIT ?2"
);
const PUSHED: &str = "SELECT 1 FROM links WHERE blob = ?1 LIMIT 1";
const FORGET: &str = "DELETE FROM retired_places WHERE place = ?1";

/// Gives a blob another place, or none.
pub(super) fn set(session: &Session<'_>, digest: &Digest, place: Option<&Place>) -> rusqlite::Result<()> {
    match place {
        Some(place) => {
            session.execute(FORGET, [&place.0])?;
            session.execute(SET, (digest.to_hex(), &place.0))?;
        }
        None => drop(session.execute(CLEAR, [digest.to_hex()])?),
    }
    Ok(())
}

fn placed(row: &Row<'_>) -> rusqlite::Result<(Digest, u64, Place)> {
    let (digest, size) = blob(row, 0)?;
    Ok((digest, size, Place(row.get(2)?)))
}

#[async_trait]
impl Placements for SqliteMetadata {
    async fn place(&self, digest: &Digest) -> Result<Option<Place>, MetadataError> {
        let digest = digest.to_hex();
        let work = move |session: &Session<'_>| session.find(PLACE, [digest], |row| row.get(0).map(Place));
        self.readers.run(Operation::Place, work).await
    }

    async fn placed(
        &self,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64, Place)>, MetadataError> {
        let after = after.map_or_else(String::new, |digest| digest.to_hex());
        let work = move |session: &Session<'_>| {
            walk(after, |after| session.page(("blob_places", PLACED), (after, sql_limit(limit)), placed))
        };
        self.readers.run(Operation::Placed, work).await
    }

    async fn settled(&self, digest: &Digest, place: &Place) -> Result<bool, MetadataError> {
        let values = (digest.to_hex(), place.0.clone());
        let work = move |session: &Session<'_>| Ok(session.execute(SETTLED, values)? > 0);
        self.writer.run(Operation::Settled, work).await
    }

    async fn retired_places(&self, age: Duration, limit: usize) -> Result<Vec<Place>, MetadataError> {
        let values = (millis(age), sql_limit(limit));
        let work = move |session: &Session<'_>| session.rows(RETIRED, values, |row| row.get(0).map(Place));
        self.readers.run(Operation::RetiredPlaces, work).await
    }

    async fn pushed(&self, blobs: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let blobs = blobs.to_vec();
        let work = move |session: &Session<'_>| {
            let mut pushed = Vec::new();
            for blob in blobs {
                if session.find(PUSHED, [blob.to_hex()], |_| Ok(()))?.is_some() {
                    pushed.push(blob);
                }
            }
            Ok(pushed)
        };
        self.readers.run(Operation::Pushed, work).await
    }

    async fn forget_place(&self, place: &Place) -> Result<(), MetadataError> {
        let place = place.0.clone();
        let work = move |session: &Session<'_>| session.execute(FORGET, [place]).map(drop);
        self.writer.run(Operation::ForgetPlace, work).await
    }
}
