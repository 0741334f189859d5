//! Which images have which blobs.

use std::time::Duration;

use artifactapi_model::{
    Digest, RepoId,
    oci::{ImageName, OciDigest},
    ports::{
        MetadataError,
        registry::{BlobLinks, ExpiredLinks, ImageKey, LinkedBlob, Linking, Unlinking},
    },
};
use async_trait::async_trait;

use super::{
    super::{
        super::{operation::Operation, registry_rows::number},
        SqliteMetadata,
        housekeeping::{keep, millis},
        session::Session,
        sql_limit,
    },
    PART, blob, key,
};

const TABLE: &str = "links";

const LINKED: &str = "SELECT blob, size FROM links WHERE repo = ?1 AND image = ?2 AND digest = ?3";
const RENEW: &str = concat!(
    "UPDATE links SET touched_at = ",
    now!(),
    " WHERE repo = ?1 AND image = ?2 AND digest = ?3 RETURNING blob, size"
);
const IN_ANY_IMAGE: &str = "SELECT blob, size FROM links WHERE repo = ?1 AND digest = ?2 \
     AND length(blob) = 64 AND blob NOT GLOB '*[^0-9a-f]*' LIMIT 1";
/// From one Local to the next, however many images of each have it.
const LOCALS_WITH: &str = "WITH RECURSIVE locals (repo) AS (SELECT MIN(repo) FROM links WHERE digest = ?1 \
     UNION ALL SELECT (SELECT MIN(l.repo) FROM links l WHERE l.digest = ?1 AND l.repo > locals.repo) \
     FROM locals WHERE locals.repo IS NOT NULL) SELECT repo FROM locals WHERE repo IS NOT NULL LIMIT ?2";
const IN_LOCAL: &str = "SELECT 1 FROM links WHERE blob = ?1 AND repo = ?2 LIMIT 1";
const PUT: &str = concat!(
    "INSERT INTO links (repo, image, digest, blob, size, loose, touched_at) VALUES (?1, ?2, ?3, ?4, ?5, 1, ",
    now!(),
    ") ON CONFLICT (repo, image, digest) DO UPDATE SET touched_at = excluded.touched_at"
);
const USE: &str = "INSERT INTO local_usage (repo, bytes) VALUES (?1, ?2) \
     ON CONFLICT (repo) DO UPDATE SET bytes = local_usage.bytes + excluded.bytes";
const USAGE: &str = "SELECT COALESCE((SELECT bytes FROM local_usage WHERE repo = ?1), 0)";
const IN_MANIFEST: &str =
    "SELECT 1 FROM manifest_blobs WHERE repo = ?1 AND image = ?2 AND digest = ?3 LIMIT 1";
const DROP: &str = "DELETE FROM links WHERE repo = ?1 AND image = ?2 AND digest = ?3 RETURNING blob, size";
const LOOSE: &str = concat!(
    "SELECT repo, image, digest FROM links WHERE loose = 1 AND touched_at <= ",
    now!(),
    " - ?1 ORDER BY touched_at LIMIT ?2"
);
const TIE: &str = "UPDATE links SET loose = 0 WHERE repo = ?1 AND image = ?2 AND digest = ?3";

/// Takes a link away, and its bytes from the usage.
pub(super) fn drop_link(session: &Session<'_>, repo: i64, image: &str, digest: &str) -> rusqlite::Result<()> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    // All rows, so that the statement runs to its end.
    for (blob, size) in session.rows(DROP, (repo, image, digest), read)? {
        if session.find(IN_LOCAL, (blob, repo), |_| Ok(()))?.is_none() {
            session.execute(USE, (repo, -size))?;
        }
    }
    Ok(())
}

/// Gives an image a blob.
pub(super) fn link(
    session: &Session<'_>,
    image: &ImageKey,
    digest: &OciDigest,
    (blob, size): (Digest, u64),
    quota: Option<u64>,
) -> rusqlite::Result<Linking> {
    let ((repo, name), digest) = (key(image), digest.to_string());
    let is_new = session.find(IN_LOCAL, (blob.to_hex(), repo), |_| Ok(()))?.is_none();
    let used: i64 = session.row(USAGE, [repo], |row| row.get(0))?;
    if is_new && quota.is_some_and(|quota| used.saturating_add(number(size)) > number(quota)) {
        return Ok(Linking::OverQuota);
    }
    if !keep(session, &blob, size)? {
        return Ok(Linking::BeingDeleted);
    }
    let there: Option<String> = session.find(LINKED, (repo, name, &digest), |row| row.get(0))?;
    if there.is_some_and(|there| there != blob.to_hex()) {
        // It made no sense.
        drop_link(session, repo, name, &digest)?;
    }
    session.execute(PUT, (repo, name, &digest, blob.to_hex(), number(size)))?;
    if is_new {
        session.execute(USE, (repo, number(size)))?;
    }
    Ok(Linking::Linked)
}

