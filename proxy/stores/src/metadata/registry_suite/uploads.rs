//! Pushes under way.

use artifactapi_model::ports::{
    registry::{EndedUpload, UploadProgress, UploadState},
    uploads::Stored,
};

use super::*;

pub(super) async fn suite(make: &impl AsyncFn() -> Faces) {
    a_session_belongs_to_one_image(make().await).await;
    rs_110_one_writer_at_a_time(make().await).await;
    rs_86_what_is_asked_twice_is_answered_alike(make().await).await;
    rs_86_a_session_given_back_twice_is_given_back_once(make().await).await;
    rs_111_a_closed_session_is_a_blob_and_answers_for_a_while(make().await).await;
    rs_67_sessions_and_their_bytes_are_bounded(make().await).await;
    rs_67_idle_sessions_end(make().await).await;
    a_cancelled_session_is_gone(make().await).await;
}

fn progress(offset: u64, text: &str) -> UploadProgress {
    UploadProgress { offset, hashes: format!("hashes {text}"), stored: Stored(format!("stored {text}")) }
}

async fn begin(store: &Faces, image: &ImageKey, id: &UploadId) {
    let begun = store.registry.begin_upload(image, id, &UNLIMITED).await.unwrap();
    assert_eq!(begun, Begun::Started);
}

async fn claim(store: &Faces, image: &ImageKey, id: &UploadId, writer: &str, lease: Duration) -> Claim {
    store.registry.claim_upload(image, id, writer, lease).await.unwrap()
}

fn taken(progress: &UploadProgress, took_over: bool) -> Claim {
    Claim::Taken { progress: progress.clone(), took_over }
}

async fn ended(store: &Faces, idle: Duration) -> Vec<EndedUpload> {
    store.registry.ended_uploads(idle, ALL).await.unwrap()
}

async fn a_session_belongs_to_one_image(store: Faces) {
    let (own, others) = (image(1, "app"), [image(1, "other"), image(2, "app")]);
    begin(&store, &own, &id(1)).await;
    let open = UploadState::Open(UploadProgress::default());
    assert_eq!(store.registry.upload(&own, &id(1)).await.unwrap(), Some(open));
    assert_eq!(store.registry.upload(&own, &id(2)).await.unwrap(), None);
    for other in &others {
        assert_eq!(store.registry.upload(other, &id(1)).await.unwrap(), None);
        assert_eq!(claim(&store, other, &id(1), "a", LONG).await, Claim::Unknown);
        assert!(!store.registry.cancel_upload(other, &id(1)).await.unwrap());
        assert!(store.registry.begin_upload(other, &id(1), &UNLIMITED).await.is_err(), "its id is taken");
    }
    assert_eq!(claim(&store, &own, &id(1), "a", LONG).await, taken(&UploadProgress::default(), false));
    let body = body(sha256("text"), "text", None);
    for other in &others {
        let closing = store.registry.close_upload(other, &id(1), "a", &body, None).await.unwrap();
        assert_eq!(closing, Linking::Missing);
        assert_eq!(linked(&store, other, "text").await, None);
    }
}

async fn rs_110_one_writer_at_a_time(store: Faces) {
    let (image, id) = (image(1, "app"), id(1));
    let save = async |writer, progress: &UploadProgress, lease| {
        store.registry.save_upload(&id, writer, progress, lease).await.unwrap()
    };
    begin(&store, &image, &id).await;
    assert_eq!(claim(&store, &image, &id, "a", LONG).await, taken(&UploadProgress::default(), false));
    assert_eq!(claim(&store, &image, &id, "b", LONG).await, Claim::Busy(UploadProgress::default()));
    assert!(!save("b", &progress(9, "b"), None).await, "it never had it");
    assert!(save("a", &progress(1, "a"), Some(LONG)).await);
    assert_eq!(claim(&store, &image, &id, "b", LONG).await, Claim::Busy(progress(1, "a")));
    assert_eq!(store.registry.upload(&image, &id).await.unwrap(), Some(UploadState::Open(progress(1, "a"))));
    assert!(save("a", &progress(2, "a"), None).await);
    assert!(!save("a", &progress(3, "a"), Some(LONG)).await, "it gave it back");
    assert_eq!(claim(&store, &image, &id, "b", NONE).await, taken(&progress(2, "a"), false));
    assert!(save("b", &progress(3, "b"), Some(NONE)).await, "its lease is over, but nobody took it");
    assert_eq!(claim(&store, &image, &id, "c", LONG).await, taken(&progress(3, "b"), true));
    assert!(!save("b", &progress(4, "b"), Some(LONG)).await, "it is fenced");
    let body = body(sha256("text"), "text", None);
    let late = store.registry.close_upload(&image, &id, "b", &body, None).await.unwrap();
    assert_eq!((late, linked(&store, &image, "text").await), (Linking::Missing, None));
    assert!(save("c", &progress(5, "c"), None).await);
    assert_eq!(claim(&store, &image, &id, "d", LONG).await, taken(&progress(5, "c"), false));
}

