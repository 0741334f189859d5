-- Locals of type docker. Existence is per image: what names a blob is the link of an image.
--
-- Locks are taken in one order: upload, usage, blob, image, link, manifest, tag. Whatever changes the manifests or
-- tags of an image holds the image's lock, so that what holds what is seen whole.

-- Pushes under way. An ended one (cancelled or expired) waits for its bytes to be dropped; a closed one is kept for
-- a while, so that who did not hear the answer can ask again.
CREATE TABLE uploads (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    repo BIGINT NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'ended')),
    received BIGINT NOT NULL DEFAULT 0,
    hashes TEXT NOT NULL DEFAULT '',
    stored TEXT NOT NULL DEFAULT '',
    -- Who has claimed it, until when, and whether the one before did not give it back. `left_by` gave it back last.
    writer TEXT COLLATE "C",
    writer_until TIMESTAMPTZ,
    taken_over BOOLEAN NOT NULL DEFAULT FALSE,
    left_by TEXT COLLATE "C",
    -- What a closed one became.
    digest TEXT COLLATE "C",
    touched_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX uploads_by_repo ON uploads (repo, state);
CREATE INDEX uploads_by_age ON uploads (state, touched_at, id);

-- Bytes of the blobs that the images of a Local have, each blob counted once.
CREATE TABLE local_usage (
    repo BIGINT NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL DEFAULT 0
);

-- Which image has which blob. `digest` is the client's name for it, with its algorithm; `blob` is its key. `loose`:
-- perhaps no manifest of the image names it; it is looked up where it counts.
CREATE TABLE links (
    repo BIGINT NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    blob TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL,
    loose BOOLEAN NOT NULL DEFAULT TRUE,
    touched_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (repo, image, digest)
);
CREATE INDEX links_by_blob ON links (blob, repo);
CREATE INDEX links_by_digest ON links (digest, repo);
CREATE INDEX links_by_age ON links (touched_at) WHERE loose;

