//! What changes manifests and tags, on behalf of the writer.

use std::time::Duration;

use artifactapi_model::{
    oci::{OciDigest, Tag},
    ports::registry::{Deleted, ImageKey, NewManifest, Put},
};

use super::{
    super::{
        super::{super::registry_rows, housekeeping::millis, session::Session, sql_limit},
        column, json, key,
        links::drop_link,
    },
    statements as sql,
};

/// These lost something that held them.
fn let_go(session: &Session<'_>, (repo, name): (i64, &str), digests: &[String]) -> rusqlite::Result<()> {
    let digests = serde_json::json!(digests).to_string();
    session.execute(sql::LET_GO, (repo, name, digests)).map(drop)
}

/// Why a manifest cannot be stored.
fn obstacle(session: &Session<'_>, image: &ImageKey, new: &NewManifest) -> rusqlite::Result<Option<Put>> {
    let (repo, name) = key(image);
    let first = |statement, digests: &[OciDigest]| {
        session.find(statement, (repo, name, json(digests)), |row| column(row, 0))
    };
    if let Some(missing) = first(sql::MISSING_BLOB, &new.blobs)? {
        return Ok(Some(Put::MissingBlob(missing)));
    }
    if let Some(missing) = first(sql::MISSING_MANIFEST, &new.children)? {
        return Ok(Some(Put::MissingManifest(missing)));
    }
    let digest = new.manifest.digest.to_string();
    for new in new.tags.iter().filter(|new| new.immutable) {
        let to: Option<String> =
            session.find(sql::TAGGED, (repo, name, new.tag.as_str()), |row| row.get(0))?;
        if to.is_some_and(|to| to != digest) {
            return Ok(Some(Put::Immutable(new.tag.clone())));
        }
    }
    Ok(None)
}

pub(super) fn put(session: &Session<'_>, image: &ImageKey, new: &NewManifest) -> rusqlite::Result<Put> {
    if let Some(obstacle) = obstacle(session, image, new)? {
        return Ok(obstacle);
    }
    let NewManifest { manifest, artifact_type, annotations, subject, blobs, children, tags } = new;
    let ((repo, name), digest) = (key(image), manifest.digest.to_string());
    let (blobs, children) = (json(blobs), json(children));
    session.execute(sql::TIE, (repo, name, &blobs))?;
    let is_new = session.find(sql::IS_THERE, (repo, name, &digest), |_| Ok(()))?.is_none();
    let values = (
        repo,
        name,
        &digest,
        &manifest.media_type,
        &manifest.body[..],
        registry_rows::number(manifest.body.len() as u64),
        artifact_type,
        registry_rows::annotations_text(annotations),
        subject.as_ref().map(OciDigest::to_string),
    );
    session.execute(sql::PUT, values)?;
    session.execute(sql::PUT_BLOBS, (repo, name, &digest, &blobs))?;
    session.execute(sql::PUT_CHILDREN, (repo, name, &digest, &children))?;
    let mut left_behind = Vec::new();
    for new in tags {
        let tag = new.tag.as_str();
        left_behind.extend(session.find(sql::TAGGED, (repo, name, tag), |row| row.get(0))?);
        session.execute(sql::PUT_TAG, (repo, name, tag, &digest))?;
    }
    session.execute(sql::KEEP_CHILDREN, (repo, name, &children))?;
    session.execute(sql::KEEP_ANEW, (repo, name, &digest))?;
    if is_new {
        // What refers to it does so again.
        session.execute(sql::KEEP_REFERRERS, (repo, name, &digest))?;
    }
    left_behind.retain(|old| *old != digest);
    let_go(session, (repo, name), &left_behind)?;
    Ok(Put::Stored)
}

/// Keeps a manifest that was let go as if that were now; whether it is there still.
pub(super) fn renew(session: &Session<'_>, image: &ImageKey, digest: &OciDigest) -> rusqlite::Result<bool> {
    let ((repo, name), digest) = (key(image), digest.to_string());
    let renewed = session.execute(sql::RENEW, (repo, name, &digest))?;
    // If it was not, it may be held by now.
    Ok(renewed > 0 || session.find(sql::IS_THERE, (repo, name, &digest), |_| Ok(()))?.is_some())
}

/// Takes a manifest with all its tags and references.
fn drop_manifest(session: &Session<'_>, (repo, name): (i64, &str), digest: &str) -> rusqlite::Result<()> {
    session.execute(sql::LOOSEN, (repo, name, digest))?;
    let dependants = session.rows(sql::DEPENDANTS, (repo, name, digest), |row| row.get(0))?;
    for statement in sql::DROP {
        session.execute(statement, (repo, name, digest))?;
    }
    let_go(session, (repo, name), &dependants)
}

pub(super) fn delete_tag(session: &Session<'_>, image: &ImageKey, tag: &Tag) -> rusqlite::Result<Deleted> {
    let ((repo, name), tag) = (key(image), tag.as_str());
    let Some(to) = session.find(sql::TAGGED, (repo, name, tag), |row| row.get(0))? else {
        return Ok(Deleted::Unknown);
    };
    session.execute(sql::DELETE_TAG, (repo, name, tag))?;
    let_go(session, (repo, name), &[to])?;
    Ok(Deleted::Done)
}

pub(super) fn delete(
    session: &Session<'_>,
    image: &ImageKey,
    digest: &OciDigest,
    tags: &[Tag],
) -> rusqlite::Result<Deleted> {
    let ((repo, name), digest) = (key(image), digest.to_string());
    if session.find(sql::IS_THERE, (repo, name, &digest), |_| Ok(()))?.is_none() {
        return Ok(Deleted::Unknown);
    }
    let there = session.page(("tags", sql::TAGS_OF), (repo, name, &digest), |row| column::<Tag>(row, 0))?;
    let other = there.into_iter().filter_map(|(_, tag)| tag).find(|tag| !tags.contains(tag));
    if let Some(other) = other {
        return Ok(Deleted::Tagged(other));
    }
    drop_manifest(session, (repo, name), &digest)?;
    Ok(Deleted::Done)
}

/// Drops the manifests that a statement finds; how many.
fn drop_found(session: &Session<'_>, repo: i64, found: Vec<(String, String)>) -> rusqlite::Result<usize> {
    let count = found.len();
    for (name, digest) in found {
        drop_manifest(session, (repo, &name), &digest)?;
    }
    Ok(count)
}

pub(super) fn expire(
    session: &Session<'_>,
    repo: i64,
    age: Duration,
    limit: usize,
) -> rusqlite::Result<usize> {
    let values = (repo, millis(age), sql_limit(limit));
    let found = session.rows(sql::UNHELD, values, |row| row.try_into())?;
    drop_found(session, repo, found)
}

/// Takes rows of a Local, of one kind at a time; how many.
pub(super) fn purge(session: &Session<'_>, repo: i64, limit: usize) -> rusqlite::Result<usize> {
    let values = (repo, sql_limit(limit));
    for statement in [sql::END_SESSIONS, sql::PURGE_TAGS] {
        let gone = session.execute(statement, values)?;
        if gone > 0 {
            return Ok(gone);
        }
    }
    let found = session.rows(sql::SOME_MANIFESTS, values, |row| row.try_into())?;
    let gone = drop_found(session, repo, found)?;
    if gone > 0 {
        return Ok(gone);
    }
    let found: Vec<(String, String)> = session.rows(sql::SOME_LINKS, values, |row| row.try_into())?;
    for (name, digest) in &found {
        drop_link(session, repo, name, digest)?;
    }
    if found.is_empty() {
        session.execute(sql::FORGET_USAGE, [repo])?;
    }
    Ok(found.len())
}