fn mount(
    session: &Session<'_>,
    (from, from_image): (i64, Option<&str>),
    image: &ImageKey,
    digest: &OciDigest,
    quota: Option<u64>,
) -> rusqlite::Result<Linking> {
    let text = digest.to_string();
    let source = match from_image {
        Some(name) => session.sensible_row((TABLE, LINKED), (from, name, &text), |row| blob(row, 0))?,
        None => session.sensible_row((TABLE, IN_ANY_IMAGE), (from, &text), |row| blob(row, 0))?,
    };
    match source {
        Some(source) => link(session, image, digest, source, quota),
        None => Ok(Linking::Missing),
    }
}

fn unlink(session: &Session<'_>, image: &ImageKey, digest: &str) -> rusqlite::Result<Unlinking> {
    let (repo, name) = key(image);
    if session.find(LINKED, (repo, name, digest), |_| Ok(()))?.is_none() {
        return Ok(Unlinking::Unknown);
    }
    if session.find(IN_MANIFEST, (repo, name, digest), |_| Ok(()))?.is_some() {
        return Ok(Unlinking::InUse);
    }
    drop_link(session, repo, name, digest)?;
    Ok(Unlinking::Done)
}

fn expire(session: &Session<'_>, grace: Duration, limit: usize) -> rusqlite::Result<ExpiredLinks> {
    let values = (millis(grace), sql_limit(limit));
    let found: Vec<(i64, String, String)> = session.rows(LOOSE, values, |row| row.try_into())?;
    let mut expired = ExpiredLinks { looked_at: found.len() as u64, dropped: 0 };
    for (repo, image, digest) in found {
        if session.find(IN_MANIFEST, (repo, &image, &digest), |_| Ok(()))?.is_some() {
            session.execute(TIE, (repo, image, digest))?;
        } else {
            drop_link(session, repo, &image, &digest)?;
            expired.dropped += 1;
        }
    }
    Ok(expired)
}

#[async_trait]
impl BlobLinks for SqliteMetadata {
    async fn linked(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        renew: bool,
    ) -> Result<Option<LinkedBlob>, MetadataError> {
        let (image, digest, operation) = (image.clone(), digest.to_string(), Operation::Linked);
        let statement = if renew { RENEW } else { LINKED };
        let work = move |session: &Session<'_>| {
            let (repo, name) = key(&image);
            let read = |row: &rusqlite::Row<'_>| blob(row, 0);
            let rows = session.page((TABLE, statement), (repo, name, digest), read)?;
            Ok(rows.into_iter().find_map(|(_, row)| row))
        };
        let found = match renew {
            true => self.writer.run(operation, work).await?,
            false => self.readers.run(operation, work).await?,
        };
        Ok(found.map(|(blob, size)| LinkedBlob { blob, size }))
    }

    async fn locals_with(&self, digest: &OciDigest, limit: usize) -> Result<Vec<RepoId>, MetadataError> {
        let values = (digest.to_string(), sql_limit(limit));
        let work =
            move |session: &Session<'_>| session.rows(LOCALS_WITH, values, |row| Ok(RepoId(row.get(0)?)));
        self.readers.run(Operation::LocalsWith, work).await
    }

    async fn mount(
        &self,
        (from, name): (RepoId, Option<&ImageName>),
        image: &ImageKey,
        digest: &OciDigest,
        quota: Option<u64>,
    ) -> Result<Linking, MetadataError> {
        let (name, image, digest) = (name.cloned(), image.clone(), *digest);
        let work = move |session: &Session<'_>| {
            mount(session, (from.0, name.as_ref().map(ImageName::as_str)), &image, &digest, quota)
        };
        self.writer.run(Operation::Mount, work).await
    }

    async fn unlink(&self, image: &ImageKey, digest: &OciDigest) -> Result<Unlinking, MetadataError> {
        let (image, digest) = (image.clone(), digest.to_string());
        self.writer.run(Operation::Unlink, move |session| unlink(session, &image, &digest)).await
    }

    async fn expire_links(&self, grace: Duration, limit: usize) -> Result<ExpiredLinks, MetadataError> {
        let (mut all, mut left) = (ExpiredLinks::default(), limit);
        while left > 0 {
            let most = PART.min(left);
            let work = move |session: &Session<'_>| expire(session, grace, most);
            let part = self.writer.run(Operation::ExpireLinks, work).await?;
            all.looked_at += part.looked_at;
            all.dropped += part.dropped;
            if part.looked_at < most as u64 {
                break;
            }
            left -= most;
        }
        Ok(all)
    }

    async fn local_usage(&self, repo: RepoId) -> Result<u64, MetadataError> {
        let work = move |session: &Session<'_>| session.row(USAGE, [repo.0], |row| row.get::<_, i64>(0));
        Ok(self.readers.run(Operation::LocalUsage, work).await?.cast_unsigned())
    }
}