-- Blobs whose bytes are not in their own place, and places no blob has any more, whose bytes are to be removed.
CREATE TABLE blob_places (
    digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    place TEXT COLLATE "C" NOT NULL
);
CREATE INDEX blob_places_by_place ON blob_places (place);
CREATE TABLE retired_places (
    place TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    retired_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX retired_places_by_age ON retired_places (retired_at, place);

-- `annotations` is a JSON object. `unheld_since`: since when neither a tag nor an index holds what was held before.
CREATE TABLE manifests (
    repo BIGINT NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    media_type TEXT NOT NULL,
    body BYTEA NOT NULL,
    size BIGINT NOT NULL,
    artifact_type TEXT COLLATE "C",
    annotations TEXT NOT NULL,
    subject TEXT COLLATE "C",
    unheld_since TIMESTAMPTZ,
    PRIMARY KEY (repo, image, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repo, image, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX manifests_unheld ON manifests (repo, unheld_since) WHERE unheld_since IS NOT NULL;
CREATE TABLE manifest_blobs (
    repo BIGINT NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    manifest TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (repo, image, manifest, digest)
);
CREATE INDEX manifest_blobs_by_digest ON manifest_blobs (repo, image, digest);
CREATE TABLE manifest_children (
    repo BIGINT NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    manifest TEXT COLLATE "C" NOT NULL,
    child TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (repo, image, manifest, child)
);
CREATE INDEX manifest_children_by_child ON manifest_children (repo, image, child);
CREATE TABLE tags (
    repo BIGINT NOT NULL,
    image TEXT COLLATE "C" NOT NULL,
    tag TEXT COLLATE "C" NOT NULL,
    manifest TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (repo, image, tag)
);
CREATE INDEX tags_by_manifest ON tags (repo, image, manifest, tag);

-- A link is a name too.
CREATE OR REPLACE FUNCTION blob_is_named(in_digest TEXT) RETURNS BOOLEAN STABLE LANGUAGE sql AS $$
    SELECT EXISTS (SELECT 1 FROM artifacts WHERE artifacts.digest = in_digest)
        OR EXISTS (SELECT 1 FROM derived WHERE derived.digest = in_digest)
        OR EXISTS (SELECT 1 FROM derived WHERE derived.gzip_digest = in_digest)
        OR EXISTS (SELECT 1 FROM links WHERE links.blob = in_digest)
$$;

-- Whoever takes a place from a blob, the release before this one included, leaves it to be removed.
CREATE FUNCTION forget_blob_place() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM blob_places WHERE digest = OLD.digest;
    RETURN NULL;
END $$;
CREATE TRIGGER blobs_forget_place AFTER DELETE ON blobs FOR EACH ROW EXECUTE FUNCTION forget_blob_place();
CREATE FUNCTION retire_place() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO retired_places (place) VALUES (OLD.place)
        ON CONFLICT (place) DO UPDATE SET retired_at = excluded.retired_at;
    RETURN NULL;
END $$;
CREATE TRIGGER blob_places_retire AFTER DELETE ON blob_places FOR EACH ROW EXECUTE FUNCTION retire_place();
CREATE TRIGGER blob_places_replace AFTER UPDATE ON blob_places FOR EACH ROW
    WHEN (OLD.place <> NEW.place) EXECUTE FUNCTION retire_place();

-- Locks the usage of a Local: nobody else adds or takes a link there. The bytes so far.
CREATE FUNCTION lock_usage(in_repo BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    used BIGINT;
BEGIN
    LOOP
        SELECT bytes INTO used FROM local_usage WHERE repo = in_repo FOR UPDATE;
        EXIT WHEN FOUND;
        INSERT INTO local_usage (repo) VALUES (in_repo) ON CONFLICT (repo) DO NOTHING;
    END LOOP;
    RETURN used;
END $$;

-- Opens a session: 'started', 'too many', 'over quota', or 'taken' (the id is somebody else's).
CREATE FUNCTION begin_upload(
    in_repo BIGINT, in_image TEXT, in_id TEXT, in_sessions BIGINT, in_quota BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    used BIGINT := lock_usage(in_repo);
    found_row uploads;
    sessions BIGINT;
    received_bytes BIGINT;
BEGIN
    SELECT * INTO found_row FROM uploads WHERE id = in_id;
    IF FOUND THEN
        -- Asked a second time, since nobody knew what became of the first.
        RETURN CASE WHEN found_row.repo = in_repo AND found_row.image = in_image AND found_row.state = 'open'
            THEN 'started' ELSE 'taken' END;
    END IF;
    SELECT COUNT(*), COALESCE(SUM(received), 0) INTO sessions, received_bytes FROM uploads
        WHERE repo = in_repo AND state = 'open';
    IF sessions >= in_sessions THEN
        RETURN 'too many';
    ELSIF used + received_bytes >= in_quota THEN
        RETURN 'over quota';
    END IF;
    INSERT INTO uploads (id, repo, image) VALUES (in_id, in_repo, in_image) ON CONFLICT (id) DO NOTHING;
    RETURN CASE WHEN FOUND THEN 'started' ELSE 'taken' END;
END $$;

-- Takes a session for one writer: 'taken', 'busy', 'closed' or 'unknown'.
CREATE FUNCTION claim_upload(
    in_repo BIGINT, in_image TEXT, in_id TEXT, in_writer TEXT, in_lease DOUBLE PRECISION,
    OUT out_answer TEXT, OUT out_received BIGINT, OUT out_hashes TEXT, OUT out_stored TEXT,
    OUT out_took_over BOOLEAN, OUT out_digest TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    u uploads;
    moment TIMESTAMPTZ;
BEGIN
    SELECT * INTO u FROM uploads WHERE id = in_id AND repo = in_repo AND image = in_image FOR UPDATE;
    -- Not the beginning of the transaction: the lock may have been waited for.
    moment := clock_timestamp();
    out_received := u.received;
    out_hashes := u.hashes;
    out_stored := u.stored;
    out_digest := u.digest;
    IF u.id IS NULL OR u.state = 'ended' THEN
        out_answer := 'unknown';
    ELSIF u.state = 'closed' THEN
        out_answer := 'closed';
    ELSIF u.writer <> in_writer AND u.writer_until > moment THEN
        out_answer := 'busy';
    ELSE
        out_answer := 'taken';
        out_took_over := u.writer IS NOT NULL AND (u.writer <> in_writer OR u.taken_over);
        UPDATE uploads SET writer = in_writer, writer_until = moment + make_interval(secs => in_lease),
                taken_over = out_took_over, left_by = NULL, touched_at = moment
            WHERE id = in_id;
    END IF;
END $$;

-- Takes a link away, and its bytes from the usage, which the caller has locked.
CREATE FUNCTION drop_link(in_repo BIGINT, in_image TEXT, in_digest TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    gone links;
BEGIN
    DELETE FROM links WHERE repo = in_repo AND image = in_image AND digest = in_digest RETURNING * INTO gone;
    IF FOUND AND NOT EXISTS (SELECT 1 FROM links WHERE blob = gone.blob AND repo = in_repo) THEN
        UPDATE local_usage SET bytes = bytes - gone.size WHERE repo = in_repo;
    END IF;
END $$;

-- Gives an image a blob: 'linked', 'over quota' or 'deleting'; the last two change nothing.
CREATE FUNCTION link_blob(
    in_repo BIGINT, in_image TEXT, in_digest TEXT, in_blob TEXT, in_size BIGINT, in_quota BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    used BIGINT := lock_usage(in_repo);
    is_new BOOLEAN := NOT EXISTS (SELECT 1 FROM links WHERE blob = in_blob AND repo = in_repo);
BEGIN
    IF is_new AND used + in_size > in_quota THEN
        RETURN 'over quota';
    ELSIF NOT announce_blob(in_blob, in_size) THEN
        RETURN 'deleting';
    END IF;
    IF EXISTS (SELECT 1 FROM links WHERE repo = in_repo AND image = in_image AND digest = in_digest
            AND blob <> in_blob) THEN
        -- What was there made no sense.
        PERFORM drop_link(in_repo, in_image, in_digest);
    END IF;
    INSERT INTO links (repo, image, digest, blob, size) VALUES (in_repo, in_image, in_digest, in_blob, in_size)
        ON CONFLICT (repo, image, digest) DO UPDATE SET touched_at = excluded.touched_at;
    IF is_new THEN
        UPDATE local_usage SET bytes = bytes + in_size WHERE repo = in_repo;
    END IF;
    RETURN 'linked';
END $$;

-- Ends a session with a blob: 'linked', 'missing', 'over quota' or 'deleting'.
CREATE FUNCTION close_upload(
    in_repo BIGINT, in_image TEXT, in_id TEXT, in_writer TEXT, in_digest TEXT, in_blob TEXT, in_size BIGINT,
    in_place TEXT, in_quota BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    u uploads;
    answer TEXT;
BEGIN
    SELECT * INTO u FROM uploads WHERE id = in_id AND repo = in_repo AND image = in_image FOR UPDATE;
    IF u.id IS NULL OR u.state = 'ended' OR u.writer IS DISTINCT FROM in_writer THEN
        RETURN 'missing';
    ELSIF u.state = 'closed' THEN
        -- Asked a second time.
        RETURN CASE WHEN u.digest = in_digest THEN 'linked' ELSE 'missing' END;
    END IF;
    answer := link_blob(in_repo, in_image, in_digest, in_blob, in_size, in_quota);
    IF answer <> 'linked' THEN
        RETURN answer;
    END IF;
    -- Nobody else changes the place: the blob is locked.
    IF in_place IS NULL THEN
        DELETE FROM blob_places WHERE digest = in_blob;
    ELSE
        DELETE FROM retired_places WHERE place = in_place;
        INSERT INTO blob_places (digest, place) VALUES (in_blob, in_place)
            ON CONFLICT (digest) DO UPDATE SET place = excluded.place;
    END IF;
    UPDATE uploads SET state = 'closed', digest = in_digest, hashes = '', touched_at = clock_timestamp()
        WHERE id = in_id;
    RETURN answer;
END $$;

-- The blob that an image (any image of the Local, without a name) has under a digest; one at most.
CREATE FUNCTION find_link(in_repo BIGINT, in_image TEXT, in_digest TEXT) RETURNS links
LANGUAGE plpgsql AS $$
DECLARE
    link links;
BEGIN
    IF in_image IS NULL THEN
        SELECT * INTO link FROM links
            WHERE repo = in_repo AND digest = in_digest AND blob ~ '^[0-9a-f]{64}$' LIMIT 1;
    ELSE
        SELECT * INTO link FROM links
            WHERE repo = in_repo AND image = in_image AND digest = in_digest AND blob ~ '^[0-9a-f]{64}$';
    END IF;
    RETURN link;
END $$;

-- Gives an image a blob that another has: 'linked', 'missing', 'over quota' or 'deleting'.
CREATE FUNCTION mount_blob(
    in_from BIGINT, in_from_image TEXT, in_repo BIGINT, in_image TEXT, in_digest TEXT, in_quota BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    source links := find_link(in_from, in_from_image, in_digest);
    still links;
BEGIN
    IF source.blob IS NULL THEN
        RETURN 'missing';
    END IF;
    PERFORM lock_usage(in_repo);
    PERFORM 1 FROM blobs WHERE digest = source.blob FOR UPDATE;
    -- Looked up again under the lock: as long as some image has it, its bytes are there.
    still := find_link(in_from, in_from_image, in_digest);
    IF still.blob IS DISTINCT FROM source.blob THEN
        RETURN 'missing';
    END IF;
    RETURN link_blob(in_repo, in_image, in_digest, still.blob, still.size, in_quota);
END $$;

-- Takes a blob from an image: 'done', 'unknown' or 'in use'.
CREATE FUNCTION unlink_blob(in_repo BIGINT, in_image TEXT, in_digest TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_usage(in_repo);
    PERFORM 1 FROM links WHERE repo = in_repo AND image = in_image AND digest = in_digest FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF EXISTS (SELECT 1 FROM manifest_blobs
            WHERE repo = in_repo AND image = in_image AND digest = in_digest) THEN
        RETURN 'in use';
    END IF;
    PERFORM drop_link(in_repo, in_image, in_digest);
    RETURN 'done';
END $$;

-- Looks at links that nobody renewed, and takes those that no manifest names: how many of each. What somebody else
-- has locked is left alone; where that is all, none was looked at, so that whoever goes on until then comes to an end.
CREATE FUNCTION expire_links(
    in_grace DOUBLE PRECISION, in_limit BIGINT, OUT out_looked_at BIGINT, OUT out_dropped BIGINT
) LANGUAGE plpgsql AS $$
DECLARE
    until TIMESTAMPTZ := now() - make_interval(secs => in_grace);
    candidates links[];
    one links;
    done BOOLEAN := FALSE;
BEGIN
    SELECT COALESCE(array_agg(c), '{}') INTO candidates FROM (
        SELECT l FROM links l WHERE l.loose AND l.touched_at <= until
            ORDER BY l.touched_at LIMIT in_limit) AS found (c);
    out_dropped := 0;
    PERFORM lock_usage(repos.repo) FROM (
        SELECT DISTINCT c.repo FROM unnest(candidates) AS c ORDER BY c.repo) AS repos;
    FOREACH one IN ARRAY candidates LOOP
        PERFORM 1 FROM links l
            WHERE l.repo = one.repo AND l.image = one.image AND l.digest = one.digest
            AND l.loose AND l.touched_at <= until FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        done := TRUE;
        IF EXISTS (SELECT 1 FROM manifest_blobs m
                WHERE m.repo = one.repo AND m.image = one.image AND m.digest = one.digest) THEN
            UPDATE links SET loose = FALSE
                WHERE repo = one.repo AND image = one.image AND digest = one.digest;
        ELSE
            PERFORM drop_link(one.repo, one.image, one.digest);
            out_dropped := out_dropped + 1;
        END IF;
    END LOOP;
    out_looked_at := CASE WHEN done THEN cardinality(candidates) ELSE 0 END;
END $$;

CREATE FUNCTION lock_image(in_repo BIGINT, in_image TEXT) RETURNS VOID LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('artifactapi image ' || in_repo || '/' || in_image, 0))
$$;

-- Whether a tag points to a manifest or an index lists it.
CREATE FUNCTION manifest_is_held(in_repo BIGINT, in_image TEXT, in_digest TEXT) RETURNS BOOLEAN
STABLE LANGUAGE sql AS $$
    SELECT EXISTS (SELECT 1 FROM tags
            WHERE tags.repo = in_repo AND tags.image = in_image AND tags.manifest = in_digest)
        OR EXISTS (SELECT 1 FROM manifest_children c
            WHERE c.repo = in_repo AND c.image = in_image AND c.child = in_digest)
$$;

-- These manifests lost something that held them.
CREATE FUNCTION let_go(in_repo BIGINT, in_image TEXT, in_digests TEXT[]) RETURNS VOID LANGUAGE sql AS $$
    UPDATE manifests SET unheld_since = now()
        WHERE repo = in_repo AND image = in_image AND digest = ANY (in_digests) AND unheld_since IS NULL
        AND NOT manifest_is_held(repo, image, digest)
$$;

-- Stores a manifest: 'stored', or 'no blob', 'no manifest' or 'immutable' with which one.
CREATE FUNCTION put_manifest(
    in_repo BIGINT, in_image TEXT, in_digest TEXT, in_media_type TEXT, in_body BYTEA, in_artifact_type TEXT,
    in_annotations TEXT, in_subject TEXT, in_blobs TEXT[], in_children TEXT[], in_tags TEXT[],
    in_immutable BOOLEAN[], OUT out_answer TEXT, OUT out_which TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    left_behind TEXT[];
    is_new BOOLEAN;
BEGIN
    PERFORM lock_image(in_repo, in_image);
    PERFORM 1 FROM links l
        WHERE l.repo = in_repo AND l.image = in_image AND l.digest = ANY (in_blobs)
        ORDER BY l.digest FOR UPDATE;
    SELECT 'no blob', asked.digest INTO out_answer, out_which
        FROM unnest(in_blobs) WITH ORDINALITY AS asked (digest, place)
        WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.repo = in_repo AND l.image = in_image
            AND l.digest = asked.digest AND l.blob ~ '^[0-9a-f]{64}$')
        ORDER BY asked.place LIMIT 1;
    IF FOUND THEN RETURN; END IF;
    SELECT 'no manifest', asked.digest INTO out_answer, out_which
        FROM unnest(in_children) WITH ORDINALITY AS asked (digest, place)
        WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repo = in_repo AND m.image = in_image
            AND m.digest = asked.digest)
        ORDER BY asked.place LIMIT 1;
    IF FOUND THEN RETURN; END IF;
    SELECT 'immutable', asked.tag INTO out_answer, out_which
        FROM unnest(in_tags, in_immutable) WITH ORDINALITY AS asked (tag, immutable, place)
        JOIN tags t ON t.repo = in_repo AND t.image = in_image AND t.tag = asked.tag
        WHERE asked.immutable AND t.manifest <> in_digest
        ORDER BY asked.place LIMIT 1;
    IF FOUND THEN RETURN; END IF;
    out_answer := 'stored';
    out_which := NULL;

    UPDATE links SET touched_at = now(), loose = FALSE
        WHERE repo = in_repo AND image = in_image AND digest = ANY (in_blobs);
    is_new := NOT EXISTS (SELECT 1 FROM manifests
        WHERE repo = in_repo AND image = in_image AND digest = in_digest);
    -- The same digest is the same body, unless the row was damaged.
    INSERT INTO manifests (repo, image, digest, media_type, body, size, artifact_type, annotations, subject)
        VALUES (in_repo, in_image, in_digest, in_media_type, in_body, octet_length(in_body), in_artifact_type,
            in_annotations, in_subject)
        ON CONFLICT (repo, image, digest) DO UPDATE SET body = excluded.body, size = excluded.size,
            annotations = excluded.annotations
        WHERE manifests.body <> excluded.body OR manifests.annotations <> excluded.annotations;
    INSERT INTO manifest_blobs (repo, image, manifest, digest)
        SELECT in_repo, in_image, in_digest, b FROM unnest(in_blobs) AS b ON CONFLICT DO NOTHING;
    INSERT INTO manifest_children (repo, image, manifest, child)
        SELECT in_repo, in_image, in_digest, c FROM unnest(in_children) AS c ON CONFLICT DO NOTHING;
    SELECT array_agg(DISTINCT manifest) INTO left_behind FROM tags
        WHERE repo = in_repo AND image = in_image AND tag = ANY (in_tags) AND manifest <> in_digest;
    INSERT INTO tags (repo, image, tag, manifest)
        SELECT DISTINCT in_repo, in_image, t, in_digest FROM unnest(in_tags) AS t
        ON CONFLICT (repo, image, tag) DO UPDATE SET manifest = excluded.manifest
        WHERE tags.manifest <> excluded.manifest;

    UPDATE manifests SET unheld_since = NULL
        WHERE repo = in_repo AND image = in_image AND digest = ANY (in_children) AND unheld_since IS NOT NULL;
    UPDATE manifests SET unheld_since = CASE WHEN manifest_is_held(repo, image, digest) THEN NULL ELSE now() END
        WHERE repo = in_repo AND image = in_image AND digest = in_digest AND unheld_since IS NOT NULL;
    IF is_new THEN
        -- What refers to it does so again.
        UPDATE manifests SET unheld_since = NULL
            WHERE repo = in_repo AND image = in_image AND subject = in_digest AND unheld_since IS NOT NULL;
    END IF;
    PERFORM let_go(in_repo, in_image, left_behind);
END $$;

-- Keeps a manifest that was let go as if that were now; whether it is there still. Under the lock, since whoever
-- expires it has looked at it before.
CREATE FUNCTION renew_manifest(in_repo BIGINT, in_image TEXT, in_digest TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_image(in_repo, in_image);
    UPDATE manifests SET unheld_since = now()
        WHERE repo = in_repo AND image = in_image AND digest = in_digest AND unheld_since IS NOT NULL;
    RETURN FOUND OR EXISTS (SELECT 1 FROM manifests
        WHERE repo = in_repo AND image = in_image AND digest = in_digest);
END $$;

-- Takes a manifest with all its tags and references. The image is locked.
CREATE FUNCTION drop_manifest(in_repo BIGINT, in_image TEXT, in_digest TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    let_go_of TEXT[];
BEGIN
    PERFORM 1 FROM links l WHERE l.repo = in_repo AND l.image = in_image AND l.digest IN (
            SELECT m.digest FROM manifest_blobs m
            WHERE m.repo = in_repo AND m.image = in_image AND m.manifest = in_digest)
        ORDER BY l.digest FOR UPDATE;
    UPDATE links l SET loose = TRUE FROM manifest_blobs m
        WHERE m.repo = in_repo AND m.image = in_image AND m.manifest = in_digest
        AND l.repo = in_repo AND l.image = in_image AND l.digest = m.digest;
    SELECT array_agg(d) INTO let_go_of FROM (
        SELECT child FROM manifest_children
            WHERE repo = in_repo AND image = in_image AND manifest = in_digest
        UNION ALL SELECT digest FROM manifests
            WHERE repo = in_repo AND image = in_image AND subject = in_digest) AS others (d);
    DELETE FROM manifest_blobs WHERE repo = in_repo AND image = in_image AND manifest = in_digest;
    DELETE FROM manifest_children WHERE repo = in_repo AND image = in_image AND manifest = in_digest;
    DELETE FROM manifests WHERE repo = in_repo AND image = in_image AND digest = in_digest;
    DELETE FROM tags WHERE repo = in_repo AND image = in_image AND manifest = in_digest;
    PERFORM let_go(in_repo, in_image, let_go_of);
END $$;

-- Deletes a tag; whether there was one.
CREATE FUNCTION delete_tag(in_repo BIGINT, in_image TEXT, in_tag TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
DECLARE
    pointed_to TEXT;
BEGIN
    PERFORM lock_image(in_repo, in_image);
    DELETE FROM tags WHERE repo = in_repo AND image = in_image AND tag = in_tag
        RETURNING manifest INTO pointed_to;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    PERFORM let_go(in_repo, in_image, ARRAY[pointed_to]);
    RETURN TRUE;
END $$;

-- Deletes a manifest: 'done', 'unknown', or 'tagged' with a tag that is not among those given.
CREATE FUNCTION delete_manifest(
    in_repo BIGINT, in_image TEXT, in_digest TEXT, in_tags TEXT[], OUT out_answer TEXT, OUT out_which TEXT
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_image(in_repo, in_image);
    PERFORM 1 FROM manifests WHERE repo = in_repo AND image = in_image AND digest = in_digest;
    IF NOT FOUND THEN
        out_answer := 'unknown';
        RETURN;
    END IF;
    SELECT 'tagged', tag INTO out_answer, out_which FROM tags
        WHERE repo = in_repo AND image = in_image AND manifest = in_digest AND tag <> ALL (in_tags)
        ORDER BY tag LIMIT 1;
    IF NOT FOUND THEN
        PERFORM drop_manifest(in_repo, in_image, in_digest);
        out_answer := 'done';
    END IF;
END $$;

-- Deletes manifests that nothing has held for long; how many. Images that somebody is changing are left alone.
CREATE FUNCTION expire_manifests(in_repo BIGINT, in_age DOUBLE PRECISION, in_limit BIGINT) RETURNS BIGINT
LANGUAGE plpgsql AS $$
DECLARE
    until TIMESTAMPTZ := now() - make_interval(secs => in_age);
    one RECORD;
    gone BIGINT := 0;
BEGIN
    FOR one IN
        SELECT oldest.image, oldest.digest FROM (
            SELECT m.image, m.digest FROM manifests m
                WHERE m.repo = in_repo AND m.unheld_since <= until
                ORDER BY m.unheld_since LIMIT in_limit) AS oldest
            ORDER BY oldest.image, oldest.digest
    LOOP
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(
            hashtextextended('artifactapi image ' || in_repo || '/' || one.image, 0));
        -- Looked at again under the lock.
        PERFORM 1 FROM manifests m
            WHERE m.repo = in_repo AND m.image = one.image AND m.digest = one.digest
            AND m.unheld_since <= until AND NOT manifest_is_held(m.repo, m.image, m.digest);
        CONTINUE WHEN NOT FOUND;
        PERFORM drop_manifest(in_repo, one.image, one.digest);
        gone := gone + 1;
    END LOOP;
    RETURN gone;
END $$;

-- Takes rows of a Local, of one kind at a time; how many. Sessions only end: their bytes have to be dropped first.
CREATE FUNCTION purge_local(in_repo BIGINT, in_limit BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    one RECORD;
    gone BIGINT;
BEGIN
    WITH picked AS MATERIALIZED (SELECT id FROM uploads
            WHERE repo = in_repo AND state IN ('open', 'closed') ORDER BY id LIMIT in_limit FOR UPDATE)
        UPDATE uploads u SET state = 'ended', writer = NULL FROM picked WHERE u.id = picked.id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN RETURN gone; END IF;
    WITH picked AS MATERIALIZED (SELECT image, tag FROM tags
            WHERE repo = in_repo ORDER BY image, tag LIMIT in_limit FOR UPDATE)
        DELETE FROM tags t USING picked
        WHERE t.repo = in_repo AND t.image = picked.image AND t.tag = picked.tag;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN RETURN gone; END IF;
    FOR one IN SELECT image, digest FROM manifests WHERE repo = in_repo ORDER BY image, digest LIMIT in_limit LOOP
        PERFORM lock_image(in_repo, one.image);
        PERFORM drop_manifest(in_repo, one.image, one.digest);
        gone := gone + 1;
    END LOOP;
    IF gone > 0 THEN RETURN gone; END IF;
    PERFORM lock_usage(in_repo);
    FOR one IN SELECT image, digest FROM links WHERE repo = in_repo ORDER BY image, digest LIMIT in_limit LOOP
        PERFORM drop_link(in_repo, one.image, one.digest);
        gone := gone + 1;
    END LOOP;
    IF gone = 0 THEN
        DELETE FROM local_usage WHERE repo = in_repo;
    END IF;
    RETURN gone;
END $$;
