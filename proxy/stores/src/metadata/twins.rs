//! The memory twin as the model of SQLite and PostgreSQL: whatever is asked of both, in whatever order, they
//! answer alike.
//!
//! Keys, bodies and times come from small sets, so that operations meet each other. Two things are each
//! store's own and are compared by what they mean: fence numbers by their order, secrets by which name got
//! them first. The database is closed and opened again now and then; nobody may notice.

use std::sync::Arc;

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Mutability, PackageType, RepoName, Timestamp,
    ports::metadata::{AccessRecord, ArtifactPage, ArtifactRow, Committed, DerivedRow, MetadataStore},
    repository::RepoIdentity,
};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{MemoryMetadata, PostgresMetadata, SqliteMetadata, postgres, suite};

/// Repositories and epochs.
const PLACES: [(i64, i64); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];
const PATHS: [&str; 8] = ["", "a", "a/b", "a/b?x=1", "A", "a%_", "\u{e4}'\"", "b"];
const BODIES: [&str; 3] = ["one", "two", "three"];
const ALL: usize = 1_000;

/// One operation of the port. A `number` counts the fence numbers given so far.
#[derive(Clone, Debug)]
enum Operation {
    EnsureRepository {
        namespace: &'static str,
        package_type: PackageType,
        base_url: &'static str,
    },
    NextFetchSeq,
    Artifact(ArtifactKey),
    Commit {
        key: ArtifactKey,
        row: ArtifactRow,
        number: usize,
    },
    Confirm {
        key: ArtifactKey,
        digest: Digest,
        number: usize,
        at: i64,
        headers: Option<Vec<(String, String)>>,
    },
    Forget(ArtifactKey, Digest),
    Pinned(ArtifactKey),
    Unpin(ArtifactKey),
    Prefix {
        of: ArtifactKey,
        limit: usize,
    },
    Derived(Digest),
    PutDerived(Digest, DerivedRow),
    Secret(&'static str),
    SigningKey(&'static str, Option<&'static str>),
    Touch(Vec<(ArtifactKey, Timestamp)>),
    LogAccess(Vec<AccessRecord>),
    ExpireAccessLog(i64),
    ArtifactsAfter(Option<ArtifactKey>, usize),
    Referenced(Vec<Digest>),
    DerivedAfter(Option<Digest>, usize),
    ForgetDerived(Digest),
    /// Of the database alone.
    Reopen,
}

/// What a store answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Repository(RepoIdentity),
    /// Whether it is higher than all before.
    Number(bool),
    Row(Option<ArtifactRow>),
    Committed(Committed),
    Confirmed(bool),
    Digest(Option<Digest>),
    Paths(Vec<String>),
    Derived(Option<DerivedRow>),
    /// Which of the secrets given so far it is.
    Secret(usize),
    Text(Option<String>),
    Expired(u64),
    Page(ArtifactPage),
    Digests(Vec<Digest>),
    DerivedPage(Vec<(Digest, DerivedRow)>),
    Done,
}

/// A store under test, and what it gave that is its own.
struct Twin {
    store: Arc<dyn MetadataStore>,
    numbers: Vec<i64>,
    secrets: Vec<[u8; 32]>,
}

impl Twin {
    async fn new(store: Arc<dyn MetadataStore>) -> Self {
        let numbers = vec![store.next_fetch_seq().await.unwrap()];
        Twin { store, numbers, secrets: Vec::new() }
    }

    fn number(&self, at: usize) -> i64 {
        self.numbers[at % self.numbers.len()]
    }

    /// `row` with the place of its fence number instead.
    fn placed(&self, row: ArtifactRow) -> ArtifactRow {
        let place = self.numbers.iter().position(|number| *number == row.fetch_seq);
        ArtifactRow { fetch_seq: place.expect("a number that was given") as i64, ..row }
    }

    fn secret(&mut self, secret: [u8; 32]) -> usize {
        let known = self.secrets.iter().position(|known| *known == secret);
        known.unwrap_or_else(|| {
            self.secrets.push(secret);
            self.secrets.len() - 1
        })
    }

