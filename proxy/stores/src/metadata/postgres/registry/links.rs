//! Which images have which blobs.

use std::time::Duration;

use artifactapi_model::{
    RepoId,
    oci::{ImageName, OciDigest},
    ports::{
        MetadataError,
        registry::{BlobLinks, ExpiredLinks, ImageKey, LinkedBlob, Linking, Unlinking},
    },
};
use async_trait::async_trait;
use deadpool_postgres::tokio_postgres::Row;

use super::{
    super::{
        super::{operation::Operation, registry_rows::number},
        PostgresMetadata, failed,
        pool::Values,
        rows::{self, readable},
        sql_limit,
    },
    PART, linking, seconds,
};

const LINKED: &str = "SELECT blob, size FROM links WHERE repo = $1 AND image = $2 AND digest = $3";
const RENEW: &str = "UPDATE links SET touched_at = now() WHERE repo = $1 AND image = $2 AND digest = $3 \
     RETURNING blob, size";
/// From one Local to the next, however many images of each have it.
const LOCALS_WITH: &str = "WITH RECURSIVE locals (repo) AS (SELECT MIN(repo) FROM links WHERE digest = $1 \
     UNION ALL SELECT (SELECT MIN(l.repo) FROM links l WHERE l.digest = $1 AND l.repo > locals.repo) \
     FROM locals WHERE locals.repo IS NOT NULL) SELECT repo FROM locals WHERE repo IS NOT NULL LIMIT $2";
const MOUNT: &str = "SELECT mount_blob($1, $2, $3, $4, $5, $6)";
const UNLINK: &str = "SELECT unlink_blob($1, $2, $3)";
const EXPIRE: &str = "SELECT out_looked_at, out_dropped FROM expire_links($1, $2)";
const USAGE: &str = "SELECT COALESCE((SELECT bytes FROM local_usage WHERE repo = $1), 0)";

fn linked(row: &Row) -> Result<LinkedBlob, String> {
    Ok(LinkedBlob { blob: rows::digest(row, 0)?, size: rows::column::<i64>(row, 1)?.cast_unsigned() })
}

#[async_trait]
impl BlobLinks for PostgresMetadata {
    async fn linked(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        renew: bool,
    ) -> Result<Option<LinkedBlob>, MetadataError> {
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &digest.to_string()];
        let statement = if renew { RENEW } else { LINKED };
        let rows = self.read(Operation::Linked, statement, values).await?;
        Ok(readable(&rows, self.pool.statements(), "links", linked).pop())
    }

    async fn locals_with(&self, digest: &OciDigest, limit: usize) -> Result<Vec<RepoId>, MetadataError> {
        let values: Values<'_> = &[&digest.to_string(), &sql_limit(limit)];
        let rows = self.read(Operation::LocalsWith, LOCALS_WITH, values).await?;
        Ok(rows.iter().map(|row| RepoId(row.get(0))).collect())
    }

    async fn mount(
        &self,
        (from, name): (RepoId, Option<&ImageName>),
        image: &ImageKey,
        digest: &OciDigest,
        quota: Option<u64>,
    ) -> Result<Linking, MetadataError> {
        let (operation, from_image) = (Operation::Mount, name.map(ImageName::as_str));
        let (to, quota) = (image.name.as_str(), quota.map(number));
        let values: Values<'_> = &[&from.0, &from_image, &image.repo.0, &to, &digest.to_string(), &quota];
        let answer: String = self.value(operation, MOUNT, values).await?;
        linking(operation, &answer)
    }

    async fn unlink(&self, image: &ImageKey, digest: &OciDigest) -> Result<Unlinking, MetadataError> {
        let operation = Operation::Unlink;
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &digest.to_string()];
        let answer: String = self.value(operation, UNLINK, values).await?;
        match answer.as_str() {
            "done" => Ok(Unlinking::Done),
            "unknown" => Ok(Unlinking::Unknown),
            "in use" => Ok(Unlinking::InUse),
            other => Err(failed(operation, other)),
        }
    }

    async fn expire_links(&self, grace: Duration, limit: usize) -> Result<ExpiredLinks, MetadataError> {
        let (operation, grace) = (Operation::ExpireLinks, seconds(grace));
        let (mut all, mut left) = (ExpiredLinks::default(), limit);
        while left > 0 {
            let most = PART.min(left);
            let rows = self.patiently(operation, EXPIRE, &[&grace, &sql_limit(most)]).await?;
            let row = rows.first().ok_or_else(|| failed(operation, "there is no answer"))?;
            let [looked_at, dropped] = [0, 1].map(|at| row.get::<_, i64>(at).cast_unsigned());
            all.looked_at += looked_at;
            all.dropped += dropped;
            if looked_at < most as u64 {
                break;
            }
            left -= most;
        }
        Ok(all)
    }

    async fn local_usage(&self, repo: RepoId) -> Result<u64, MetadataError> {
        let bytes: i64 = self.value(Operation::LocalUsage, USAGE, &[&repo.0]).await?;
        Ok(bytes.cast_unsigned())
    }
}
