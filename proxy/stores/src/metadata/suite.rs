//! What every metadata store must do. An adapter's test calls [`suite`] with a function that makes an empty
//! store.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

mod keys;

use std::sync::Arc;

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Mutability, PackageType, RepoId, RepoName, Timestamp,
    ports::metadata::{AccessRecord, ArtifactRow, Committed, DerivedRow, MetadataStore},
};

/// Runs everything; `make` returns an empty store each time.
pub async fn suite(make: impl AsyncFn() -> Arc<dyn MetadataStore>) {
    repositories_keep_their_identity(&*make().await).await;
    rows_come_back_as_they_were(&*make().await).await;
    fetch_numbers_rise(make().await).await;
    rs_82_a_commit_is_fenced(&*make().await).await;
    rs_82_a_confirmation_is_fenced(&*make().await).await;
    rs_08_the_first_digest_of_an_immutable_is_the_truth(&*make().await).await;
    rs_08_one_of_two_first_digests_wins(make().await).await;
    forgetting_takes_only_what_was_meant(&*make().await).await;
    prefixes_find_the_newest_first(&*make().await).await;
    the_longest_paths_are_keys_like_any(&*make().await).await;
    walks_page_in_order(&*make().await).await;
    derived_documents_are_kept_once(&*make().await).await;
    referenced_names_every_kind_of_row(&*make().await).await;
    secrets_are_made_once(make().await).await;
    keys::the_first_signing_key_stays(make().await).await;
    the_access_log_expires(&*make().await).await;
    uses_of_unknown_keys_are_skipped(&*make().await).await;
}

/// A key in the first origin of repository `repo`.
pub fn key(repo: i64, path: &str) -> ArtifactKey {
    ArtifactKey { repo: RepoId(repo), epoch: Epoch(1), path: path.into() }
}

/// A mutable row of the body `body`.
pub fn row(body: &str, fetch_seq: i64) -> ArtifactRow {
    ArtifactRow {
        digest: Digest::of(body.as_bytes()),
        size: body.len() as u64,
        mutability: Mutability::Mutable,
        headers: [("content-type".to_owned(), "text/plain".to_owned())].into(),
        source_url: "https://up.test/x".into(),
        verified: false,
        stored_at: Timestamp(1_000),
        checked_at: Timestamp(1_000),
        fetch_seq,
    }
}

fn immutable(body: &str, fetch_seq: i64) -> ArtifactRow {
    ArtifactRow { mutability: Mutability::Immutable, ..row(body, fetch_seq) }
}

fn derived_row(body: &str, gzip: Option<&str>) -> DerivedRow {
    DerivedRow {
        digest: Digest::of(body.as_bytes()),
        size: body.len() as u64,
        gzip: gzip.map(|gzip| (Digest::of(gzip.as_bytes()), gzip.len() as u64)),
        content_type: "application/json".into(),
    }
}

async fn repositories_keep_their_identity(store: &dyn MetadataStore) {
    let name = RepoName::try_from("pypi").unwrap();
    let ensure = async |namespace: &str, package_type, url: &str| {
        store.ensure_repository(namespace, &name, package_type, url).await.unwrap()
    };
    let first = ensure("default", PackageType::Pypi, "https://a.test/").await;
    assert_eq!(ensure("default", PackageType::Pypi, "https://a.test/").await, first, "adopted");
    let moved = ensure("default", PackageType::Pypi, "https://b.test/").await;
    assert_eq!(moved.id, first.id);
    assert!(moved.epoch > first.epoch, "another origin is another epoch");
    let back = ensure("default", PackageType::Pypi, "https://a.test/").await;
    assert!(back.epoch > moved.epoch, "an epoch never comes back");
    let other_type = ensure("default", PackageType::Npm, "https://a.test/").await;
    assert_ne!(other_type.id, first.id);
    let other_namespace = ensure("team", PackageType::Pypi, "https://a.test/").await;
    assert!(other_namespace.id != first.id && other_namespace.id != other_type.id);
    assert_eq!(ensure("default", PackageType::Pypi, "https://a.test/").await, back, "same type, same row");
}

