//! The SQL of manifests and tags. Lists of digests are JSON arrays.

pub(super) const MISSING_BLOB: &str = "SELECT asked.value FROM json_each(?3) asked WHERE NOT EXISTS ( \
     SELECT 1 FROM links l WHERE l.repo = ?1 AND l.image = ?2 AND l.digest = asked.value \
     AND length(l.blob) = 64 AND l.blob NOT GLOB '*[^0-9a-f]*') ORDER BY asked.id LIMIT 1";
pub(super) const MISSING_MANIFEST: &str = "SELECT asked.value FROM json_each(?3) asked WHERE NOT EXISTS ( \
     SELECT 1 FROM manifests m WHERE m.repo = ?1 AND m.image = ?2 AND m.digest = asked.value) \
     ORDER BY asked.id LIMIT 1";
pub(super) const TAGGED: &str = "SELECT manifest FROM tags WHERE repo = ?1 AND image = ?2 AND tag = ?3";
pub(super) const TIE: &str = concat!(
    "UPDATE links SET loose = 0, touched_at = ",
    now!(),
    " WHERE repo = ?1 AND image = ?2 AND digest IN (SELECT value FROM json_each(?3))"
);
pub(super) const IS_THERE: &str = "SELECT 1 FROM manifests WHERE repo = ?1 AND image = ?2 AND digest = ?3";
/// The same digest is the same body, unless the row was damaged.
pub(super) const PUT: &str = "INSERT INTO manifests (repo, image, digest, media_type, body, size, artifact_type, \
     annotations, subject) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
     ON CONFLICT (repo, image, digest) DO UPDATE SET body = excluded.body, size = excluded.size, \
     annotations = excluded.annotations \
     WHERE manifests.body <> excluded.body OR manifests.annotations <> excluded.annotations";
pub(super) const PUT_BLOBS: &str = "INSERT OR IGNORE INTO manifest_blobs (repo, image, manifest, digest) \
     SELECT ?1, ?2, ?3, value FROM json_each(?4)";
pub(super) const PUT_CHILDREN: &str = "INSERT OR IGNORE INTO manifest_children (repo, image, manifest, child) \
     SELECT ?1, ?2, ?3, value FROM json_each(?4)";
pub(super) const PUT_TAG: &str = "INSERT INTO tags (repo, image, tag, manifest) VALUES (?1, ?2, ?3, ?4) \
     ON CONFLICT (repo, image, tag) DO UPDATE SET manifest = excluded.manifest";
pub(super) const KEEP_CHILDREN: &str = "UPDATE manifests SET unheld_since = NULL WHERE repo = ?1 AND image = ?2 \
     AND digest IN (SELECT value FROM json_each(?3)) AND unheld_since IS NOT NULL";
pub(super) const KEEP_REFERRERS: &str = "UPDATE manifests SET unheld_since = NULL WHERE repo = ?1 AND image = ?2 \
     AND subject = ?3 AND unheld_since IS NOT NULL";
macro_rules! held {
    () => {
        "(EXISTS (SELECT 1 FROM tags t WHERE t.repo = manifests.repo AND t.image = manifests.image \
         AND t.manifest = manifests.digest) \
         OR EXISTS (SELECT 1 FROM manifest_children c WHERE c.repo = manifests.repo \
         AND c.image = manifests.image AND c.child = manifests.digest))"
    };
}
pub(super) const KEEP_ANEW: &str = concat!(
    "UPDATE manifests SET unheld_since = CASE WHEN ",
    held!(),
    " THEN NULL ELSE ",
    now!(),
    " END WHERE repo = ?1 AND image = ?2 AND digest = ?3 AND unheld_since IS NOT NULL"
);
pub(super) const LET_GO: &str = concat!(
    "UPDATE manifests SET unheld_since = ",
    now!(),
    " WHERE repo = ?1 AND image = ?2 AND digest IN (SELECT value FROM json_each(?3)) \
     AND unheld_since IS NULL AND NOT ",
    held!()
);
pub(super) const LOOSEN: &str = "UPDATE links SET loose = 1 WHERE repo = ?1 AND image = ?2 AND digest IN ( \
     SELECT m.digest FROM manifest_blobs m WHERE m.repo = ?1 AND m.image = ?2 AND m.manifest = ?3)";
/// Children, and what refers to it.
pub(super) const DEPENDANTS: &str = "SELECT child FROM manifest_children \
     WHERE repo = ?1 AND image = ?2 AND manifest = ?3 \
     UNION ALL SELECT digest FROM manifests WHERE repo = ?1 AND image = ?2 AND subject = ?3";
