-- What the collector knows of each blob. A blob that rows of version 1 name has no row here until it is announced
-- or committed again: references protect it all the same, and the sweep takes up what nothing names.
-- `since`: last announced while live, else the beginning of the state.
CREATE TABLE blobs (
    digest TEXT NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('live', 'condemned', 'deleting')),
    since BIGINT NOT NULL
);
CREATE INDEX blobs_by_state ON blobs (state, since);
-- The first time a repository was missing from the configuration.
ALTER TABLE repositories ADD COLUMN retired_at BIGINT;
CREATE INDEX artifacts_by_use ON artifacts (repo, epoch, used_at);
CREATE INDEX derived_by_age ON derived (made_at);
-- What the command line tells a process that has this file open; read by its `id`.
CREATE TABLE notices (id INTEGER PRIMARY KEY AUTOINCREMENT, at BIGINT NOT NULL, notice TEXT NOT NULL);