async fn rows_come_back_as_they_were(store: &dyn MetadataStore) {
    assert_eq!(store.artifact(&key(1, "a")).await.unwrap(), None);
    let full = ArtifactRow {
        size: (1 << 53) + 1,
        headers: [
            ("link".to_owned(), "</a>; rel=next".to_owned()),
            ("link".to_owned(), "\"quoted\", ünïcode".to_owned()),
        ]
        .into(),
        verified: true,
        stored_at: Timestamp(-5),
        checked_at: Timestamp(i64::MAX),
        ..immutable("x", 7)
    };
    let bare = ArtifactRow { headers: [].into(), source_url: String::new(), ..row("", 1) };
    let paths = ["a", "a/", "a?x=1&y=%2F", "ä/'\"\\%_", ""];
    for (path, row) in paths.iter().flat_map(|path| [(path, &bare), (path, &full)]) {
        assert_eq!(store.commit_artifact(&key(1, path), row).await.unwrap(), Committed::Stored);
        assert_eq!(store.artifact(&key(1, path)).await.unwrap().as_ref(), Some(row), "{path:?}");
    }
    assert_eq!(store.artifact(&key(2, "a")).await.unwrap(), None, "another repository");
    let other_epoch = ArtifactKey { epoch: Epoch(2), ..key(1, "a") };
    assert_eq!(store.artifact(&other_epoch).await.unwrap(), None, "another origin");
    assert_eq!(store.artifact(&key(1, "A")).await.unwrap(), None, "case matters");
}

async fn fetch_numbers_rise(store: Arc<dyn MetadataStore>) {
    let mut last = store.next_fetch_seq().await.unwrap();
    for _ in 0..2_500 {
        let next = store.next_fetch_seq().await.unwrap();
        assert!(next > last);
        last = next;
    }
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.next_fetch_seq().await.unwrap() })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.unwrap());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 16, "no number is given twice");
    assert!(seen[0] > last);
}

async fn rs_82_a_commit_is_fenced(store: &dyn MetadataStore) {
    let key = key(1, "index");
    assert_eq!(store.commit_artifact(&key, &row("new", 10)).await.unwrap(), Committed::Stored);
    assert_eq!(store.commit_artifact(&key, &row("late", 9)).await.unwrap(), Committed::Superseded);
    assert_eq!(store.artifact(&key).await.unwrap(), Some(row("new", 10)), "a stale fill changes nothing");
    let late = store.commit_artifact(&key, &immutable("late", 9)).await.unwrap();
    assert_eq!(late, Committed::Superseded);
    assert_eq!(store.pinned(&key).await.unwrap(), None, "not even the ledger");
    let again = store.commit_artifact(&key, &row("new", 10)).await.unwrap();
    assert_eq!(again, Committed::Stored, "a repeated commit is no error");
    assert_eq!(store.commit_artifact(&key, &row("newer", 11)).await.unwrap(), Committed::Stored);
    assert_eq!(store.artifact(&key).await.unwrap(), Some(row("newer", 11)));
}

async fn rs_82_a_confirmation_is_fenced(store: &dyn MetadataStore) {
    let (key, body) = (key(1, "index"), Digest::of(b"body"));
    assert!(
        !store.confirm_artifact(&key, &body, 99, Timestamp(5), None).await.unwrap(),
        "nothing to confirm"
    );
    store.commit_artifact(&key, &row("body", 10)).await.unwrap();
    assert!(!store.confirm_artifact(&key, &body, 9, Timestamp(5), None).await.unwrap());
    let other = Digest::of(b"another fill's");
    assert!(
        !store.confirm_artifact(&key, &other, 11, Timestamp(5), None).await.unwrap(),
        "it was not asked about"
    );
    assert_eq!(store.artifact(&key).await.unwrap(), Some(row("body", 10)));
    assert!(store.confirm_artifact(&key, &body, 10, Timestamp(5), None).await.unwrap());
    let want = ArtifactRow { checked_at: Timestamp(5), ..row("body", 10) };
    assert_eq!(store.artifact(&key).await.unwrap(), Some(want.clone()));
    let headers = [("etag".to_owned(), "\"2\"".to_owned())];
    assert!(store.confirm_artifact(&key, &body, 12, Timestamp(6), Some(&headers)).await.unwrap());
    let want = ArtifactRow { checked_at: Timestamp(6), fetch_seq: 12, headers: headers.into(), ..want };
    assert_eq!(store.artifact(&key).await.unwrap(), Some(want));
    let late = store.commit_artifact(&key, &row("older", 11)).await.unwrap();
    assert_eq!(late, Committed::Superseded, "a fill that began before the confirmation is late");
}

