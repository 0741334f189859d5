//! The SQL, in the intersection of SQLite and PostgreSQL; placeholders stand in order of first use.

pub(super) const REPOSITORY: &str =
    "SELECT id, epoch, base_url FROM repositories WHERE namespace = ?1 AND name = ?2 AND package_type = ?3";
pub(super) const ADD_REPOSITORY: &str = "INSERT INTO repositories (id, namespace, name, package_type, base_url, epoch) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const MOVE_REPOSITORY: &str = "UPDATE repositories SET epoch = ?2, base_url = ?3 WHERE id = ?1";
pub(super) const ADOPT_REPOSITORY: &str =
    "UPDATE repositories SET retired_at = NULL WHERE id = ?1 AND retired_at IS NOT NULL";
pub(super) const COUNT: &str = "INSERT INTO counters (name, value) VALUES (?1, ?2) \
     ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value";
pub(super) const ARTIFACT: &str = "SELECT digest, size, mutability, headers, source_url, verified, stored_at, \
     checked_at, fetch_seq FROM artifacts WHERE repo = ?1 AND epoch = ?2 AND path = ?3";
pub(super) const PUT_ARTIFACT: &str = "INSERT INTO artifacts (repo, epoch, path, digest, size, mutability, headers, \
     source_url, verified, stored_at, checked_at, used_at, fetch_seq) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12) \
     ON CONFLICT (repo, epoch, path) DO UPDATE SET digest = excluded.digest, size = excluded.size, \
     mutability = excluded.mutability, headers = excluded.headers, source_url = excluded.source_url, \
     verified = excluded.verified, stored_at = excluded.stored_at, checked_at = excluded.checked_at, \
     used_at = excluded.used_at, fetch_seq = excluded.fetch_seq \
     WHERE artifacts.fetch_seq <= excluded.fetch_seq";
pub(super) const CONFIRM: &str = "UPDATE artifacts SET fetch_seq = ?4, checked_at = ?5, headers = COALESCE(?6, headers) \
     WHERE repo = ?1 AND epoch = ?2 AND path = ?3 AND fetch_seq <= ?4 AND digest = ?7";
pub(super) const FORGET: &str =
    "DELETE FROM artifacts WHERE repo = ?1 AND epoch = ?2 AND path = ?3 AND digest = ?4";
pub(super) const PINNED: &str = "SELECT digest FROM ledger WHERE repo = ?1 AND epoch = ?2 AND path = ?3";
pub(super) const PIN: &str = "INSERT INTO ledger (repo, epoch, path, digest) VALUES (?1, ?2, ?3, ?4)";
pub(super) const UNPIN: &str = "DELETE FROM ledger WHERE repo = ?1 AND epoch = ?2 AND path = ?3";
pub(super) const BY_PREFIX: &str = "SELECT path FROM artifacts WHERE repo = ?1 AND epoch = ?2 AND path >= ?3 \
     AND path < ?4 ORDER BY stored_at DESC, path LIMIT ?5";
pub(super) const DERIVED: &str =
    "SELECT digest, size, gzip_digest, gzip_size, content_type FROM derived WHERE inputs = ?1";
pub(super) const PUT_DERIVED: &str = "INSERT INTO derived (inputs, digest, size, gzip_digest, gzip_size, content_type, \
     made_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (inputs) DO NOTHING";
pub(super) const TOUCH: &str =
    "UPDATE artifacts SET used_at = ?4 WHERE repo = ?1 AND epoch = ?2 AND path = ?3 AND used_at < ?4";
pub(super) const LOG_ACCESS: &str = "INSERT INTO access_log (at, repository, method, path, status, outcome, bytes, \
     duration_us, client) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
// `rowid` is SQLite's own; a server drops whole partitions instead.
pub(super) const EXPIRE_ACCESS: &str = "DELETE FROM access_log WHERE rowid IN \
     (SELECT rowid FROM access_log WHERE at < ?1 LIMIT ?2)";
pub(super) const ARTIFACTS_AFTER: &str = "SELECT repo, epoch, path, digest, size, mutability, headers, source_url, \
     verified, stored_at, checked_at, fetch_seq FROM artifacts WHERE (repo, epoch, path) > (?1, ?2, ?3) \
     ORDER BY repo, epoch, path LIMIT ?4";
pub(super) const REFERENCED: &str = "SELECT 1 FROM artifacts WHERE digest = ?1 UNION ALL \
     SELECT 1 FROM derived WHERE digest = ?1 UNION ALL SELECT 1 FROM derived WHERE gzip_digest = ?1 \
     UNION ALL SELECT 1 FROM links WHERE blob = ?1 LIMIT 1";
pub(super) const DERIVED_AFTER: &str = "SELECT inputs, digest, size, gzip_digest, gzip_size, content_type FROM derived \
     WHERE inputs > ?1 ORDER BY inputs LIMIT ?2";
pub(super) const FORGET_DERIVED: &str = "DELETE FROM derived WHERE inputs = ?1";