async fn rs_86_what_is_asked_twice_is_answered_alike(store: Faces) {
    let (image, id) = (image(1, "app"), id(1));
    begin(&store, &image, &id).await;
    begin(&store, &image, &id).await;
    for _ in 0..2 {
        assert_eq!(claim(&store, &image, &id, "a", NONE).await, taken(&UploadProgress::default(), false));
    }
    for _ in 0..2 {
        let claim = claim(&store, &image, &id, "b", LONG).await;
        assert_eq!(claim, taken(&UploadProgress::default(), true), "the one before did not give it back");
    }
    let text = body(sha256("text"), "text", None);
    for _ in 0..2 {
        let closing = store.registry.close_upload(&image, &id, "b", &text, None).await.unwrap();
        assert_eq!(closing, Linking::Linked);
    }
    let other = body(sha256("other"), "other", None);
    for (writer, body) in [("a", &text), ("b", &other)] {
        let closing = store.registry.close_upload(&image, &id, writer, body, None).await.unwrap();
        assert_eq!(closing, Linking::Missing);
    }
}

async fn rs_86_a_session_given_back_twice_is_given_back_once(store: Faces) {
    let (image, id) = (image(1, "app"), id(1));
    begin(&store, &image, &id).await;
    claim(&store, &image, &id, "a", LONG).await;
    let give_back =
        async |progress: &UploadProgress| store.registry.save_upload(&id, "a", progress, None).await.unwrap();
    assert!(give_back(&progress(1, "a")).await);
    assert!(give_back(&progress(1, "a")).await);
    assert!(!give_back(&progress(2, "a")).await, "that is something else");
    assert_eq!(claim(&store, &image, &id, "b", LONG).await, taken(&progress(1, "a"), false));
    assert!(!give_back(&progress(1, "a")).await, "somebody else has it now");
}

async fn rs_111_a_closed_session_is_a_blob_and_answers_for_a_while(store: Faces) {
    let (image, id) = (image(1, "app"), id(1));
    let digest = sha256("text");
    begin(&store, &image, &id).await;
    claim(&store, &image, &id, "a", LONG).await;
    store.registry.save_upload(&id, "a", &progress(4, "a"), Some(LONG)).await.unwrap();
    let closed = body(digest, "text", None);
    let closing = store.registry.close_upload(&image, &id, "a", &closed, None).await.unwrap();
    assert_eq!(closing, Linking::Linked);
    assert_eq!(linked(&store, &image, "text").await, Some(blob("text")));
    assert_eq!(store.registry.upload(&image, &id).await.unwrap(), Some(UploadState::Closed(digest)));
    assert_eq!(claim(&store, &image, &id, "b", LONG).await, Claim::Closed(digest));
    assert!(!store.registry.save_upload(&id, "a", &progress(9, "a"), None).await.unwrap());
    assert!(!store.registry.cancel_upload(&image, &id).await.unwrap());
    assert_eq!(ended(&store, LONG).await, [], "it is kept for who did not hear");
    let stored = Stored("stored a".into());
    let over = EndedUpload { id: id.clone(), stored, placed: false };
    assert_eq!(ended(&store, NONE).await, [over]);
    store.registry.forget_upload(&id).await.unwrap();
    assert_eq!(store.registry.upload(&image, &id).await.unwrap(), None);
    assert_eq!(linked(&store, &image, "text").await, Some(blob("text")), "the blob stays");
}

