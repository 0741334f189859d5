//! Columns ↔ the model's rows. A row that makes no sense counts as absent (RS-88): logged once, counted always.

use std::{borrow::Cow, fmt::Display};

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Mutability, RepoId, Timestamp,
    ports::metadata::{ArtifactRow, DerivedRow},
};
use deadpool_postgres::tokio_postgres::Row;

use super::super::operation::SqlStatements;

/// Longest path that is indexed as it is; an index row has room for about 2,700 bytes.
const MAX_INDEXED: usize = 2_000;

/// What makes no sense.
pub(super) type Nonsense = String;

fn nonsense(error: impl Display) -> Nonsense {
    error.to_string()
}

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

/// The columns `path` and `long_path` of a path. What stands for a long path is longer than any short one, so
/// that the two never meet.
pub(super) fn columns_of(path: &str) -> (Cow<'_, str>, Option<&str>) {
    if path.len() <= MAX_INDEXED {
        return (Cow::Borrowed(path), None);
    }
    let beginning = &path[..path.floor_char_boundary(MAX_INDEXED)];
    (Cow::Owned(format!("{beginning}#{}", Digest::of(path.as_bytes()).to_hex())), Some(path))
}

/// The beginning of a prefix that the column `path` can be searched for.
pub(super) fn indexed_prefix(prefix: &str) -> &str {
    // Every long path's column agrees with it up to the last character that begins before the limit.
    &prefix[..prefix.floor_char_boundary(MAX_INDEXED - 3)]
}

/// The rows that make sense.
pub(super) fn readable<T>(
    rows: &[Row],
    statements: &SqlStatements,
    table: &str,
    read: impl Fn(&Row) -> Result<T, Nonsense>,
) -> Vec<T> {
    rows.iter().filter_map(|row| kept(read(row), statements, table)).collect()
}

/// What was read, if it makes sense.
pub(super) fn kept<T>(read: Result<T, Nonsense>, statements: &SqlStatements, table: &str) -> Option<T> {
    statements.sensible(read, table)
}

pub(super) fn column<'a, T: deadpool_postgres::tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T, Nonsense> {
    row.try_get(at).map_err(nonsense)
}

pub(super) fn digest(row: &Row, at: usize) -> Result<Digest, Nonsense> {
    let text: &str = column(row, at)?;
    text.parse().map_err(|_| format!("{text:?} is no digest"))
}

/// An artifact whose columns begin at `at`.
pub(super) fn artifact(row: &Row, at: usize) -> Result<ArtifactRow, Nonsense> {
    let headers: Vec<(String, String)> = serde_json::from_str(column(row, at + 3)?).map_err(nonsense)?;
    Ok(ArtifactRow {
        digest: digest(row, at)?,
        size: column::<i64>(row, at + 1)?.cast_unsigned(),
        mutability: match column(row, at + 2)? {
            "immutable" => Mutability::Immutable,
            "mutable" => Mutability::Mutable,
            other => return Err(format!("{other:?} is no mutability")),
        },
        headers: headers.into(),
        source_url: column(row, at + 4)?,
        verified: column(row, at + 5)?,
        stored_at: Timestamp(column(row, at + 6)?),
        checked_at: Timestamp(column(row, at + 7)?),
        fetch_seq: column(row, at + 8)?,
    })
}

/// A key whose columns (repo, epoch, whole path) begin at `at`.
pub(super) fn key(row: &Row, at: usize) -> Result<ArtifactKey, Nonsense> {
    let path: String = column(row, at + 2)?;
    Ok(ArtifactKey { repo: RepoId(column(row, at)?), epoch: Epoch(column(row, at + 1)?), path: path.into() })
}

/// A derived document whose columns begin at `at`.
pub(super) fn derived(row: &Row, at: usize) -> Result<DerivedRow, Nonsense> {
    let gzip = match column::<Option<i64>>(row, at + 3)? {
        Some(size) => Some((digest(row, at + 2)?, size.cast_unsigned())),
        None => None,
    };
    Ok(DerivedRow {
        digest: digest(row, at)?,
        size: column::<i64>(row, at + 1)?.cast_unsigned(),
        gzip,
        content_type: column(row, at + 4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_have_columns_of_their_own() {
        let short = "ä".repeat(MAX_INDEXED / 2);
        assert_eq!(columns_of(&short), (Cow::Borrowed(short.as_str()), None));
        let mut seen = std::collections::BTreeSet::new();
        for path in
            [format!("{short}a"), format!("{short}b"), format!("a{short}"), short + &"x".repeat(6_000)]
        {
            let (column, long) = columns_of(&path);
            assert!(
                column.len() > MAX_INDEXED && column.len() < 2_500,
                "longer than a short one, but not long"
            );
            assert_eq!(long, Some(path.as_str()));
            assert!(column.starts_with(indexed_prefix(&path)));
            assert!(seen.insert(column.into_owned()));
        }
    }
}
