//! Notices to whoever else has the file open: the command line changes rows while a proxy serves from memory. A
//! table that the proxy reads once a second is enough, and outlives whatever happens to either of them.

use std::time::Duration;

use artifactapi_model::{Notice, ports::MetadataError};

use super::{SqliteMetadata, housekeeping::statements as sql, session::Session};
use crate::metadata::operation::Operation;

/// How long a notice is kept. A proxy that has not looked for so long is told so.
const KEPT: Duration = Duration::from_secs(3600);

/// Notices that were posted, from a place on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// What was said.
    pub notices: Vec<Notice>,
    /// Whether others were said before and are forgotten.
    pub gap: bool,
    /// Where to go on.
    pub last: i64,
}

/// Tells others, and this process, that rows have changed.
pub(super) fn post(session: &Session<'_>, notice: &Notice) -> rusqlite::Result<()> {
    session.execute(sql::EXPIRE_NOTICES, [i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX)])?;
    session.execute(sql::ADD_NOTICE, [notice.encode()]).map(drop)
}

impl SqliteMetadata {
    /// What was posted after the place `after`; without a place, only where to begin.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn posted(&self, after: Option<i64>) -> Result<Posted, MetadataError> {
        let work = move |session: &Session<'_>| {
            let Some(after) = after else {
                let last = session.row(sql::LAST_NOTICE, [], |row| row.get(0))?;
                return Ok(Posted { last, ..Posted::default() });
            };
            let rows: Vec<(i64, String)> =
                session.rows(sql::NOTICES_AFTER, [after], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let gap = rows.first().is_some_and(|(id, _)| *id > after + 1);
            let last = rows.last().map_or(after, |(id, _)| *id);
            let notices = rows.iter().filter_map(|(_, text)| Notice::parse(text.as_bytes())).collect();
            Ok(Posted { notices, gap, last })
        };
        self.readers.run(Operation::Notices, work).await
    }
}
