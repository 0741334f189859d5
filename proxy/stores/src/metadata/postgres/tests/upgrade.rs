//! RS-117: a database of the first release is brought up to date with what is in it, and the first release's
//! replicas, which may still run, go on.

use artifactapi_model::{
    Mutability,
    oci::{Algorithm, OciDigest},
    ports::{
        Housekeeping as _,
        registry::{
            BlobLinks as _, ClosedUpload, ImageKey, LinkedBlob, Linking, Placements as _, UploadLimits,
            UploadSessions as _,
        },
        uploads::{Place, UploadId},
    },
};

use super::{
    super::{migrations, migrations::run_up_to},
    *,
};
use crate::metadata::suite::{key, row};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// What the first release asks, in its words.
mod first {
    pub(super) const ANNOUNCE: &str = "SELECT announce_blob('{digest}', 4)";
    pub(super) const COMMIT: &str = "SELECT commit_artifact(1, 1, '{path}', NULL, '{digest}', 4, 'immutable', \
         '[]', 'https://up.test/x', FALSE, 1000, 1000, 1)";
    pub(super) const PUT_DERIVED: &str =
        "SELECT put_derived('{digest}', '{digest}', 4, NULL, NULL, 'text/html', 1)";
    pub(super) const ENSURE: &str =
        "SELECT out_id FROM ensure_repository('default', 'repo', 'npm', 'https://a.test/')";
    pub(super) const CONDEMN: &str = "SELECT COUNT(*) FROM condemn_blobs(0, 1000, FALSE)";
    pub(super) const CLAIM: &str = "SELECT COUNT(*) FROM claim_blobs(0, 1000)";
    pub(super) const DROP: &str = "DELETE FROM blobs WHERE digest = '{digest}' AND state = 'deleting'";
    pub(super) const TAKE_UP: &str = "WITH added AS (INSERT INTO blobs (digest, size, state) \
         SELECT digest, size, CASE WHEN blob_is_named(digest) THEN 'live' ELSE 'condemned' END \
         FROM unnest(ARRAY['{digest}'], ARRAY[4::BIGINT]) AS found (digest, size) ORDER BY digest \
         ON CONFLICT (digest) DO NOTHING RETURNING state) \
         SELECT COUNT(*) FROM added WHERE state = 'condemned'";
    pub(super) const STATES: &str =
        "SELECT state, COUNT(*), COALESCE(SUM(size), 0)::BIGINT FROM blobs GROUP BY state";
}

fn about(statement: &str, text: &str) -> String {
    statement.replace("{digest}", &Digest::of(text.as_bytes()).to_hex()).replace("{path}", text)
}

/// A blob of image `app` whose bytes are in the place of its session.
async fn push(store: &PostgresMetadata, text: &str) -> (ImageKey, OciDigest, Place) {
    let image = ImageKey { repo: RepoId(7), name: "app".parse().unwrap() };
    let digest = OciDigest::of(Algorithm::Sha256, text.as_bytes());
    let id = UploadId::of(Digest::of(text.as_bytes()).0[..16].try_into().unwrap());
    let place = Place(format!("uploads/{id}"));
    store.begin_upload(&image, &id, &UploadLimits { sessions: 9, quota: None }).await.unwrap();
    store.claim_upload(&image, &id, "pusher", DAY).await.unwrap();
    let blob = Digest::of(text.as_bytes());
    let body = ClosedUpload { digest, blob, size: 4, place: Some(place.clone()) };
    let closing = store.close_upload(&image, &id, "pusher", &body, None).await.unwrap();
    assert_eq!(closing, Linking::Linked);
    (image, digest, place)
}

#[tokio::test]
async fn rs_117_rows_of_the_first_release_are_kept() {
    let Some(server) = Server::start("rs_117_rows_of_the_first_release_are_kept") else { return };
    let settings = server.database();
    run_up_to(&settings, 1).await;
    let sql = |statement: &str, text: &str| server.postgres.sql(&settings.database, &about(statement, text));
    sql(first::ENSURE, "");
    assert_eq!(sql(first::COMMIT, "kept"), "stored");
    assert_eq!(sql(first::PUT_DERIVED, "made"), "t");
    assert_eq!(sql(first::ANNOUNCE, "loose"), "t");
    let migrated = PostgresMetadata::migrate(&settings).await.unwrap();
    assert_eq!(migrated, Migrated { from: 1, to: migrations::known() });
    let store = open(settings.clone()).await;
    let there = store.artifact(&key(1, "kept")).await.unwrap().unwrap();
    assert_eq!((there.digest, there.mutability), (Digest::of(b"kept"), Mutability::Immutable));
    assert_eq!(store.pinned(&key(1, "kept")).await.unwrap(), Some(Digest::of(b"kept")));
    assert!(store.derived(&Digest::of(b"made")).await.unwrap().is_some());
    assert_eq!(store.blob_states().await.unwrap().live.count, 3);
    let condemned = store.condemn_blobs(std::time::Duration::ZERO, 9, false).await.unwrap();
    assert_eq!(condemned, [(Digest::of(b"loose"), 4)], "what nothing names");
    push(&store, "text").await;
}

#[tokio::test]
async fn rs_117_the_first_release_goes_on_beside_this_one() {
    let Some(server) = Server::start("rs_117_the_first_release_goes_on_beside_this_one") else { return };
    let store = server.store().await;
    let sql = |statement: &str, text: &str| server.sql(&store, &about(statement, text));
    let (image, digest, place) = push(&store, "text").await;
    let has = async || store.linked(&image, &digest, false).await.unwrap();
    // It fills, and finds the same bytes under another name.
    assert_eq!(sql(first::ENSURE, ""), "1");
    assert_eq!([sql(first::ANNOUNCE, "text"), sql(first::COMMIT, "text")], ["t", "stored"]);
    assert_eq!(store.place(&Digest::of(b"text")).await.unwrap(), Some(place.clone()));
    assert_eq!(sql(first::PUT_DERIVED, "made"), "t");
    store.forget_artifact(&key(1, "text"), &Digest::of(b"text")).await.unwrap();
    // It collects, and leaves alone what an image has.
    assert_eq!([sql(first::CONDEMN, ""), sql(first::CLAIM, "")], ["0", "0"]);
    assert_eq!(sql(first::TAKE_UP, "text"), "0");
    assert_eq!(has().await, Some(LinkedBlob { blob: Digest::of(b"text"), size: 4 }));
    assert_eq!(sql(first::STATES, ""), "live|2|8");
    store.unlink(&image, &digest).await.unwrap();
    assert_eq!([sql(first::CONDEMN, ""), sql(first::CLAIM, "")], ["1", "1"]);
    sql(first::DROP, "text");
    assert_eq!(store.retired_places(std::time::Duration::ZERO, 9).await.unwrap(), [place]);
    store.commit_artifact(&key(1, "again"), &row("text", 2)).await.unwrap();
    assert_eq!(sql(first::STATES, ""), "live|2|8");
}
