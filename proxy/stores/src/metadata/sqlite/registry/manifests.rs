//! Manifests and tags.

mod changes;
mod statements;

use std::time::Duration;

use artifactapi_model::{
    RepoId,
    oci::{ImageName, OciDigest, Reference, Tag},
    ports::{
        MetadataError,
        registry::{Deleted, HOLDING_DEPTH, ImageKey, Manifest, Manifests, NewManifest, Put, Referrer},
    },
};
use async_trait::async_trait;
use rusqlite::Row;

use self::statements as sql;
use super::{
    super::{
        super::{operation::Operation, registry_rows},
        SqliteMetadata,
        session::Session,
        sql_limit,
    },
    PART, column, key, nonsense, walk,
};

fn manifest(row: &Row<'_>) -> rusqlite::Result<Manifest> {
    let digest: String = row.get(0)?;
    registry_rows::manifest(&digest, row.get(1)?, row.get(2)?).map_err(|reason| nonsense(2, reason))
}

/// With whether it was let go.
fn manifest_and_state(row: &Row<'_>) -> rusqlite::Result<(Manifest, bool)> {
    Ok((manifest(row)?, row.get(3)?))
}

fn referrer(row: &Row<'_>) -> rusqlite::Result<Referrer> {
    let annotations: String = row.get(4)?;
    Ok(Referrer {
        digest: column(row, 0)?,
        media_type: row.get(1)?,
        size: row.get::<_, i64>(2)?.cast_unsigned(),
        artifact_type: row.get(3)?,
        annotations: registry_rows::annotations(&annotations).map_err(|reason| nonsense(4, reason))?,
    })
}

#[async_trait]
impl Manifests for SqliteMetadata {
    async fn put_manifest(&self, image: &ImageKey, new: &NewManifest) -> Result<Put, MetadataError> {
        let (image, new) = (image.clone(), new.clone());
        self.writer.run(Operation::PutManifest, move |session| changes::put(session, &image, &new)).await
    }

    async fn manifest(
        &self,
        image: &ImageKey,
        reference: &Reference,
        renew: bool,
    ) -> Result<Option<Manifest>, MetadataError> {
        let (asked, operation) = (image.clone(), Operation::Manifest);
        let (statement, text) = match reference {
            Reference::Digest(digest) => (sql::BY_DIGEST, digest.to_string()),
            Reference::Tag(tag) => (sql::BY_TAG, tag.to_string()),
        };
        let work = move |session: &Session<'_>| {
            let (repo, name) = key(&asked);
            session.sensible_row(("manifests", statement), (repo, name, text), manifest_and_state)
        };
        let Some((found, let_go)) = self.readers.run(operation, work).await? else { return Ok(None) };
        if !(renew && let_go) {
            return Ok(Some(found));
        }
        let (image, digest) = (image.clone(), found.digest);
        let is_there = self.writer.run(operation, move |session| changes::renew(session, &image, &digest));
        Ok(is_there.await?.then_some(found))
    }

    async fn tags(
        &self,
        image: &ImageKey,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, MetadataError> {
        let (image, after) = (image.clone(), registry_rows::after(after).to_owned());
        let work = move |session: &Session<'_>| {
            let (repo, name) = key(&image);
            if !session.row(sql::IS_IMAGE, (repo, name), |row| row.get::<_, bool>(0))? {
                return Ok(None);
            }
            let tags = walk(after, |after| {
                let values = (repo, name, after, sql_limit(limit));
                session.page(("tags", sql::TAGS), values, |row| column(row, 0))
            });
            tags.map(Some)
        };
        self.readers.run(Operation::Tags, work).await
    }

    async fn tags_of(&self, image: &ImageKey, digest: &OciDigest) -> Result<Vec<Tag>, MetadataError> {
        let (image, digest) = (image.clone(), digest.to_string());
        let work = move |session: &Session<'_>| {
            let (repo, name) = key(&image);
            session.page(("tags", sql::TAGS_OF), (repo, name, digest), |row| column(row, 0))
        };
        let tags = self.readers.run(Operation::TagsOf, work).await?;
        Ok(tags.into_iter().filter_map(|(_, tag)| tag).collect())
    }

    async fn holding_tags(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, MetadataError> {
        let (image, digest) = (image.clone(), digest.to_string());
        let after = after.map_or_else(String::new, Tag::to_string);
        let work = move |session: &Session<'_>| {
            let (repo, name) = key(&image);
            walk(after, |after| {
                let values = (repo, name, &digest, after, sql_limit(limit), HOLDING_DEPTH);
                session.page(("tags", sql::HOLDING_TAGS), values, |row| column(row, 0))
            })
        };
        self.readers.run(Operation::HoldingTags, work).await
    }

    async fn delete_tag(&self, image: &ImageKey, tag: &Tag) -> Result<Deleted, MetadataError> {
        let (image, tag) = (image.clone(), tag.clone());
        let work = move |session: &Session<'_>| changes::delete_tag(session, &image, &tag);
        self.writer.run(Operation::DeleteTag, work).await
    }

    async fn delete_manifest(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        tags: &[Tag],
    ) -> Result<Deleted, MetadataError> {
        let (image, digest, tags) = (image.clone(), *digest, tags.to_vec());
        let work = move |session: &Session<'_>| changes::delete(session, &image, &digest, &tags);
        self.writer.run(Operation::DeleteManifest, work).await
    }

    async fn referrers(
        &self,
        image: &ImageKey,
        subject: &OciDigest,
        artifact_type: Option<&str>,
        after: Option<&OciDigest>,
        limit: usize,
    ) -> Result<Vec<Referrer>, MetadataError> {
        let (image, subject) = (image.clone(), subject.to_string());
        let artifact_type = artifact_type.map(str::to_owned);
        let after = after.map_or_else(String::new, OciDigest::to_string);
        let work = move |session: &Session<'_>| {
            let (repo, name) = key(&image);
            walk(after, |after| {
                let values = (repo, name, &subject, after, &artifact_type, sql_limit(limit));
                session.page(("manifests", sql::REFERRERS), values, referrer)
            })
        };
        self.readers.run(Operation::Referrers, work).await
    }

    async fn images(
        &self,
        repo: RepoId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ImageName>, MetadataError> {
        let after = registry_rows::after(after).to_owned();
        let work = move |session: &Session<'_>| {
            walk(after, |after| {
                let values = (repo.0, after, sql_limit(limit));
                session.page(("manifests", sql::IMAGES), values, |row| column(row, 0))
            })
        };
        self.readers.run(Operation::Images, work).await
    }

    async fn expire_manifests(
        &self,
        repo: RepoId,
        age: Duration,
        limit: usize,
    ) -> Result<u64, MetadataError> {
        let mut gone = 0;
        while gone < limit {
            let most = PART.min(limit - gone);
            let work = move |session: &Session<'_>| changes::expire(session, repo.0, age, most);
            let done = self.writer.run(Operation::ExpireManifests, work).await?;
            gone += done;
            if done < most {
                break;
            }
        }
        Ok(gone as u64)
    }

    async fn purge_local(&self, repo: RepoId, limit: usize) -> Result<u64, MetadataError> {
        let most = limit.min(PART);
        let work = move |session: &Session<'_>| changes::purge(session, repo.0, most);
        Ok(self.writer.run(Operation::PurgeLocal, work).await? as u64)
    }
}