pub(super) const DROP: [&str; 4] = [
    "DELETE FROM manifest_blobs WHERE repo = ?1 AND image = ?2 AND manifest = ?3",
    "DELETE FROM manifest_children WHERE repo = ?1 AND image = ?2 AND manifest = ?3",
    "DELETE FROM manifests WHERE repo = ?1 AND image = ?2 AND digest = ?3",
    "DELETE FROM tags WHERE repo = ?1 AND image = ?2 AND manifest = ?3",
];
pub(super) const BY_DIGEST: &str = "SELECT digest, media_type, body, unheld_since IS NOT NULL FROM manifests \
     WHERE repo = ?1 AND image = ?2 AND digest = ?3";
pub(super) const BY_TAG: &str = "SELECT m.digest, m.media_type, m.body, m.unheld_since IS NOT NULL FROM tags t JOIN manifests m \
     ON m.repo = t.repo AND m.image = t.image AND m.digest = t.manifest \
     WHERE t.repo = ?1 AND t.image = ?2 AND t.tag = ?3";
pub(super) const IS_IMAGE: &str = "SELECT EXISTS (SELECT 1 FROM manifests WHERE repo = ?1 AND image = ?2) \
     OR EXISTS (SELECT 1 FROM tags WHERE repo = ?1 AND image = ?2)";
pub(super) const TAGS: &str =
    "SELECT tag FROM tags WHERE repo = ?1 AND image = ?2 AND tag > ?3 ORDER BY tag LIMIT ?4";
pub(super) const TAGS_OF: &str =
    "SELECT tag FROM tags WHERE repo = ?1 AND image = ?2 AND manifest = ?3 ORDER BY tag";
/// Up to ?6 indexes above the manifest.
pub(super) const HOLDING_TAGS: &str = "WITH RECURSIVE holders (digest, depth) AS ( \
     SELECT digest, 0 FROM manifests WHERE repo = ?1 AND image = ?2 AND digest = ?3 \
     UNION SELECT c.manifest, holders.depth + 1 FROM holders JOIN manifest_children c \
     ON c.repo = ?1 AND c.image = ?2 AND c.child = holders.digest WHERE holders.depth < ?6) \
     SELECT tag FROM tags WHERE repo = ?1 AND image = ?2 AND manifest IN (SELECT digest FROM holders) \
     AND tag > ?4 ORDER BY tag LIMIT ?5";
/// It was let go, and is asked for.
pub(super) const RENEW: &str = concat!(
    "UPDATE manifests SET unheld_since = ",
    now!(),
    " WHERE repo = ?1 AND image = ?2 AND digest = ?3 AND unheld_since IS NOT NULL"
);
pub(super) const DELETE_TAG: &str = "DELETE FROM tags WHERE repo = ?1 AND image = ?2 AND tag = ?3";
pub(super) const REFERRERS: &str = "SELECT digest, media_type, size, artifact_type, annotations FROM manifests \
     WHERE repo = ?1 AND image = ?2 AND subject = ?3 AND digest > ?4 \
     AND (?5 IS NULL OR artifact_type = ?5) ORDER BY digest LIMIT ?6";
/// From one image to the next, however many manifests each has.
pub(super) const IMAGES: &str = "WITH RECURSIVE found (image) AS ( \
     SELECT MIN(image) FROM manifests WHERE repo = ?1 AND image > ?2 \
     UNION ALL SELECT (SELECT MIN(m.image) FROM manifests m WHERE m.repo = ?1 AND m.image > found.image) \
     FROM found WHERE found.image IS NOT NULL) SELECT image FROM found WHERE image IS NOT NULL LIMIT ?3";
pub(super) const UNHELD: &str = concat!(
    "SELECT image, digest FROM manifests WHERE repo = ?1 AND unheld_since <= ",
    now!(),
    " - ?2 AND NOT ",
    held!(),
    " ORDER BY unheld_since LIMIT ?3"
);
pub(super) const END_SESSIONS: &str = "UPDATE uploads SET state = 'ended', writer = NULL WHERE id IN ( \
     SELECT id FROM uploads WHERE repo = ?1 AND state IN ('open', 'closed') LIMIT ?2)";
pub(super) const PURGE_TAGS: &str = "DELETE FROM tags WHERE repo = ?1 AND (image, tag) IN ( \
     SELECT image, tag FROM tags WHERE repo = ?1 LIMIT ?2)";
pub(super) const SOME_MANIFESTS: &str = "SELECT image, digest FROM manifests WHERE repo = ?1 LIMIT ?2";
pub(super) const SOME_LINKS: &str = "SELECT image, digest FROM links WHERE repo = ?1 LIMIT ?2";
pub(super) const FORGET_USAGE: &str = "DELETE FROM local_usage WHERE repo = ?1";
