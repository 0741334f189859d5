-- What is looked up by a whole key is found by it, whatever the planner knows of a table that has just grown: with
-- nothing counted yet, an index that begins with the image looks as good to it as one that has the whole key, and
-- reading all of an image under its lock made everyone who pushes to it wait.
DROP INDEX manifest_blobs_by_digest;
CREATE INDEX manifest_blobs_by_digest ON manifest_blobs (digest, repo, image);
DROP INDEX manifest_children_by_child;
CREATE INDEX manifest_children_by_child ON manifest_children (child, repo, image);
DROP INDEX manifests_by_subject;
CREATE INDEX manifests_by_subject ON manifests (subject, repo, image, digest) WHERE subject IS NOT NULL;
DROP INDEX tags_by_manifest;
CREATE INDEX tags_by_manifest ON tags (manifest, repo, image, tag);
DROP INDEX links_by_digest;
CREATE INDEX links_by_digest ON links (digest, repo, image);

-- Locks the links an image has under these digests. One that is taken and given again while it is waited for is a row
-- that the waiting statement never sees: whoever found it afterwards would rely on what others may still take.
CREATE FUNCTION lock_links(in_repo BIGINT, in_image TEXT, in_digests TEXT[]) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    locked TEXT[];
BEGIN
    LOOP
        SELECT COALESCE(array_agg(l.digest), '{}') INTO locked FROM (
            SELECT digest FROM links
                WHERE repo = in_repo AND image = in_image AND digest = ANY (in_digests)
                ORDER BY digest FOR UPDATE) AS l;
        EXIT WHEN NOT EXISTS (SELECT 1 FROM links
            WHERE repo = in_repo AND image = in_image AND digest = ANY (in_digests) AND digest <> ALL (locked));
    END LOOP;
END $$;

-- Stores a manifest: 'stored', or 'no blob', 'no manifest' or 'immutable' with which one.
CREATE OR REPLACE FUNCTION put_manifest(
    in_repo BIGINT, in_image TEXT, in_digest TEXT, in_media_type TEXT, in_body BYTEA, in_artifact_type TEXT,
    in_annotations TEXT, in_subject TEXT, in_blobs TEXT[], in_children TEXT[], in_tags TEXT[],
    in_immutable BOOLEAN[], OUT out_answer TEXT, OUT out_which TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    left_behind TEXT[];
    is_new BOOLEAN;
BEGIN
    PERFORM lock_image(in_repo, in_image);
    PERFORM lock_links(in_repo, in_image, in_blobs);
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

-- Takes a manifest with all its tags and references. The image is locked.
CREATE OR REPLACE FUNCTION drop_manifest(in_repo BIGINT, in_image TEXT, in_digest TEXT) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    named TEXT[];
    let_go_of TEXT[];
BEGIN
    WITH gone AS (DELETE FROM manifest_blobs
            WHERE repo = in_repo AND image = in_image AND manifest = in_digest RETURNING digest)
        SELECT array_agg(digest ORDER BY digest) INTO named FROM gone;
    PERFORM lock_links(in_repo, in_image, named);
    UPDATE links SET loose = TRUE
        WHERE repo = in_repo AND image = in_image AND digest = ANY (named) AND NOT loose;
    WITH gone AS (DELETE FROM manifest_children
            WHERE repo = in_repo AND image = in_image AND manifest = in_digest RETURNING child)
        SELECT array_agg(child) INTO let_go_of FROM gone;
    SELECT let_go_of || array_agg(digest) INTO let_go_of FROM manifests
        WHERE repo = in_repo AND image = in_image AND subject = in_digest;
    DELETE FROM manifests WHERE repo = in_repo AND image = in_image AND digest = in_digest;
    DELETE FROM tags WHERE repo = in_repo AND image = in_image AND manifest = in_digest;
    PERFORM let_go(in_repo, in_image, let_go_of);
END $$;
