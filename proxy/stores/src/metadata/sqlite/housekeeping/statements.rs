//! The SQL of housekeeping. Time is the database's: milliseconds since 1970, taken where it is compared.

macro_rules! unnamed {
    () => {
        "NOT EXISTS (SELECT 1 FROM artifacts WHERE artifacts.digest = blobs.digest) \
         AND NOT EXISTS (SELECT 1 FROM derived WHERE derived.digest = blobs.digest) \
         AND NOT EXISTS (SELECT 1 FROM derived WHERE derived.gzip_digest = blobs.digest) \
         AND NOT EXISTS (SELECT 1 FROM links WHERE links.blob = blobs.digest)"
    };
}

/// Changes no row when the blob is being deleted.
pub(in super::super) const KEEP_BLOB: &str = concat!(
    "INSERT INTO blobs (digest, size, state, since) VALUES (?1, ?2, 'live', ",
    now!(),
    ") ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = 'live', since = excluded.since \
     WHERE blobs.state <> 'deleting'"
);
pub(super) const CONDEMNABLE: &str = concat!(
    "SELECT digest, size FROM blobs WHERE state = 'live' AND since <= ",
    now!(),
    " - ?1 AND ",
    unnamed!(),
    " ORDER BY since, digest LIMIT ?2"
);
pub(super) const CONDEMN: &str = concat!(
    "UPDATE blobs SET state = 'condemned', since = ",
    now!(),
    " WHERE digest = ?1 AND state = 'live' AND since <= ",
    now!(),
    " - ?2 AND ",
    unnamed!()
);
pub(super) const HALF_DELETED: &str =
    "SELECT digest, size FROM blobs WHERE state = 'deleting' ORDER BY since, digest LIMIT ?1";
pub(super) const CONDEMNED: &str = concat!(
    "SELECT digest, size FROM blobs WHERE state = 'condemned' AND since <= ",
    now!(),
    " - ?1 ORDER BY since, digest LIMIT ?2"
);
pub(super) const CLAIM: &str = concat!(
    "UPDATE blobs SET state = 'deleting', since = ",
    now!(),
    " WHERE digest = ?1 AND state = 'condemned' AND ",
    unnamed!()
);
pub(super) const CLAIM_UNNAMED: &str = concat!(
    "UPDATE blobs SET state = 'deleting', since = ",
    now!(),
    " WHERE digest = ?1 AND state <> 'deleting' AND ",
    unnamed!(),
    " RETURNING size"
);
pub(super) const DROP_BLOB: &str = "DELETE FROM blobs WHERE digest = ?1 AND state = 'deleting'";
pub(super) const TAKE_UP: &str = concat!(
    "INSERT INTO blobs (digest, size, state, since) VALUES (?1, ?2, ?3, ",
    now!(),
    ") ON CONFLICT (digest) DO NOTHING"
);
pub(super) const BLOB_STATES: &str =
    "SELECT state, COUNT(*), COALESCE(SUM(size), 0) FROM blobs GROUP BY state";
pub(super) const BLOBS_AFTER: &str =
    "SELECT digest, size FROM blobs WHERE digest > ?1 AND state <> 'deleting' ORDER BY digest LIMIT ?2";
pub(in super::super) const ADD_NOTICE: &str =
    concat!("INSERT INTO notices (at, notice) VALUES (", now!(), ", ?1)");
pub(in super::super) const EXPIRE_NOTICES: &str = concat!("DELETE FROM notices WHERE at < ", now!(), " - ?1");
pub(in super::super) const LAST_NOTICE: &str = "SELECT COALESCE(MAX(id), 0) FROM notices";
pub(in super::super) const NOTICES_AFTER: &str = "SELECT id, notice FROM notices WHERE id > ?1 ORDER BY id";
pub(super) const RECORDED: &str = "SELECT namespace, package_type, id, epoch, retired_at IS NOT NULL \
     FROM repositories WHERE name = ?1 ORDER BY id";
pub(super) const USAGE: &str =
    "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM artifacts WHERE repo = ?1 AND epoch = ?2";
pub(super) const EXPIRE_UNUSED: &str = "DELETE FROM artifacts WHERE repo = ?1 AND epoch = ?2 AND path IN \
     (SELECT path FROM artifacts WHERE repo = ?1 AND epoch = ?2 AND used_at < ?3 ORDER BY used_at, path LIMIT ?4) \
     RETURNING path";
pub(super) const LEAST_USED: &str = "SELECT path, digest, size, used_at FROM artifacts WHERE repo = ?1 AND epoch = ?2 \
     ORDER BY used_at, path LIMIT ?3";
pub(super) const EXPIRE_DERIVED: &str = "DELETE FROM derived WHERE inputs IN \
     (SELECT inputs FROM derived WHERE made_at < ?1 ORDER BY made_at LIMIT ?2)";
/// `?1` is a JSON array of ids.
pub(super) const UNRETIRE: &str = "UPDATE repositories SET retired_at = NULL WHERE retired_at IS NOT NULL \
     AND id IN (SELECT value FROM json_each(?1))";
pub(super) const RETIRE: &str = concat!(
    "UPDATE repositories SET retired_at = ",
    now!(),
    " WHERE retired_at IS NULL AND id NOT IN (SELECT value FROM json_each(?1))"
);
/// Of each repository the first epoch that is kept: none when it is retired for long.
pub(super) const FIRST_EPOCHS: &str = concat!(
    "SELECT id, CASE WHEN retired_at <= ",
    now!(),
    " - ?1 THEN 9223372036854775807 ELSE epoch END FROM repositories ORDER BY id"
);
pub(super) const EXPIRE_EPOCHS: &str = "DELETE FROM artifacts WHERE repo = ?1 AND (epoch, path) IN \
     (SELECT epoch, path FROM artifacts WHERE repo = ?1 AND epoch < ?2 LIMIT ?3)";

/// Range of paths in a repository and epoch: where the part after the next `?5` begins, and what is done.
pub(super) const NEXT_ARTIFACT: &str = "SELECT path FROM artifacts WHERE repo = ?1 AND epoch = ?2 AND path >= ?3 \
     AND path < ?4 ORDER BY path LIMIT 1 OFFSET ?5";
pub(super) const NEXT_PIN: &str = "SELECT path FROM ledger WHERE repo = ?1 AND epoch = ?2 AND path >= ?3 \
     AND path < ?4 ORDER BY path LIMIT 1 OFFSET ?5";
pub(super) const EVICT: &str =
    "DELETE FROM artifacts WHERE repo = ?1 AND epoch = ?2 AND path >= ?3 AND path < ?4";
pub(super) const REFRESH: &str =
    "UPDATE artifacts SET checked_at = 0 WHERE repo = ?1 AND epoch = ?2 AND path >= ?3 AND path < ?4";
pub(super) const UNPIN: &str =
    "DELETE FROM ledger WHERE repo = ?1 AND epoch = ?2 AND path >= ?3 AND path < ?4";