async fn rs_08_the_first_digest_of_an_immutable_is_the_truth(store: &dyn MetadataStore) {
    let key = key(1, "file.whl");
    let (first, other) = (Digest::of(b"first"), Digest::of(b"other"));
    assert_eq!(store.pinned(&key).await.unwrap(), None);
    assert_eq!(store.commit_artifact(&key, &immutable("first", 1)).await.unwrap(), Committed::Stored);
    assert_eq!(store.pinned(&key).await.unwrap(), Some(first));
    let mutated = store.commit_artifact(&key, &immutable("other", 2)).await.unwrap();
    assert_eq!(mutated, Committed::Pinned(first));
    assert_eq!(store.artifact(&key).await.unwrap(), Some(immutable("first", 1)), "nothing was stored");
    store.forget_artifact(&key, &first).await.unwrap();
    assert_eq!(store.pinned(&key).await.unwrap(), Some(first), "the ledger survives eviction");
    let mutated = store.commit_artifact(&key, &immutable("other", 3)).await.unwrap();
    assert_eq!(mutated, Committed::Pinned(first));
    assert_eq!(store.artifact(&key).await.unwrap(), None);
    assert_eq!(store.commit_artifact(&key, &immutable("first", 4)).await.unwrap(), Committed::Stored);
    store.unpin(&key).await.unwrap();
    store.unpin(&key).await.unwrap();
    assert_eq!(store.commit_artifact(&key, &immutable("other", 5)).await.unwrap(), Committed::Stored);
    assert_eq!(store.pinned(&key).await.unwrap(), Some(other));
    store.commit_artifact(&key, &row("changes", 6)).await.unwrap();
    assert_eq!(store.pinned(&key).await.unwrap(), Some(other), "a mutable row leaves the ledger alone");
}

async fn rs_08_one_of_two_first_digests_wins(store: Arc<dyn MetadataStore>) {
    for round in 0..10 {
        let tasks: Vec<_> = (1..=8)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    let key = key(1, &format!("file-{round}"));
                    store.commit_artifact(&key, &immutable(&format!("body {n}"), n)).await.unwrap()
                })
            })
            .collect();
        let mut stored = 0;
        for task in tasks {
            stored += usize::from(task.await.unwrap() == Committed::Stored);
        }
        assert_eq!(stored, 1);
        let key = key(1, &format!("file-{round}"));
        let pinned = store.pinned(&key).await.unwrap();
        assert_eq!(store.artifact(&key).await.unwrap().map(|row| row.digest), pinned);
    }
}

async fn forgetting_takes_only_what_was_meant(store: &dyn MetadataStore) {
    let key = key(1, "a");
    store.forget_artifact(&key, &Digest::of(b"body")).await.unwrap();
    store.commit_artifact(&key, &row("body", 1)).await.unwrap();
    store.forget_artifact(&key, &Digest::of(b"another")).await.unwrap();
    assert!(store.artifact(&key).await.unwrap().is_some(), "the row has moved on");
    store.forget_artifact(&key, &Digest::of(b"body")).await.unwrap();
    assert_eq!(store.artifact(&key).await.unwrap(), None);
}

