//! Rows of Locals of type docker. There is one writer, so that what one job looks at stays until it has written.

mod links;
mod manifests;
mod places;
mod uploads;

use artifactapi_model::{Digest, oci::OciDigest, ports::registry::ImageKey};
use rusqlite::{Row, types::Type};

use super::super::registry_rows;

/// Rows deleted in one job, so that others who write wait for none of them long.
const PART: usize = 200;

/// What identifies an image in a statement.
fn key(image: &ImageKey) -> (i64, &str) {
    (image.repo.0, image.name.as_str())
}

fn nonsense(column: usize, reason: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, reason.into())
}

/// A column of text that has to make sense.
fn column<T: std::str::FromStr>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    T::Err: std::fmt::Display,
{
    registry_rows::parsed(&row.get::<_, String>(at)?).map_err(|reason| nonsense(at, reason))
}

/// A blob and its size, from `at` on.
fn blob(row: &Row<'_>, at: usize) -> rusqlite::Result<(Digest, u64)> {
    Ok((super::rows::digest(row, at)?, row.get::<_, i64>(at + 1)?.cast_unsigned()))
}

/// Digests as a JSON array, for `json_each`.
fn json(digests: &[OciDigest]) -> String {
    serde_json::json!(digests.iter().map(OciDigest::to_string).collect::<Vec<_>>()).to_string()
}

/// Goes on over pages in which no row makes sense: an empty one would end a walk.
fn walk<T>(
    mut after: String,
    mut page: impl FnMut(&str) -> rusqlite::Result<Vec<(String, Option<T>)>>,
) -> rusqlite::Result<Vec<T>> {
    loop {
        let mut rows = page(&after)?;
        let last = rows.last_mut().map(|(key, _)| std::mem::take(key));
        let found: Vec<T> = rows.into_iter().filter_map(|(_, row)| row).collect();
        match last {
            Some(last) if found.is_empty() => after = last,
            _ => return Ok(found),
        }
    }
}