    async fn answer(&mut self, operation: Operation) -> Answer {
        use Operation::*;
        let store = self.store.clone();
        match operation {
            EnsureRepository { namespace, package_type, base_url } => {
                let name = RepoName::try_from("repo").unwrap();
                let identity = store.ensure_repository(namespace, &name, package_type, base_url).await;
                Answer::Repository(identity.unwrap())
            }
            NextFetchSeq => {
                let number = store.next_fetch_seq().await.unwrap();
                let rises = self.numbers.iter().all(|before| *before < number);
                self.numbers.push(number);
                Answer::Number(rises)
            }
            Artifact(key) => {
                let row = store.artifact(&key).await.unwrap();
                Answer::Row(row.map(|row| self.placed(row)))
            }
            Commit { key, row, number } => {
                let row = ArtifactRow { fetch_seq: self.number(number), ..row };
                Answer::Committed(store.commit_artifact(&key, &row).await.unwrap())
            }
            Confirm { key, digest, number, at, headers } => {
                let (number, at) = (self.number(number), Timestamp(at));
                let confirmed = store.confirm_artifact(&key, &digest, number, at, headers.as_deref()).await;
                Answer::Confirmed(confirmed.unwrap())
            }
            Forget(key, digest) => done(store.forget_artifact(&key, &digest).await),
            Pinned(key) => Answer::Digest(store.pinned(&key).await.unwrap()),
            Unpin(key) => done(store.unpin(&key).await),
            Prefix { of, limit } => {
                Answer::Paths(store.paths_with_prefix(of.repo, of.epoch, &of.path, limit).await.unwrap())
            }
            Derived(inputs) => Answer::Derived(store.derived(&inputs).await.unwrap()),
            PutDerived(inputs, row) => done(store.put_derived(&inputs, &row, Timestamp(1)).await),
            Secret(name) => {
                let secret = store.shared_secret(name).await.unwrap();
                Answer::Secret(self.secret(secret))
            }
            SigningKey(name, candidate) => Answer::Text(store.signing_key(name, candidate).await.unwrap()),
            Touch(uses) => done(store.touch(&uses).await),
            LogAccess(records) => done(store.log_access(&records).await),
            ExpireAccessLog(before) => {
                Answer::Expired(store.expire_access_log(Timestamp(before)).await.unwrap())
            }
            ArtifactsAfter(after, limit) => {
                let page = store.artifacts_after(after.as_ref(), limit).await.unwrap();
                Answer::Page(page.into_iter().map(|(key, row)| (key, self.placed(row))).collect())
            }
            Referenced(digests) => Answer::Digests(store.referenced(&digests).await.unwrap()),
            DerivedAfter(after, limit) => {
                Answer::DerivedPage(store.derived_after(after, limit).await.unwrap())
            }
            ForgetDerived(inputs) => done(store.forget_derived(&inputs).await),
            Reopen => Answer::Done,
        }
    }
}

fn done<E: std::fmt::Debug>(outcome: Result<(), E>) -> Answer {
    outcome.unwrap();
    Answer::Done
}

/// Mostly of one repository and origin, where prefixes and walks find something.
fn any_key() -> impl Strategy<Value = ArtifactKey> {
    let place = prop_oneof![4 => Just(PLACES[0]), 1 => prop::sample::select(&PLACES[1..])];
    (place, prop::sample::select(&PATHS[..])).prop_map(|(place, path)| key_at(place, path))
}

fn key_at((repo, epoch): (i64, i64), path: &str) -> ArtifactKey {
    ArtifactKey { epoch: Epoch(epoch), ..suite::key(repo, path) }
}

fn any_digest() -> impl Strategy<Value = Digest> {
    prop::sample::select(&BODIES[..]).prop_map(|body| Digest::of(body.as_bytes()))
}

fn any_headers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("(etag|link|content-type)".prop_map(String::from), "\\PC{0,6}"), 0..3)
}

fn any_row() -> impl Strategy<Value = ArtifactRow> {
    (
        prop::sample::select(&BODIES[..]),
        any::<[bool; 2]>(),
        any_headers(),
        0i64..4,
        any::<i64>(),
        any::<u64>(),
    )
        .prop_map(|(body, [is_immutable, verified], headers, stored_at, checked_at, size)| ArtifactRow {
            mutability: if is_immutable { Mutability::Immutable } else { Mutability::Mutable },
            headers: headers.into(),
            stored_at: Timestamp(stored_at),
            checked_at: Timestamp(checked_at),
            verified,
            size,
            ..suite::row(body, 0)
        })
}

fn any_derived() -> impl Strategy<Value = DerivedRow> {
    (any_digest(), any::<u64>(), prop::option::of((any_digest(), any::<u64>())), "\\PC{0,6}")
        .prop_map(|(digest, size, gzip, content_type)| DerivedRow { digest, size, gzip, content_type })
}

fn any_access() -> impl Strategy<Value = AccessRecord> {
    (0i64..6, "\\PC{0,6}", any::<u16>(), any::<u64>()).prop_map(|(at, text, status, number)| AccessRecord {
        at: Timestamp(at),
        repository: text.clone(),
        method: "GET".into(),
        path: text.clone(),
        status,
        outcome: "hit".into(),
        bytes: number,
        duration_us: number,
        client: text,
    })
}