async fn prefixes_find_the_newest_first(store: &dyn MetadataStore) {
    let last = "\u{10ffff}\u{10ffff}";
    let paths = [
        "idx",
        "idx/a",
        "idx/b?q=1",
        "idx/c",
        "idy",
        "IDX/a",
        "idx%",
        "id",
        "idx\u{10ffff}x",
        "ä",
        "äb",
        last,
    ];
    for (age, path) in paths.iter().enumerate() {
        let row = ArtifactRow { stored_at: Timestamp(age as i64), ..row("b", 1) };
        store.commit_artifact(&key(1, path), &row).await.unwrap();
        store.commit_artifact(&key(2, path), &row).await.unwrap();
    }
    let next_epoch = ArtifactKey { epoch: Epoch(2), ..key(1, "idx/z") };
    store.commit_artifact(&next_epoch, &row("b", 1)).await.unwrap();
    let found = async |prefix: &str, limit| {
        store.paths_with_prefix(RepoId(1), Epoch(1), prefix, limit).await.unwrap()
    };
    assert_eq!(found("idx/", 10).await, ["idx/c", "idx/b?q=1", "idx/a"]);
    assert_eq!(found("idx/", 2).await, ["idx/c", "idx/b?q=1"]);
    assert_eq!(found("idx/", 0).await, [""; 0]);
    assert_eq!(found("idx%", 10).await, ["idx%"], "a prefix is no pattern");
    assert_eq!(found("i_x", 10).await, [""; 0]);
    assert_eq!(found("ä", 10).await, ["äb", "ä"]);
    assert_eq!(found("idx\u{10ffff}", 10).await, ["idx\u{10ffff}x"]);
    assert_eq!(found("\u{10ffff}", 10).await, [last]);
    assert!(found("idx", 100).await.contains(&"idx\u{10ffff}x".into()), "the last character is one like any");
    assert_eq!(found("", 100).await.len(), paths.len());
    assert_eq!(found("none", 10).await, [""; 0]);
    let at_once = ArtifactRow { stored_at: Timestamp(99), ..row("b", 2) };
    for path in ["same/b", "same/a"] {
        store.commit_artifact(&key(1, path), &at_once).await.unwrap();
    }
    assert_eq!(found("same/", 10).await, ["same/a", "same/b"], "equally new: by path");
}

async fn the_longest_paths_are_keys_like_any(store: &dyn MetadataStore) {
    // Nothing that could be compressed, so that an index would have to hold it whole.
    let mut text: String = (0..128_u8).map(|n| Digest::of(&[n]).to_hex()).collect();
    text.truncate(8_000);
    let paths = [format!("{text}/a"), format!("{text}/b"), format!("x{text}"), "short".into()];
    for (seq, path) in paths.iter().enumerate() {
        let row = immutable(&seq.to_string(), seq as i64);
        assert_eq!(store.commit_artifact(&key(1, path), &row).await.unwrap(), Committed::Stored);
        let body = Digest::of(seq.to_string().as_bytes());
        store.touch(&[(key(1, path), Timestamp(9))]).await.unwrap();
        assert_eq!(store.artifact(&key(1, path)).await.unwrap(), Some(row.clone()));
        let start = store.begin_fetch(&key(1, path)).await.unwrap();
        assert_eq!((start.row, start.pinned), (Some(row), Some(body)));
        assert!(store.confirm_artifact(&key(1, path), &body, 9, Timestamp(7), None).await.unwrap());
    }
    let listed = async |prefix: &str| {
        let mut found = store.paths_with_prefix(RepoId(1), Epoch(1), prefix, 10).await.unwrap();
        found.sort();
        found
    };
    assert_eq!(listed(&text).await, paths[..2]);
    assert_eq!(listed(&format!("{text}/b")).await, paths[1..2]);
    assert_eq!(listed("x").await, paths[2..3]);
    let walk = store.artifacts_after(None, 10).await.unwrap();
    let walked: std::collections::BTreeSet<_> = walk.iter().map(|(key, _)| key.path.to_string()).collect();
    assert_eq!(walked, paths.iter().cloned().collect());
    let rest = store.artifacts_after(Some(&walk[1].0), 10).await.unwrap();
    assert_eq!(rest, walk[2..]);
    store.forget_artifact(&key(1, &paths[0]), &Digest::of(b"0")).await.unwrap();
    store.unpin(&key(1, &paths[1])).await.unwrap();
    assert_eq!(store.artifact(&key(1, &paths[0])).await.unwrap(), None);
    assert_eq!(store.pinned(&key(1, &paths[0])).await.unwrap(), Some(Digest::of(b"0")));
    assert_eq!(store.pinned(&key(1, &paths[1])).await.unwrap(), None);
}

