//! The memory twin as the model of SQLite and PostgreSQL for Locals of type docker: whatever is asked, in whatever
//! order, they answer alike.
//!
//! Everything comes from small sets, so that operations meet each other. Times are over at once or not before the test
//! ends; where the order of a list is that of times, lists are compared sorted.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    Digest, RepoId,
    oci::{Algorithm, ImageName, OciDigest, Reference, Tag},
    ports::{
        registry::{ClosedUpload, ImageKey, Manifest, NewManifest, NewTag, UploadLimits, UploadProgress},
        uploads::{Place, Stored, UploadId},
    },
};
use proptest::{prelude::*, sample::select, test_runner::TestRunner};

use super::{MemoryMetadata, PostgresMetadata, SqliteMetadata, postgres, registry_suite::Faces};

const IMAGES: [(i64, &str); 4] = [(1, "app"), (1, "other"), (2, "app"), (2, "a/b")];
const BLOBS: [&str; 3] = ["one", "three", "sixteen"];
/// Manifests: their text, the blobs and manifests they list, and their subject.
type Shape = (&'static str, &'static [&'static str], &'static [&'static str], Option<&'static str>);
const MANIFESTS: [Shape; 6] = [
    ("m", &["one", "three"], &[], None),
    ("n", &["three", "sixteen"], &[], None),
    ("empty", &[], &[], None),
    ("index", &[], &["m", "n"], None),
    ("signature", &["one"], &[], Some("m")),
    ("of index", &[], &["signature"], Some("index")),
];
const TAGS: [&str; 3] = ["latest", "v1", "A"];
const WRITERS: [&str; 2] = ["a", "b"];
const ALL: usize = 1_000;
const LONG: Duration = Duration::from_secs(3600);

/// One operation. Sessions are numbers of those begun so far; `over`: whether a time is over.
#[derive(Clone, Debug)]
enum Operation {
    Begin {
        image: ImageKey,
        sessions: u64,
        quota: Option<u64>,
    },
    Upload(ImageKey, usize),
    Claim {
        image: ImageKey,
        session: usize,
        writer: &'static str,
        over: bool,
    },
    Save {
        session: usize,
        writer: &'static str,
        offset: u64,
        lease: Option<bool>,
    },
    HasRoom {
        repo: i64,
        more: u64,
        quota: u64,
    },
    Close {
        image: ImageKey,
        session: usize,
        writer: &'static str,
        blob: Blob,
        placed: bool,
        quota: Option<u64>,
    },
    Cancel(ImageKey, usize),
    Ended {
        over: bool,
    },
    Forget(usize),
    Linked {
        image: ImageKey,
        blob: Blob,
        renew: bool,
    },
    Locals(Blob, usize),
    Mount {
        from: ImageKey,
        any: bool,
        to: ImageKey,
        blob: Blob,
        quota: Option<u64>,
    },
    Unlink(ImageKey, Blob),
    ExpireLinks {
        over: bool,
    },
    Settled(&'static str, usize),
    Retired {
        over: bool,
    },
    ForgetPlace(usize),
    Put {
        image: ImageKey,
        shape: Shape,
        tags: Vec<(&'static str, bool)>,
    },
    Tags {
        image: ImageKey,
        after: Option<&'static str>,
        limit: usize,
    },
    DeleteTag(ImageKey, &'static str),
    DeleteManifest {
        image: ImageKey,
        text: &'static str,
        tags: Vec<&'static str>,
    },
    Manifest {
        image: ImageKey,
        text: &'static str,
        renew: bool,
    },
    ExpireManifests {
        repo: i64,
        over: bool,
    },
    Purge(i64),
    Announce(&'static str),
    /// Condemns and claims.
    Collect,
    /// The bytes of what was claimed are gone.
    Drop(&'static str),
    /// Everything that can be read.
    Read(ImageKey),
    /// Of the database alone.
    Reopen,
}

/// A blob by one of its digests.
type Blob = (&'static str, Algorithm);

fn digest((text, algorithm): Blob) -> OciDigest {
    OciDigest::of(algorithm, text.as_bytes())
}

fn sha256(text: &str) -> OciDigest {
    OciDigest::of(Algorithm::Sha256, text.as_bytes())
}

fn id(session: usize) -> UploadId {
    UploadId::of((session as u128 + 1).to_be_bytes())
}

fn place(session: usize) -> Place {
    Place(format!("uploads/{}", id(session)))
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn time(over: bool) -> Duration {
    if over { Duration::ZERO } else { LONG }
}

fn new_manifest((text, blobs, children, subject): Shape, tags: &[(&str, bool)]) -> NewManifest {
    NewManifest {
        manifest: Manifest {
            digest: sha256(text),
            media_type: format!("application/{}", text.len()),
            body: text.into(),
        },
        artifact_type: subject.map(|_| text.to_owned()),
        annotations: [("text".to_owned(), text.to_owned())].into(),
        subject: subject.map(sha256),
        blobs: blobs.iter().copied().map(sha256).collect(),
        children: children.iter().copied().map(sha256).collect(),
        tags: tags.iter().map(|(text, immutable)| NewTag { tag: tag(text), immutable: *immutable }).collect(),
    }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list
}

/// A store under test.
struct Twin {
    store: Faces,
    begun: usize,
}

impl Twin {
    fn session(&self, number: usize) -> usize {
        number % self.begun.max(1)
    }

    /// What it answers, in words.
    #[expect(clippy::too_many_lines, reason = "one arm for every operation")]
    async fn answer(&mut self, operation: Operation) -> String {
        use Operation::*;
        let store = self.store.registry.clone();
        match operation {
            Begin { image, sessions, quota } => {
                let limits = UploadLimits { sessions, quota };
                self.begun += 1;
                words(store.begin_upload(&image, &id(self.begun - 1), &limits).await)
            }
            Upload(image, session) => words(store.upload(&image, &id(self.session(session))).await),
            Claim { image, session, writer, over } => {
                words(store.claim_upload(&image, &id(self.session(session)), writer, time(over)).await)
            }
            Save { session, writer, offset, lease } => {
                let (hashes, stored) = (format!("hashes {offset}"), Stored(format!("stored {offset}")));
                let progress = UploadProgress { offset, hashes, stored };
                let id = id(self.session(session));
                words(store.save_upload(&id, writer, &progress, lease.map(time)).await)
            }
            HasRoom { repo, more, quota } => words(store.has_room(RepoId(repo), more, quota).await),
            Close { image, session, writer, blob, placed, quota } => {
                let session = self.session(session);
                let body = ClosedUpload {
                    digest: digest(blob),
                    blob: Digest::of(blob.0.as_bytes()),
                    size: blob.0.len() as u64,
                    place: placed.then(|| place(session)),
                };
                words(store.close_upload(&image, &id(session), writer, &body, quota).await)
            }
            Cancel(image, session) => words(store.cancel_upload(&image, &id(self.session(session))).await),
            Ended { over } => {
                let ended = store.ended_uploads(time(over), ALL).await.unwrap();
                words::<_, ()>(Ok(sorted(ended.iter().map(|ended| format!("{ended:?}")).collect())))
            }
            Forget(session) => words(store.forget_upload(&id(self.session(session))).await),
            Linked { image, blob, renew } => words(store.linked(&image, &digest(blob), renew).await),
            Locals(blob, limit) => words(store.locals_with(&digest(blob), limit).await),
            Mount { from, any, to, blob, quota } => {
                let from = (from.repo, (!any).then_some(&from.name));
                words(store.mount(from, &to, &digest(blob), quota).await)
            }
            Unlink(image, blob) => words(store.unlink(&image, &digest(blob)).await),
            ExpireLinks { over } => {
                words(store.expire_links(time(over), ALL).await.map(|expired| expired.dropped))
            }
            Settled(text, session) => {
                let blob = Digest::of(text.as_bytes());
                words(store.settled(&blob, &place(self.session(session))).await)
            }
            Retired { over } => words(store.retired_places(time(over), ALL).await.map(sorted)),
            ForgetPlace(session) => words(store.forget_place(&place(self.session(session))).await),
            Put { image, shape, tags } => {
                words(store.put_manifest(&image, &new_manifest(shape, &tags)).await)
            }
            Tags { image, after, limit } => words(store.tags(&image, after, limit).await),
            DeleteTag(image, text) => words(store.delete_tag(&image, &tag(text)).await),
            DeleteManifest { image, text, tags } => {
                let tags: Vec<Tag> = tags.into_iter().map(tag).collect();
                words(store.delete_manifest(&image, &sha256(text), &tags).await)
            }
            Manifest { image, text, renew } => {
                words(store.manifest(&image, &Reference::Digest(sha256(text)), renew).await)
            }
            ExpireManifests { repo, over } => {
                words(store.expire_manifests(RepoId(repo), time(over), ALL).await)
            }
            Purge(repo) => {
                let mut rows = 0;
                while let gone @ 1.. = store.purge_local(RepoId(repo), 2).await.unwrap() {
                    rows += gone;
                }
                words::<_, ()>(Ok(rows))
            }
            Announce(text) => {
                let blob = Digest::of(text.as_bytes());
                words(self.store.metadata.announce_blob(&blob, text.len() as u64).await)
            }
            Collect => {
                let condemned = self.store.keeper.condemn_blobs(Duration::ZERO, ALL, false).await;
                let claimed = self.store.keeper.claim_blobs(Duration::ZERO, ALL).await;
                format!("{} {}", words(condemned.map(sorted)), words(claimed.map(sorted)))
            }
            Drop(text) => words(self.store.keeper.drop_blob(&Digest::of(text.as_bytes())).await),
            Read(image) => self.inventory(&image).await,
            Reopen => String::new(),
        }
    }

    /// All that an image and its Local have.
    async fn inventory(&self, image: &ImageKey) -> String {
        let store = &self.store.registry;
        let mut all = vec![
            words(store.local_usage(image.repo).await),
            words(store.images(image.repo, None, ALL).await),
            words(store.tags(image, None, ALL).await),
            words(store.placed(None, ALL).await),
            words(self.store.keeper.blob_states().await),
        ];
        let ids: Vec<UploadId> = (0..self.begun).map(id).collect();
        all.push(words(store.known_uploads(&ids).await));
        for text in BLOBS {
            let blob = Digest::of(text.as_bytes());
            all.push(words(store.place(&blob).await));
            all.push(words(self.store.metadata.referenced(&[blob]).await));
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                all.push(words(store.linked(image, &digest((text, algorithm)), false).await));
            }
        }
        for (text, ..) in MANIFESTS {
            all.push(words(store.manifest(image, &Reference::Digest(sha256(text)), false).await));
            all.push(words(store.tags_of(image, &sha256(text)).await));
            all.push(words(store.holding_tags(image, &sha256(text), None, ALL).await));
            all.push(words(store.referrers(image, &sha256(text), None, None, ALL).await));
        }
        for text in TAGS {
            all.push(words(store.manifest(image, &Reference::Tag(tag(text)), false).await));
        }
        all.join("\n")
    }
}

fn words<T: std::fmt::Debug, E: std::fmt::Debug>(answer: Result<T, E>) -> String {
    format!("{answer:?}")
}

fn any_image() -> impl Strategy<Value = ImageKey> {
    select(&IMAGES[..])
        .prop_map(|(repo, name)| ImageKey { repo: RepoId(repo), name: name.parse::<ImageName>().unwrap() })
}

fn any_blob() -> impl Strategy<Value = Blob> {
    let algorithm = prop_oneof![4 => Just(Algorithm::Sha256), 1 => Just(Algorithm::Sha512)];
    (select(&BLOBS[..]), algorithm)
}

fn any_quota() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![4 => Just(None), 1 => (0u64..20).prop_map(Some)]
}

fn any_text() -> impl Strategy<Value = &'static str> {
    select(MANIFESTS.map(|(text, ..)| text).to_vec())
}

fn any_operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let (image, blob, quota, over) = (any_image, any_blob, any_quota, any::<bool>);
    let (session, writer, repo) = (|| 0usize..4, || select(&WRITERS[..]), || 1i64..3);
    let uploads = prop_oneof![
        4 => (image(), prop_oneof![9 => Just(9u64), 1 => 0u64..3], quota())
            .prop_map(|(image, sessions, quota)| Begin { image, sessions, quota }),
        1 => (image(), session()).prop_map(|(image, session)| Upload(image, session)),
        4 => (image(), session(), writer(), over())
            .prop_map(|(image, session, writer, over)| Claim { image, session, writer, over }),
        2 => (session(), writer(), 0u64..6, prop::option::of(over()))
            .prop_map(|(session, writer, offset, lease)| Save { session, writer, offset, lease }),
        1 => (repo(), 0u64..9, 0u64..30).prop_map(|(repo, more, quota)| HasRoom { repo, more, quota }),
        4 => (image(), session(), writer(), blob(), over(), quota()).prop_map(
            |(image, session, writer, blob, placed, quota)| Close { image, session, writer, blob, placed, quota }
        ),
        1 => (image(), session()).prop_map(|(image, session)| Cancel(image, session)),
        1 => over().prop_map(|over| Ended { over }),
        1 => session().prop_map(Forget),
    ];
    let blobs = prop_oneof![
        1 => (image(), blob(), over()).prop_map(|(image, blob, renew)| Linked { image, blob, renew }),
        1 => (blob(), 0usize..3).prop_map(|(blob, limit)| Locals(blob, limit)),
        4 => (image(), over(), image(), blob(), quota())
            .prop_map(|(from, any, to, blob, quota)| Mount { from, any, to, blob, quota }),
        1 => (image(), blob()).prop_map(|(image, blob)| Unlink(image, blob)),
        1 => over().prop_map(|over| ExpireLinks { over }),
        1 => (select(&BLOBS[..]), session()).prop_map(|(text, session)| Settled(text, session)),
        1 => over().prop_map(|over| Retired { over }),
        1 => session().prop_map(ForgetPlace),
        1 => select(&BLOBS[..]).prop_map(Announce),
        1 => Just(Collect),
        1 => select(&BLOBS[..]).prop_map(Drop),
    ];
    let tags = || prop::collection::vec((select(&TAGS[..]), prop::bool::weighted(0.1)), 0..3);
    let manifests = prop_oneof![
        6 => (image(), select(&MANIFESTS[..]), tags())
            .prop_map(|(image, shape, tags)| Put { image, shape, tags }),
        1 => (image(), prop::option::of(select(vec!["", "A", "a", "v1\0x"])), 0usize..3)
            .prop_map(|(image, after, limit)| Tags { image, after, limit }),
        1 => (image(), select(&TAGS[..])).prop_map(|(image, tag)| DeleteTag(image, tag)),
        2 => (image(), any_text(), prop::collection::vec(select(&TAGS[..]), 0..3))
            .prop_map(|(image, text, tags)| DeleteManifest { image, text, tags }),
        1 => (image(), any_text(), over()).prop_map(|(image, text, renew)| Manifest { image, text, renew }),
        1 => (repo(), over()).prop_map(|(repo, over)| ExpireManifests { repo, over }),
        1 => image().prop_map(Read),
    ];
    prop_oneof![6 => uploads, 4 => blobs, 6 => manifests, 1 => Just(Reopen), 1 => repo().prop_map(Purge)]
}

/// A blob of each kind in the first images, so that random manifests find what they name.
fn beginning() -> Vec<Operation> {
    let [app, other, ..] =
        IMAGES.map(|(repo, name)| ImageKey { repo: RepoId(repo), name: name.parse().unwrap() });
    let mut operations = Vec::new();
    for image in [app, other] {
        for text in BLOBS {
            let (session, writer) = (operations.len() / 3, "a");
            operations.push(Operation::Begin { image: image.clone(), sessions: 99, quota: None });
            operations.push(Operation::Claim { image: image.clone(), session, writer, over: false });
            let (image, blob) = (image.clone(), (text, Algorithm::Sha256));
            operations.push(Operation::Close { image, session, writer, blob, placed: true, quota: None });
        }
    }
    operations
}

/// Asks memory and the database that `open` opens.
async fn compare(operations: Vec<Operation>, open: impl AsyncFn() -> Faces) -> Result<(), TestCaseError> {
    let mut memory = Twin { store: Faces::of(Arc::new(MemoryMetadata::default())), begun: 0 };
    let mut database = Twin { store: open().await, begun: 0 };
    let reads = IMAGES
        .map(|(repo, name)| Operation::Read(ImageKey { repo: RepoId(repo), name: name.parse().unwrap() }));
    for operation in beginning().into_iter().chain(operations).chain(reads) {
        if matches!(operation, Operation::Reopen) {
            // Closed before it is opened again, as by a restart.
            database.store = memory.store.clone();
            database.store = open().await;
        }
        let (want, got) = (memory.answer(operation.clone()).await, database.answer(operation.clone()).await);
        prop_assert_eq!(got, want, "the database (left) and the twin differ in {:?}", operation);
    }
    Ok(())
}

proptest! {
    // As many cases as `PROPTEST_CASES` says, or 256.
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn rs_113_sqlite_and_its_memory_twin_answer_alike(operations in prop::collection::vec(any_operation(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = artifactapi_services::scratch();
        let path = dir.path().join("metadata.db");
        let open = async || Faces::of(Arc::new(SqliteMetadata::open(&path, Arc::default()).await.unwrap()));
        runtime.block_on(compare(operations, open))?;
    }
}

#[test]
fn rs_113_postgresql_and_its_memory_twin_answer_alike() {
    let name = "rs_113_postgresql_and_its_memory_twin_answer_alike";
    let Some(server) = postgres::tests::Server::start(name) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings = server.database();
    runtime.block_on(PostgresMetadata::migrate(&settings)).unwrap();
    // Round trips cost more than they do in a file.
    let whole = ProptestConfig::default();
    let config = ProptestConfig { cases: whole.cases.div_ceil(8), failure_persistence: None, ..whole };
    let operations = prop::collection::vec(any_operation(), 1..60);
    let outcome = TestRunner::new(config).run(&operations, |operations| {
        server.empty(&settings);
        let open = async || Faces::of(postgres::tests::open(settings.clone()).await);
        runtime.block_on(compare(operations, open))
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
}