async fn rs_67_sessions_and_their_bytes_are_bounded(store: Faces) {
    let app = image(1, "app");
    let begin = async |image: &ImageKey, number, sessions, quota| {
        store.registry.begin_upload(image, &id(number), &UploadLimits { sessions, quota }).await.unwrap()
    };
    assert_eq!(begin(&app, 1, 2, Some(10)).await, Begun::Started);
    assert_eq!(begin(&image(1, "other"), 2, 2, Some(10)).await, Begun::Started);
    assert_eq!(
        begin(&image(1, "third"), 3, 2, Some(10)).await,
        Begun::TooMany,
        "it is the Local that counts"
    );
    assert_eq!(begin(&image(2, "app"), 4, 2, Some(10)).await, Begun::Started, "each for itself");
    claim(&store, &app, &id(1), "a", LONG).await;
    store.registry.save_upload(&id(1), "a", &progress(6, "a"), Some(LONG)).await.unwrap();
    let has_room = async |more, quota| store.registry.has_room(RepoId(1), more, quota).await.unwrap();
    assert_eq!((has_room(4, 10).await, has_room(5, 10).await), (true, false));
    assert!(!has_room(u64::MAX, u64::MAX - 1).await);
    push(&store, &app, "four").await;
    assert_eq!((has_room(0, 10).await, has_room(1, 10).await), (true, false), "blobs count too");
    assert_eq!(begin(&app, 5, 9, Some(10)).await, Begun::OverQuota);
    assert_eq!(begin(&app, 5, 9, Some(11)).await, Begun::Started);
    assert!(store.registry.cancel_upload(&app, &id(1)).await.unwrap());
    assert_eq!((has_room(6, 10).await, has_room(7, 10).await), (true, false), "ended ones do not");
    assert_eq!(begin(&app, 6, 3, Some(10)).await, Begun::Started, "nor are they open");
}

async fn rs_67_idle_sessions_end(store: Faces) {
    let image = image(1, "app");
    for number in 1..=4 {
        begin(&store, &image, &id(number)).await;
    }
    claim(&store, &image, &id(4), "a", LONG).await;
    assert_eq!(ended(&store, LONG).await, []);
    let some = store.registry.ended_uploads(NONE, 2).await.unwrap();
    assert_eq!(some.len(), 2, "as many as were asked for");
    let mut all: Vec<UploadId> = ended(&store, NONE).await.into_iter().map(|ended| ended.id).collect();
    all.sort();
    assert_eq!(all, [id(1), id(2), id(3)], "somebody writes to the other one");
    assert_eq!(store.registry.upload(&image, &id(1)).await.unwrap(), None);
    assert_eq!(claim(&store, &image, &id(1), "a", LONG).await, Claim::Unknown);
    assert!(!store.registry.cancel_upload(&image, &id(1)).await.unwrap());
    let asked = [id(4), id(9), id(1)];
    assert_eq!(store.registry.known_uploads(&asked).await.unwrap(), [id(4), id(1)]);
    for number in [1, 2, 3, 4, 9] {
        store.registry.forget_upload(&id(number)).await.unwrap();
    }
    assert_eq!(store.registry.known_uploads(&asked).await.unwrap(), [id(4)], "an open one is not forgotten");
    assert_eq!(ended(&store, NONE).await, []);
}

async fn a_cancelled_session_is_gone(store: Faces) {
    let image = image(1, "app");
    begin(&store, &image, &id(1)).await;
    claim(&store, &image, &id(1), "a", LONG).await;
    store.registry.save_upload(&id(1), "a", &progress(6, "a"), Some(LONG)).await.unwrap();
    assert!(store.registry.cancel_upload(&image, &id(1)).await.unwrap(), "whoever has claimed it");
    assert!(!store.registry.cancel_upload(&image, &id(1)).await.unwrap());
    assert_eq!(store.registry.upload(&image, &id(1)).await.unwrap(), None);
    assert!(!store.registry.save_upload(&id(1), "a", &progress(7, "a"), Some(LONG)).await.unwrap());
    let text = body(sha256("text"), "text", None);
    let closing = store.registry.close_upload(&image, &id(1), "a", &text, None).await.unwrap();
    assert_eq!(closing, Linking::Missing);
    let over = EndedUpload { id: id(1), stored: Stored("stored a".into()), placed: false };
    assert_eq!(ended(&store, LONG).await, [over], "its bytes are dropped soon");
}
