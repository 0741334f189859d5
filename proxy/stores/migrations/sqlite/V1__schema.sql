-- Times are milliseconds since 1970 in BIGINT; digests are 64 hex digits; headers are a JSON array of pairs.
CREATE TABLE repositories (
    id BIGINT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    package_type TEXT NOT NULL,
    base_url TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (namespace, name, package_type)
);
CREATE TABLE artifacts (
    repo BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    mutability TEXT NOT NULL,
    headers TEXT NOT NULL,
    source_url TEXT NOT NULL,
    verified BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    fetch_seq BIGINT NOT NULL,
    PRIMARY KEY (repo, epoch, path)
);
CREATE INDEX artifacts_by_digest ON artifacts (digest);
-- The digest first seen for an immutable key; it survives eviction.
CREATE TABLE ledger (
    repo BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (repo, epoch, path)
);
CREATE TABLE derived (
    inputs TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    gzip_digest TEXT,
    gzip_size BIGINT,
    content_type TEXT NOT NULL,
    made_at BIGINT NOT NULL
);
CREATE INDEX derived_by_digest ON derived (digest);
CREATE INDEX derived_by_gzip ON derived (gzip_digest);
CREATE TABLE secrets (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE access_log (
    at BIGINT NOT NULL,
    repository TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    client TEXT NOT NULL
);
CREATE INDEX access_log_by_time ON access_log (at);
