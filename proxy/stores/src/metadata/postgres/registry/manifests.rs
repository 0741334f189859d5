//! Manifests and tags.

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
use deadpool_postgres::tokio_postgres::Row;

use super::{
    super::{
        super::{
            operation::Operation,
            registry_rows::{self, parsed},
        },
        PostgresMetadata, failed,
        pool::Values,
        rows::{self, kept, readable},
        sql_limit,
    },
    column, seconds, texts,
};

const PUT: &str =
    "SELECT out_answer, out_which FROM put_manifest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const BY_DIGEST: &str = "SELECT digest, media_type, body, unheld_since IS NOT NULL FROM manifests \
     WHERE repo = $1 AND image = $2 AND digest = $3";
const BY_TAG: &str = "SELECT m.digest, m.media_type, m.body, m.unheld_since IS NOT NULL FROM tags t JOIN manifests m \
     ON m.repo = t.repo AND m.image = t.image AND m.digest = t.manifest \
     WHERE t.repo = $1 AND t.image = $2 AND t.tag = $3";
const TAGS: &str = "SELECT EXISTS (SELECT 1 FROM manifests WHERE repo = $1 AND image = $2) \
     OR EXISTS (SELECT 1 FROM tags WHERE repo = $1 AND image = $2), ARRAY (SELECT tag FROM tags \
     WHERE repo = $1 AND image = $2 AND tag > $3 ORDER BY tag LIMIT $4)";
const TAGS_OF: &str = "SELECT tag FROM tags WHERE repo = $1 AND image = $2 AND manifest = $3 ORDER BY tag";
/// Up to $6 indexes above the manifest.
const HOLDING_TAGS: &str = "WITH RECURSIVE holders (digest, depth) AS ( \
     SELECT digest, 0 FROM manifests WHERE repo = $1 AND image = $2 AND digest = $3 \
     UNION SELECT c.manifest, holders.depth + 1 FROM holders JOIN manifest_children c \
     ON c.repo = $1 AND c.image = $2 AND c.child = holders.digest WHERE holders.depth < $6) \
     SELECT tag FROM tags WHERE repo = $1 AND image = $2 AND manifest IN (SELECT digest FROM holders) \
     AND tag > $4 ORDER BY tag LIMIT $5";
const RENEW: &str = "SELECT renew_manifest($1, $2, $3)";
const DELETE_TAG: &str = "SELECT delete_tag($1, $2, $3)";
const DELETE: &str = "SELECT out_answer, out_which FROM delete_manifest($1, $2, $3, $4)";
const REFERRERS: &str = "SELECT digest, media_type, size, artifact_type, annotations FROM manifests \
     WHERE repo = $1 AND image = $2 AND subject = $3 AND digest > $4 \
     AND ($5::TEXT IS NULL OR artifact_type = $5) ORDER BY digest LIMIT $6";
/// From one image to the next, however many manifests each has.
const IMAGES: &str = "WITH RECURSIVE found (image) AS ( \
     SELECT MIN(image) FROM manifests WHERE repo = $1 AND image > $2 \
     UNION ALL SELECT (SELECT MIN(m.image) FROM manifests m WHERE m.repo = $1 AND m.image > found.image) \
     FROM found WHERE found.image IS NOT NULL) SELECT image FROM found WHERE image IS NOT NULL LIMIT $3";
const EXPIRE: &str = "SELECT expire_manifests($1, $2, $3)";
const PURGE: &str = "SELECT purge_local($1, $2)";

fn manifest(row: &Row) -> Result<Manifest, String> {
    registry_rows::manifest(rows::column(row, 0)?, rows::column(row, 1)?, rows::column(row, 2)?)
}

/// With whether it was let go.
fn manifest_and_state(row: &Row) -> Result<(Manifest, bool), String> {
    Ok((manifest(row)?, rows::column(row, 3)?))
}

