-- Locals of type docker. Existence is per image: what names a blob is the link of an image.

-- Pushes under way. An ended one (cancelled or expired) waits for its bytes to be dropped; a closed one is kept for
-- a while, so that who did not hear the answer can ask again.
CREATE TABLE uploads (
    id TEXT NOT NULL PRIMARY KEY,
    repo BIGINT NOT NULL,
    image TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'ended')),
    received BIGINT NOT NULL DEFAULT 0,
    hashes TEXT NOT NULL DEFAULT '',
    stored TEXT NOT NULL DEFAULT '',
    -- Who has claimed it, until when, and whether the one before did not give it back. `left_by` gave it back last.
    writer TEXT,
    writer_until BIGINT,
    taken_over BIGINT NOT NULL DEFAULT 0,
    left_by TEXT,
    -- What a closed one became.
    digest TEXT,
    touched_at BIGINT NOT NULL
);
CREATE INDEX uploads_by_repo ON uploads (repo, state);
CREATE INDEX uploads_by_age ON uploads (state, touched_at, id);
-- Bytes of the blobs that the images of a Local have, each blob counted once.
CREATE TABLE local_usage (repo BIGINT NOT NULL PRIMARY KEY, bytes BIGINT NOT NULL);
-- Which image has which blob. `digest` is the client's name for it, with its algorithm; `blob` is its key. `loose`:
-- perhaps no manifest of the image names it; it is looked up where it counts.
CREATE TABLE links (
    repo BIGINT NOT NULL,
    image TEXT NOT NULL,
    digest TEXT NOT NULL,
    blob TEXT NOT NULL,
    size BIGINT NOT NULL,
    loose BIGINT NOT NULL,
    touched_at BIGINT NOT NULL,
    PRIMARY KEY (repo, image, digest)
);
CREATE INDEX links_by_blob ON links (blob, repo);
CREATE INDEX links_by_digest ON links (digest, repo);
CREATE INDEX links_by_age ON links (touched_at) WHERE loose = 1;
-- Blobs whose bytes are not in their own place, and places no blob has any more, whose bytes are to be removed.
CREATE TABLE blob_places (digest TEXT NOT NULL PRIMARY KEY, place TEXT NOT NULL);
CREATE INDEX blob_places_by_place ON blob_places (place);
CREATE TABLE retired_places (place TEXT NOT NULL PRIMARY KEY, retired_at BIGINT NOT NULL);
CREATE INDEX retired_places_by_age ON retired_places (retired_at, place);
-- `annotations` is a JSON object. `unheld_since`: since when neither a tag nor an index holds what was held before.
CREATE TABLE manifests (
    repo BIGINT NOT NULL,
    image TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    body BLOB NOT NULL,
    size BIGINT NOT NULL,
    artifact_type TEXT,
    annotations TEXT NOT NULL,
    subject TEXT,
    unheld_since BIGINT,
    PRIMARY KEY (repo, image, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repo, image, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX manifests_unheld ON manifests (repo, unheld_since) WHERE unheld_since IS NOT NULL;
CREATE TABLE manifest_blobs (
    repo BIGINT NOT NULL,
    image TEXT NOT NULL,
    manifest TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (repo, image, manifest, digest)
);
CREATE INDEX manifest_blobs_by_digest ON manifest_blobs (repo, image, digest);
CREATE TABLE manifest_children (
    repo BIGINT NOT NULL,
    image TEXT NOT NULL,
    manifest TEXT NOT NULL,
    child TEXT NOT NULL,
    PRIMARY KEY (repo, image, manifest, child)
);
CREATE INDEX manifest_children_by_child ON manifest_children (repo, image, child);
CREATE TABLE tags (
    repo BIGINT NOT NULL,
    image TEXT NOT NULL,
    tag TEXT NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (repo, image, tag)
);
CREATE INDEX tags_by_manifest ON tags (repo, image, manifest, tag);
-- Whoever takes a place from a blob leaves it to be removed.
CREATE TRIGGER blobs_forget_place AFTER DELETE ON blobs BEGIN
    DELETE FROM blob_places WHERE digest = OLD.digest;
END;
CREATE TRIGGER blob_places_retire AFTER DELETE ON blob_places BEGIN
    INSERT INTO retired_places (place, retired_at)
        VALUES (OLD.place, CAST(unixepoch('subsec') * 1000 AS INTEGER))
        ON CONFLICT (place) DO UPDATE SET retired_at = excluded.retired_at;
END;
CREATE TRIGGER blob_places_replace AFTER UPDATE ON blob_places WHEN OLD.place <> NEW.place BEGIN
    INSERT INTO retired_places (place, retired_at)
        VALUES (OLD.place, CAST(unixepoch('subsec') * 1000 AS INTEGER))
        ON CONFLICT (place) DO UPDATE SET retired_at = excluded.retired_at;
END;