fn any_operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let key = any_key;
    let repository = (
        prop::sample::select(vec!["default", "team"]),
        prop::sample::select(vec![PackageType::Npm, PackageType::Pypi]),
        prop::sample::select(vec!["https://a.test/", "https://b.test/"]),
    );
    let rows = prop_oneof![
        4 => (key(), any_row(), 0usize..8).prop_map(|(key, row, number)| Commit { key, row, number }),
        2 => (key(), any_digest(), 0usize..8, 0i64..9, prop::option::of(any_headers()))
            .prop_map(|(key, digest, number, at, headers)| Confirm { key, digest, number, at, headers }),
        2 => Just(NextFetchSeq),
        2 => (key(), any_digest()).prop_map(|(key, digest)| Forget(key, digest)),
        1 => key().prop_map(Unpin),
        2 => key().prop_map(Artifact),
        2 => key().prop_map(Pinned),
        1 => (key(), 0usize..5).prop_map(|(of, limit)| Prefix { of, limit }),
        1 => (prop::option::of(key()), 0usize..5).prop_map(|(after, limit)| ArtifactsAfter(after, limit)),
    ];
    let rest = prop_oneof![
        repository.prop_map(|(namespace, package_type, base_url)| EnsureRepository {
            namespace,
            package_type,
            base_url
        }),
        any_digest().prop_map(Derived),
        (any_digest(), any_derived()).prop_map(|(inputs, row)| PutDerived(inputs, row)),
        any_digest().prop_map(ForgetDerived),
        (prop::option::of(any_digest()), 0usize..3).prop_map(|(after, limit)| DerivedAfter(after, limit)),
        prop::collection::vec(any_digest(), 0..4).prop_map(Referenced),
        prop::sample::select(vec!["links", "csrf"]).prop_map(Secret),
        (prop::sample::select(vec!["rsa", "pgp"]), prop::option::of(prop::sample::select(&BODIES[..])))
            .prop_map(|(name, candidate)| SigningKey(name, candidate)),
        prop::collection::vec((key(), (0i64..9).prop_map(Timestamp)), 0..3).prop_map(Touch),
        prop::collection::vec(any_access(), 0..3).prop_map(LogAccess),
        (0i64..7).prop_map(ExpireAccessLog),
        Just(Reopen),
    ];
    prop_oneof![2 => rows, 1 => rest]
}

/// Everything there is, so that a difference nobody asked about is seen too.
fn inventory() -> Vec<Operation> {
    let keys = || PLACES.into_iter().flat_map(|place| PATHS.map(|path| key_at(place, path)));
    let bodies = BODIES.map(|body| Digest::of(body.as_bytes())).to_vec();
    let walks = [
        Operation::ArtifactsAfter(None, ALL),
        Operation::DerivedAfter(None, ALL),
        Operation::Referenced(bodies),
        Operation::ExpireAccessLog(i64::MAX),
    ];
    let prefixes = keys().map(|of| Operation::Prefix { of, limit: ALL });
    walks.into_iter().chain(keys().map(Operation::Pinned)).chain(prefixes).collect()
}

/// Asks memory and the database that `open` opens.
async fn compare(
    operations: Vec<Operation>,
    open: impl AsyncFn() -> Arc<dyn MetadataStore>,
) -> Result<(), TestCaseError> {
    let mut memory = Twin::new(Arc::new(MemoryMetadata::default())).await;
    let mut database = Twin::new(open().await).await;
    for operation in operations.into_iter().chain(inventory()) {
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
    fn rs_82_sqlite_and_its_memory_twin_answer_alike(operations in prop::collection::vec(any_operation(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = artifactapi_services::scratch();
        let path = dir.path().join("metadata.db");
        let open = async || Arc::new(SqliteMetadata::open(&path, Arc::default()).await.unwrap()) as Arc<dyn MetadataStore>;
        runtime.block_on(compare(operations, open))?;
    }
}

#[test]
fn rs_82_postgresql_and_its_memory_twin_answer_alike() {
    let Some(server) = postgres::tests::Server::start("rs_82_postgresql_and_its_memory_twin_answer_alike")
    else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let settings = server.database();
    runtime.block_on(PostgresMetadata::migrate(&settings)).unwrap();
    // Round trips cost more than they do in a file.
    let whole = ProptestConfig::default();
    let config = ProptestConfig { cases: whole.cases.div_ceil(8), failure_persistence: None, ..whole };
    let operations = prop::collection::vec(any_operation(), 1..40);
    let outcome = TestRunner::new(config).run(&operations, |operations| {
        server.empty(&settings);
        let open = async || postgres::tests::open(settings.clone()).await as Arc<dyn MetadataStore>;
        runtime.block_on(compare(operations, open))
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
}