fn referrer(row: &Row) -> Result<Referrer, String> {
    Ok(Referrer {
        digest: column(row, 0)?,
        media_type: rows::column(row, 1)?,
        size: rows::column::<i64>(row, 2)?.cast_unsigned(),
        artifact_type: rows::column(row, 3)?,
        annotations: registry_rows::annotations(rows::column(row, 4)?)?,
    })
}

impl PostgresMetadata {
    /// What a function answered, and which digest or tag it means.
    async fn answer_about(
        &self,
        operation: Operation,
        statement: &str,
        values: Values<'_>,
    ) -> Result<(String, Option<String>), MetadataError> {
        let row = self.answer(operation, statement, values).await?;
        let word = rows::column(&row, 0).map_err(|reason| failed(operation, reason))?;
        Ok((word, rows::column(&row, 1).map_err(|reason| failed(operation, reason))?))
    }
}

/// The digest or tag in an answer.
fn which<T: std::str::FromStr>(operation: Operation, text: Option<String>) -> Result<T, MetadataError>
where
    T::Err: std::fmt::Display,
{
    parsed(text.as_deref().unwrap_or_default()).map_err(|reason| failed(operation, reason))
}

#[async_trait]
impl Manifests for PostgresMetadata {
    async fn put_manifest(&self, image: &ImageKey, new: &NewManifest) -> Result<Put, MetadataError> {
        let operation = Operation::PutManifest;
        let NewManifest { manifest, artifact_type, annotations, subject, blobs, children, tags } = new;
        let names: Vec<&str> = tags.iter().map(|new| new.tag.as_str()).collect();
        let immutable: Vec<bool> = tags.iter().map(|new| new.immutable).collect();
        let values: Values<'_> = &[
            &image.repo.0,
            &image.name.as_str(),
            &manifest.digest.to_string(),
            &manifest.media_type,
            &&manifest.body[..],
            artifact_type,
            &registry_rows::annotations_text(annotations),
            &subject.as_ref().map(OciDigest::to_string),
            &texts(blobs),
            &texts(children),
            &names,
            &immutable,
        ];
        let (answer, text) = self.answer_about(operation, PUT, values).await?;
        match answer.as_str() {
            "stored" => Ok(Put::Stored),
            "no blob" => which(operation, text).map(Put::MissingBlob),
            "no manifest" => which(operation, text).map(Put::MissingManifest),
            "immutable" => which(operation, text).map(Put::Immutable),
            other => Err(failed(operation, other)),
        }
    }

    async fn manifest(
        &self,
        image: &ImageKey,
        reference: &Reference,
        renew: bool,
    ) -> Result<Option<Manifest>, MetadataError> {
        let operation = Operation::Manifest;
        let (statement, text) = match reference {
            Reference::Digest(digest) => (BY_DIGEST, digest.to_string()),
            Reference::Tag(tag) => (BY_TAG, tag.to_string()),
        };
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &text];
        let rows = self.read(operation, statement, values).await?;
        let found = readable(&rows, self.pool.statements(), "manifests", manifest_and_state).pop();
        let Some((found, let_go)) = found else { return Ok(None) };
        if !(renew && let_go) {
            return Ok(Some(found));
        }
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &found.digest.to_string()];
        let is_there: bool = self.value(operation, RENEW, values).await?;
        Ok(is_there.then_some(found))
    }

    async fn tags(
        &self,
        image: &ImageKey,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, MetadataError> {
        let operation = Operation::Tags;
        let mut after = registry_rows::after(after).to_owned();
        loop {
            let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &after, &sql_limit(limit)];
            let row = self.answer(operation, TAGS, values).await?;
            let (is_there, found): (bool, Vec<String>) = (row.get(0), row.get(1));
            let read = |text: &String| kept(parsed(text), self.pool.statements(), "tags");
            let tags: Vec<Tag> = found.iter().filter_map(read).collect();
            match found.last() {
                Some(last) if tags.is_empty() => after.clone_from(last),
                _ => return Ok(is_there.then_some(tags)),
            }
        }
    }

    async fn tags_of(&self, image: &ImageKey, digest: &OciDigest) -> Result<Vec<Tag>, MetadataError> {
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &digest.to_string()];
        let rows = self.read(Operation::TagsOf, TAGS_OF, values).await?;
        Ok(readable(&rows, self.pool.statements(), "tags", |row| column(row, 0)))
    }

    async fn holding_tags(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<Tag>, MetadataError> {
        let (name, digest, limit) = (image.name.as_str(), digest.to_string(), sql_limit(limit));
        let depth = HOLDING_DEPTH.cast_signed();
        let mut after = after.map_or_else(String::new, Tag::to_string);
        loop {
            let values: Values<'_> = &[&image.repo.0, &name, &digest, &after, &limit, &depth];
            let rows = self.read(Operation::HoldingTags, HOLDING_TAGS, values).await?;
            let page = readable(&rows, self.pool.statements(), "tags", |row| column(row, 0));
            match rows.last() {
                Some(last) if page.is_empty() => after = last.get(0),
                _ => return Ok(page),
            }
        }
    }

    async fn delete_tag(&self, image: &ImageKey, tag: &Tag) -> Result<Deleted, MetadataError> {
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &tag.as_str()];
        let was_there: bool = self.value(Operation::DeleteTag, DELETE_TAG, values).await?;
        Ok(if was_there { Deleted::Done } else { Deleted::Unknown })
    }

    async fn delete_manifest(
        &self,
        image: &ImageKey,
        digest: &OciDigest,
        tags: &[Tag],
    ) -> Result<Deleted, MetadataError> {
        let operation = Operation::DeleteManifest;
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        let values: Values<'_> = &[&image.repo.0, &image.name.as_str(), &digest.to_string(), &tags];
        let (answer, text) = self.answer_about(operation, DELETE, values).await?;
        match answer.as_str() {
            "done" => Ok(Deleted::Done),
            "unknown" => Ok(Deleted::Unknown),
            "tagged" => which(operation, text).map(Deleted::Tagged),
            other => Err(failed(operation, other)),
        }
    }

    async fn referrers(
        &self,
        image: &ImageKey,
        subject: &OciDigest,
        artifact_type: Option<&str>,
        after: Option<&OciDigest>,
        limit: usize,
    ) -> Result<Vec<Referrer>, MetadataError> {
        if artifact_type.is_some_and(|wanted| wanted.contains('\0')) {
            // No text of PostgreSQL has one.
            return Ok(Vec::new());
        }
        let (name, subject, limit) = (image.name.as_str(), subject.to_string(), sql_limit(limit));
        let mut after = after.map_or_else(String::new, OciDigest::to_string);
        loop {
            let values: Values<'_> = &[&image.repo.0, &name, &subject, &after, &artifact_type, &limit];
            let rows = self.read(Operation::Referrers, REFERRERS, values).await?;
            let page = readable(&rows, self.pool.statements(), "manifests", referrer);
            match rows.last() {
                Some(last) if page.is_empty() => after = last.get(0),
                _ => return Ok(page),
            }
        }
    }

    async fn images(
        &self,
        repo: RepoId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ImageName>, MetadataError> {
        let mut after = registry_rows::after(after).to_owned();
        loop {
            let rows = self.read(Operation::Images, IMAGES, &[&repo.0, &after, &sql_limit(limit)]).await?;
            let page = readable(&rows, self.pool.statements(), "manifests", |row| column(row, 0));
            match rows.last() {
                Some(last) if page.is_empty() => after = last.get(0),
                _ => return Ok(page),
            }
        }
    }

    async fn expire_manifests(
        &self,
        repo: RepoId,
        age: Duration,
        limit: usize,
    ) -> Result<u64, MetadataError> {
        let age = seconds(age);
        self.in_parts(Operation::ExpireManifests, EXPIRE, &[&repo.0, &age], limit).await
    }

    async fn purge_local(&self, repo: RepoId, limit: usize) -> Result<u64, MetadataError> {
        let most = sql_limit(limit.min(super::PART));
        self.counted(Operation::PurgeLocal, PURGE, &[&repo.0, &most]).await
    }
}
