//! Blobs whose bytes are not in their own place. Triggers of the schema retire a place that a blob loses.

use std::time::Duration;

use artifactapi_model::{
    Digest,
    ports::{MetadataError, registry::Placements, uploads::Place},
};
use async_trait::async_trait;
use deadpool_postgres::tokio_postgres::Row;

use super::{
    super::{
        super::operation::Operation,
        PostgresMetadata,
        pool::Values,
        rows::{self, readable},
        sql_limit,
    },
    seconds,
};

const PLACE: &str = "SELECT place FROM blob_places WHERE digest = $1";
const PLACED: &str = "SELECT p.digest, b.size, p.place FROM blob_places p JOIN blobs b ON b.digest = p.digest \
     WHERE p.digest > $1 AND b.state = 'live' ORDER BY p.digest LIMIT $2";
const SETTLED: &str = "DELETE FROM blob_places WHERE digest = $1 AND place = $2 RETURNING 1";
const RETIRED: &str = "SELECT place FROM retired_places WHERE retired_at <= now() - make_interval(secs => $1) \
     ORDER BY retired_at, place LIMIT $2";
const PUSHED: &str = "SELECT DISTINCT blob FROM links WHERE blob = ANY ($1)";
const FORGET: &str = "DELETE FROM retired_places WHERE place = $1";

fn placed(row: &Row) -> Result<(Digest, u64, Place), String> {
    let size = rows::column::<i64>(row, 1)?.cast_unsigned();
    Ok((rows::digest(row, 0)?, size, Place(rows::column(row, 2)?)))
}

fn places(rows: &[Row]) -> impl Iterator<Item = Place> {
    rows.iter().map(|row| Place(row.get(0)))
}

#[async_trait]
impl Placements for PostgresMetadata {
    async fn place(&self, digest: &Digest) -> Result<Option<Place>, MetadataError> {
        let rows = self.read(Operation::Place, PLACE, &[&digest.to_hex()]).await?;
        Ok(places(&rows).next())
    }

    async fn placed(
        &self,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64, Place)>, MetadataError> {
        let mut after = after.map_or_else(String::new, |digest| digest.to_hex());
        loop {
            let values: Values<'_> = &[&after, &sql_limit(limit)];
            let rows = self.patiently(Operation::Placed, PLACED, values).await?;
            let page = readable(&rows, self.pool.statements(), "blob_places", placed);
            match rows.last() {
                // An empty page would end the walk: only the rows of this one make no sense.
                Some(last) if page.is_empty() => after = last.get(0),
                _ => return Ok(page),
            }
        }
    }

    async fn settled(&self, digest: &Digest, place: &Place) -> Result<bool, MetadataError> {
        let values: Values<'_> = &[&digest.to_hex(), &place.0];
        Ok(!self.read(Operation::Settled, SETTLED, values).await?.is_empty())
    }

    async fn retired_places(&self, age: Duration, limit: usize) -> Result<Vec<Place>, MetadataError> {
        let values: Values<'_> = &[&seconds(age), &sql_limit(limit)];
        Ok(places(&self.patiently(Operation::RetiredPlaces, RETIRED, values).await?).collect())
    }

    async fn pushed(&self, blobs: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let blobs: Vec<String> = blobs.iter().map(|blob| blob.to_hex()).collect();
        let rows = self.patiently(Operation::Pushed, PUSHED, &[&blobs]).await?;
        Ok(readable(&rows, self.pool.statements(), "links", |row| rows::digest(row, 0)))
    }

    async fn forget_place(&self, place: &Place) -> Result<(), MetadataError> {
        self.read(Operation::ForgetPlace, FORGET, &[&place.0]).await.map(drop)
    }
}
