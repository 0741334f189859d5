//! The SQL. What writes in several steps is a function of the schema, so that it is one round trip.

pub(super) const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT";
pub(super) const PING: &str = "SELECT 1";
pub(super) const ENSURE_REPOSITORY: &str = "SELECT out_id, out_epoch FROM ensure_repository($1, $2, $3, $4)";
pub(super) const NEXT_FETCH_SEQ: &str = "SELECT nextval('fetch_seq')";
pub(super) const BEGIN_FETCH: &str = "SELECT nextval('fetch_seq'), l.digest, a.digest, a.size, a.mutability, \
     a.headers, a.source_url, a.verified, a.stored_at, a.checked_at, a.fetch_seq FROM (SELECT 1) AS one \
     LEFT JOIN artifacts a ON a.repo = $1 AND a.epoch = $2 AND a.path = $3 \
     LEFT JOIN ledger l ON l.repo = $1 AND l.epoch = $2 AND l.path = $3";
pub(super) const ANNOUNCE_BLOB: &str = "SELECT announce_blob($1, $2)";
pub(super) const ARTIFACT: &str = "SELECT digest, size, mutability, headers, source_url, verified, stored_at, \
     checked_at, fetch_seq FROM artifacts WHERE repo = $1 AND epoch = $2 AND path = $3";
pub(super) const COMMIT_ARTIFACT: &str =
    "SELECT commit_artifact($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
pub(super) const CONFIRM: &str = "UPDATE artifacts SET fetch_seq = $4, checked_at = $5, \
     headers = COALESCE($6, headers) \
     WHERE repo = $1 AND epoch = $2 AND path = $3 AND fetch_seq <= $4 AND digest = $7 RETURNING 1";
pub(super) const FORGET: &str =
    "DELETE FROM artifacts WHERE repo = $1 AND epoch = $2 AND path = $3 AND digest = $4";
pub(super) const PINNED: &str = "SELECT digest FROM ledger WHERE repo = $1 AND epoch = $2 AND path = $3";
pub(super) const UNPIN: &str = "DELETE FROM ledger WHERE repo = $1 AND epoch = $2 AND path = $3";
pub(super) const BY_PREFIX: &str = "SELECT COALESCE(long_path, path) FROM artifacts \
     WHERE repo = $1 AND epoch = $2 AND path >= $3 AND path < $4 AND starts_with(COALESCE(long_path, path), $5) \
     ORDER BY stored_at DESC, path LIMIT $6";
/// The same where no text follows all that begin with the prefix.
pub(super) const BY_OPEN_PREFIX: &str = "SELECT COALESCE(long_path, path) FROM artifacts \
     WHERE repo = $1 AND epoch = $2 AND path >= $3 AND starts_with(COALESCE(long_path, path), $4) \
     ORDER BY stored_at DESC, path LIMIT $5";
pub(super) const DERIVED: &str =
    "SELECT digest, size, gzip_digest, gzip_size, content_type FROM derived WHERE inputs = $1";
pub(super) const PUT_DERIVED: &str = "SELECT put_derived($1, $2, $3, $4, $5, $6, $7)";
/// Rows that another replica is writing are skipped: their use is noted by that, and nobody waits for anybody.
pub(super) const TOUCH: &str = "WITH uses AS (SELECT repo, epoch, path, MAX(at) AS at \
     FROM unnest($1::BIGINT[], $2::BIGINT[], $3::TEXT[], $4::BIGINT[]) AS u (repo, epoch, path, at) \
     GROUP BY repo, epoch, path), \
     free AS (SELECT a.repo, a.epoch, a.path FROM artifacts a JOIN uses u ON a.repo = u.repo \
     AND a.epoch = u.epoch AND a.path = u.path WHERE a.used_at < u.at FOR NO KEY UPDATE OF a SKIP LOCKED) \
     UPDATE artifacts a SET used_at = u.at FROM uses u, free f WHERE a.repo = u.repo AND a.epoch = u.epoch \
     AND a.path = u.path AND a.repo = f.repo AND a.epoch = f.epoch AND a.path = f.path AND a.used_at < u.at";
pub(super) const ARTIFACTS_AFTER: &str = "SELECT repo, epoch, COALESCE(long_path, path), digest, size, \
     mutability, headers, source_url, verified, stored_at, checked_at, fetch_seq, path FROM artifacts \
     WHERE (repo, epoch, path) > ($1, $2, $3) ORDER BY repo, epoch, path LIMIT $4";
pub(super) const REFERENCED: &str = "SELECT asked.digest FROM unnest($1::TEXT[]) WITH ORDINALITY \
     AS asked (digest, place) WHERE EXISTS (SELECT 1 FROM artifacts a WHERE a.digest = asked.digest) \
     OR EXISTS (SELECT 1 FROM derived d WHERE d.digest = asked.digest) \
     OR EXISTS (SELECT 1 FROM derived d WHERE d.gzip_digest = asked.digest) \
     OR EXISTS (SELECT 1 FROM links l WHERE l.blob = asked.digest) ORDER BY asked.place";
pub(super) const DERIVED_AFTER: &str = "SELECT inputs, digest, size, gzip_digest, gzip_size, content_type \
     FROM derived WHERE inputs > $1 ORDER BY inputs LIMIT $2";
pub(super) const FORGET_DERIVED: &str = "DELETE FROM derived WHERE inputs = $1";
pub(super) const SCHEMA: &str = "SELECT to_regclass('refinery_schema_history') IS NOT NULL, \
     to_regclass('schema_support') IS NOT NULL";
pub(super) const SCHEMA_VERSION: &str =
    "SELECT COALESCE(MAX(version), 0)::BIGINT FROM refinery_schema_history";
pub(super) const SCHEMA_OLDEST: &str = "SELECT COALESCE(MAX(oldest), 0) FROM schema_support";
