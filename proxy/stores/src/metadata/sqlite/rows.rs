//! Columns ↔ the model's rows.

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Mutability, RepoId, Timestamp,
    ports::metadata::{AccessRecord, ArtifactRow, DerivedRow},
};
use rusqlite::{Params, Row, types::Type};

pub(super) fn mutability_text(mutability: Mutability) -> &'static str {
    match mutability {
        Mutability::Immutable => "immutable",
        Mutability::Mutable => "mutable",
    }
}

pub(super) fn headers_text(headers: &[(String, String)]) -> String {
    // Pairs of strings always serialise.
    serde_json::to_string(headers).unwrap_or_default()
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, String>(column)?.parse().map_err(|error| unreadable(column, error))
}

/// An artifact whose columns begin at `at`.
pub(super) fn artifact(row: &Row<'_>, at: usize) -> rusqlite::Result<ArtifactRow> {
    let headers: Vec<(String, String)> =
        serde_json::from_str(&row.get::<_, String>(at + 3)?).map_err(|error| unreadable(at + 3, error))?;
    Ok(ArtifactRow {
        digest: digest(row, at)?,
        size: row.get::<_, i64>(at + 1)?.cast_unsigned(),
        mutability: match row.get::<_, String>(at + 2)?.as_str() {
            "immutable" => Mutability::Immutable,
            _ => Mutability::Mutable,
        },
        headers: headers.into(),
        source_url: row.get(at + 4)?,
        verified: row.get(at + 5)?,
        stored_at: Timestamp(row.get(at + 6)?),
        checked_at: Timestamp(row.get(at + 7)?),
        fetch_seq: row.get(at + 8)?,
    })
}

pub(super) fn artifact_with_key(row: &Row<'_>) -> rusqlite::Result<(ArtifactKey, ArtifactRow)> {
    let path: String = row.get(2)?;
    let key = ArtifactKey { repo: RepoId(row.get(0)?), epoch: Epoch(row.get(1)?), path: path.into() };
    Ok((key, artifact(row, 3)?))
}

/// A derived document whose columns begin at `at`.
pub(super) fn derived(row: &Row<'_>, at: usize) -> rusqlite::Result<DerivedRow> {
    let gzip = match row.get::<_, Option<i64>>(at + 3)? {
        Some(size) => Some((digest(row, at + 2)?, size.cast_unsigned())),
        None => None,
    };
    Ok(DerivedRow {
        digest: digest(row, at)?,
        size: row.get::<_, i64>(at + 1)?.cast_unsigned(),
        gzip,
        content_type: row.get(at + 4)?,
    })
}

/// The values of an access record, in the columns' order.
pub(super) fn access(record: &AccessRecord) -> impl Params + '_ {
    (
        record.at.0,
        &record.repository,
        &record.method,
        &record.path,
        record.status,
        &record.outcome,
        record.bytes.cast_signed(),
        record.duration_us.cast_signed(),
        &record.client,
    )
}