async fn walks_page_in_order(store: &dyn MetadataStore) {
    let mut all = Vec::new();
    for n in 0..23_i64 {
        let epoch = Epoch(1 + n % 2);
        let path = ["b", "B", "a/x", "ä", "a", "a?z"][(n % 6) as usize];
        let key = ArtifactKey { repo: RepoId(n % 4), epoch, path: format!("{path}{n}").into() };
        store.commit_artifact(&key, &row("b", n)).await.unwrap();
        all.push((key, row("b", n)));
    }
    all.sort_by(|(a, _), (b, _)| (a.repo, a.epoch, &a.path).cmp(&(b.repo, b.epoch, &b.path)));
    for limit in [1, 5, 100] {
        let mut seen = Vec::new();
        loop {
            let after = seen.last().map(|(key, _): &(ArtifactKey, _)| key.clone());
            let page = store.artifacts_after(after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
}

async fn derived_documents_are_kept_once(store: &dyn MetadataStore) {
    let inputs = Digest::of(b"inputs");
    assert_eq!(store.derived(&inputs).await.unwrap(), None);
    let first = derived_row("first", Some("gzip"));
    store.put_derived(&inputs, &first, Timestamp(1)).await.unwrap();
    store.put_derived(&inputs, &derived_row("second", None), Timestamp(2)).await.unwrap();
    assert_eq!(store.derived(&inputs).await.unwrap(), Some(first), "the first stays");
    let plain = derived_row("plain", None);
    let others: Vec<Digest> = (0..20).map(|n: u8| Digest::of(&[n])).collect();
    for inputs in &others {
        store.put_derived(inputs, &plain, Timestamp(3)).await.unwrap();
        assert_eq!(store.derived(inputs).await.unwrap().as_ref(), Some(&plain));
    }
    let mut want = [others.as_slice(), &[inputs]].concat();
    want.sort_unstable();
    let mut seen: Vec<Digest> = Vec::new();
    loop {
        let page = store.derived_after(seen.last().copied(), 6).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|(inputs, _)| *inputs));
    }
    assert_eq!(seen, want);
    store.forget_derived(&inputs).await.unwrap();
    store.forget_derived(&inputs).await.unwrap();
    assert_eq!(store.derived(&inputs).await.unwrap(), None);
}

async fn referenced_names_every_kind_of_row(store: &dyn MetadataStore) {
    let digest = |text: &str| Digest::of(text.as_bytes());
    store.commit_artifact(&key(1, "a"), &immutable("artifact", 1)).await.unwrap();
    store.commit_artifact(&key(1, "b"), &immutable("evicted", 1)).await.unwrap();
    store.forget_artifact(&key(1, "b"), &digest("evicted")).await.unwrap();
    let derived = derived_row("document", Some("gzip"));
    store.put_derived(&digest("inputs"), &derived, Timestamp(1)).await.unwrap();
    let asked = ["artifact", "evicted", "document", "inputs", "gzip", "unknown"].map(digest);
    let named = store.referenced(&asked).await.unwrap();
    assert_eq!(named, ["artifact", "document", "gzip"].map(digest));
    assert_eq!(store.referenced(&[]).await.unwrap(), []);
}

async fn secrets_are_made_once(store: Arc<dyn MetadataStore>) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.shared_secret("urls").await.unwrap() })
        })
        .collect();
    let secret = store.shared_secret("urls").await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap(), secret);
    }
    assert_ne!(secret, [0; 32]);
    assert_ne!(store.shared_secret("other").await.unwrap(), secret);
}

async fn the_access_log_expires(store: &dyn MetadataStore) {
    let record = |at| AccessRecord {
        at: Timestamp(at),
        repository: "pypi".into(),
        method: "GET".into(),
        path: "simple/flask/".into(),
        status: 200,
        outcome: "hit".into(),
        bytes: 1 << 40,
        duration_us: 15,
        client: "::1".into(),
    };
    store.log_access(&[]).await.unwrap();
    let records: Vec<_> = (0..25_000).map(record).collect();
    store.log_access(&records).await.unwrap();
    assert_eq!(store.expire_access_log(Timestamp(24_990)).await.unwrap(), 24_990);
    assert_eq!(store.expire_access_log(Timestamp(24_990)).await.unwrap(), 0);
    assert_eq!(store.expire_access_log(Timestamp(i64::MAX)).await.unwrap(), 10);
}

async fn uses_of_unknown_keys_are_skipped(store: &dyn MetadataStore) {
    store.commit_artifact(&key(1, "a"), &row("body", 1)).await.unwrap();
    let uses = [(key(1, "a"), Timestamp(9)), (key(1, "unknown"), Timestamp(9))];
    store.touch(&uses).await.unwrap();
    store.touch(&[]).await.unwrap();
    assert_eq!(store.artifact(&key(1, "a")).await.unwrap(), Some(row("body", 1)));
    assert_eq!(store.artifact(&key(1, "unknown")).await.unwrap(), None);
}
