//! What every database must do for the collector and the command line. An adapter's test calls [`suite`] with a
//! function that makes an empty store and returns both its faces.
//!
//! Time is the database's, so the cases use grace periods that are over at once or not before the test ends.

#![expect(clippy::unwrap_used, reason = "a suite reports by panicking")]

mod at_once;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use artifactapi_model::{
    ArtifactKey, Digest, Epoch, Mutability, PackageType, RepoId, RepoName, Timestamp,
    ports::{
        Housekeeping, MetadataStore,
        housekeeping::{BlobStates, Change, Recorded, Selection, Total},
        metadata::{Announced, ArtifactRow, Committed, DerivedRow},
    },
};

pub use self::at_once::at_once_suite;
use super::suite::{key, row};
use crate::lock::once_free;

/// Over at once.
const NONE: Duration = Duration::ZERO;
/// Not over before the test ends.
const LONG: Duration = Duration::from_secs(3600);
const ALL: usize = 10_000;

/// Both faces of one store.
pub type Faces = (Arc<dyn MetadataStore>, Arc<dyn Housekeeping>);

/// Runs everything; `make` returns an empty store each time.
pub async fn suite(make: impl AsyncFn() -> Faces) {
    rs_114_an_announced_blob_is_kept_for_the_grace_period(make().await).await;
    rs_114_a_named_blob_is_never_condemned(make().await).await;
    rs_114_what_names_a_condemned_blob_brings_it_back(make().await).await;
    rs_114_a_blob_being_deleted_cannot_be_named(make().await).await;
    rs_114_an_announcement_and_a_collection_at_once(make().await).await;
    rs_97_a_half_deleted_blob_is_claimed_again(make().await).await;
    dry_runs_and_limits(make().await).await;
    blobs_are_listed_in_order(make().await).await;
    rs_115_strays_live_for_a_grace_period(make().await).await;
    rs_116_one_turn_at_a_time(make().await).await;
    rs_116_two_collectors_at_once_are_harmless(make().await).await;
    selections_mean_what_they_say(make().await).await;
    rs_08_changes_do_what_they_say(make().await).await;
    large_selections_are_changed_whole(make().await).await;
    retention_takes_the_least_recently_used(make().await).await;
    old_derived_documents_expire(make().await).await;
    retired_repositories_and_past_epochs_expire(make().await).await;
    repositories_are_found_by_name(make().await).await;
}

fn blob(text: &str) -> (Digest, u64) {
    (Digest::of(text.as_bytes()), text.len() as u64)
}

fn total(count: u64, bytes: u64) -> Total {
    Total { count, bytes }
}

async fn announce((metadata, _): &Faces, text: &str) -> Announced {
    let (digest, size) = blob(text);
    metadata.announce_blob(&digest, size).await.unwrap()
}

async fn commit((metadata, _): &Faces, path: &str, text: &str) {
    let committed = metadata.commit_artifact(&key(1, path), &row(text, 1)).await.unwrap();
    assert_eq!(committed, Committed::Stored);
}

async fn forget((metadata, _): &Faces, path: &str, text: &str) {
    metadata.forget_artifact(&key(1, path), &blob(text).0).await.unwrap();
}

/// Condemns all that can be, in the order of digests.
async fn condemn((_, keeper): &Faces, grace: Duration) -> Vec<(Digest, u64)> {
    let mut condemned = keeper.condemn_blobs(grace, ALL, false).await.unwrap();
    condemned.sort_unstable();
    condemned
}

async fn claim((_, keeper): &Faces, grace: Duration) -> Vec<(Digest, u64)> {
    let mut claimed = keeper.claim_blobs(grace, ALL).await.unwrap();
    claimed.sort_unstable();
    claimed
}

async fn states((_, keeper): &Faces) -> BlobStates {
    keeper.blob_states().await.unwrap()
}

fn sorted(mut blobs: Vec<(Digest, u64)>) -> Vec<(Digest, u64)> {
    blobs.sort_unstable();
    blobs
}

async fn rs_114_an_announced_blob_is_kept_for_the_grace_period(store: Faces) {
    assert_eq!(states(&store).await, BlobStates::default());
    assert_eq!(announce(&store, "body").await, Announced::Kept);
    let live = BlobStates { live: total(1, 4), ..Default::default() };
    assert_eq!(states(&store).await, live);
    assert_eq!(condemn(&store, LONG).await, []);
    assert_eq!(condemn(&store, NONE).await, [blob("body")]);
    assert_eq!(states(&store).await, BlobStates { condemned: total(1, 4), ..Default::default() });
    assert_eq!(condemn(&store, NONE).await, [], "it is condemned once");
    assert_eq!(claim(&store, LONG).await, [], "a second grace period must pass");
    assert_eq!(announce(&store, "body").await, Announced::Kept);
    assert_eq!(states(&store).await, live, "back to life");
    assert_eq!(claim(&store, NONE).await, []);
    assert_eq!(condemn(&store, LONG).await, [], "and kept for another grace period");
}

async fn rs_114_a_named_blob_is_never_condemned(store: Faces) {
    let (metadata, _) = &store;
    commit(&store, "a", "shared").await;
    commit(&store, "b", "shared").await;
    let document = DerivedRow {
        digest: blob("document").0,
        size: blob("document").1,
        gzip: Some(blob("gzip")),
        content_type: "text/html".into(),
    };
    let inputs = Digest::of(b"inputs");
    metadata.put_derived(&inputs, &document, Timestamp(1)).await.unwrap();
    let live = BlobStates { live: total(3, 6 + 8 + 4), ..Default::default() };
    assert_eq!(states(&store).await, live, "rows make the rows of their blobs");
    assert_eq!(condemn(&store, NONE).await, []);
    forget(&store, "a", "shared").await;
    assert_eq!(condemn(&store, NONE).await, [], "another row names it still");
    forget(&store, "b", "shared").await;
    assert_eq!(condemn(&store, LONG).await, [], "the commit announced it");
    assert_eq!(condemn(&store, NONE).await, [blob("shared")]);
    metadata.forget_derived(&inputs).await.unwrap();
    assert_eq!(condemn(&store, NONE).await, sorted(vec![blob("document"), blob("gzip")]));
    commit(&store, "c", "old").await;
    commit(&store, "c", "new").await;
    assert_eq!(condemn(&store, NONE).await, [blob("old")], "what was replaced");
}

async fn rs_114_what_names_a_condemned_blob_brings_it_back(store: Faces) {
    let (metadata, _) = &store;
    for text in ["artifact", "plain", "gzip", "nothing"] {
        announce(&store, text).await;
    }
    assert_eq!(condemn(&store, NONE).await.len(), 4);
    commit(&store, "a", "artifact").await;
    let document = DerivedRow {
        digest: blob("plain").0,
        size: blob("plain").1,
        gzip: Some(blob("gzip")),
        content_type: "text/html".into(),
    };
    metadata.put_derived(&Digest::of(b"inputs"), &document, Timestamp(1)).await.unwrap();
    assert_eq!(claim(&store, NONE).await, [blob("nothing")]);
    let want = BlobStates { live: total(3, 8 + 5 + 4), deleting: total(1, 7), ..Default::default() };
    assert_eq!(states(&store).await, want);
}

async fn rs_114_a_blob_being_deleted_cannot_be_named(store: Faces) {
    let (metadata, keeper) = &store;
    let (digest, size) = blob("body");
    announce(&store, "body").await;
    condemn(&store, NONE).await;
    keeper.drop_blob(&digest).await.unwrap();
    assert_eq!(states(&store).await.condemned.count, 1, "only what is being deleted is dropped");
    assert_eq!(claim(&store, NONE).await, [(digest, size)]);
    assert_eq!(announce(&store, "body").await, Announced::BeingDeleted);
    assert!(metadata.commit_artifact(&key(1, "a"), &row("body", 1)).await.is_err());
    assert_eq!(metadata.artifact(&key(1, "a")).await.unwrap(), None, "no row without its bytes");
    let immutable = ArtifactRow { mutability: Mutability::Immutable, ..row("body", 1) };
    assert!(metadata.commit_artifact(&key(1, "a"), &immutable).await.is_err());
    assert_eq!(metadata.pinned(&key(1, "a")).await.unwrap(), None, "nothing is recorded");
    announce(&store, "plain").await;
    for (plain, gzip) in [(blob("body"), None), (blob("plain"), Some(blob("body")))] {
        let (digest, size) = plain;
        let document = DerivedRow { digest, size, gzip, content_type: "text/html".into() };
        let inputs = Digest::of(b"inputs");
        assert!(metadata.put_derived(&inputs, &document, Timestamp(1)).await.is_err());
        assert_eq!(metadata.derived(&inputs).await.unwrap(), None);
    }
    keeper.drop_blob(&digest).await.unwrap();
    keeper.drop_blob(&digest).await.unwrap();
    assert_eq!(states(&store).await, BlobStates { live: total(1, 5), ..Default::default() });
    assert_eq!(announce(&store, "body").await, Announced::Kept, "it begins a new life");
    keeper.drop_blob(&digest).await.unwrap();
    commit(&store, "a", "body").await;
    assert_eq!(states(&store).await.live.count, 2);
}

async fn rs_114_an_announcement_and_a_collection_at_once(store: Faces) {
    for round in 0..50 {
        let text = format!("body {round}");
        announce(&store, &text).await;
        let fill = tokio::spawn({
            let (store, text) = (store.clone(), text.clone());
            async move {
                let (metadata, _) = &store;
                announce(&store, &text).await == Announced::Kept
                    && metadata.commit_artifact(&key(1, &text), &row(&text, 1)).await.is_ok()
            }
        });
        let collection = tokio::spawn({
            let store = store.clone();
            async move {
                condemn(&store, NONE).await;
                claim(&store, NONE).await
            }
        });
        let (named, claimed) = (fill.await.unwrap(), collection.await.unwrap());
        assert!(!(named && claimed.contains(&blob(&text))), "a named blob was claimed");
        let stored = store.0.artifact(&key(1, &text)).await.unwrap();
        assert_eq!(stored.is_some(), named);
    }
}

async fn rs_97_a_half_deleted_blob_is_claimed_again(store: Faces) {
    announce(&store, "first").await;
    condemn(&store, NONE).await;
    assert_eq!(claim(&store, NONE).await, [blob("first")]);
    // The collector dies here.
    assert_eq!(claim(&store, LONG).await, [blob("first")], "whoever comes next goes on at once");
    announce(&store, "second").await;
    condemn(&store, NONE).await;
    assert_eq!(store.1.claim_blobs(NONE, 1).await.unwrap(), [blob("first")], "that comes before new ones");
    assert_eq!(claim(&store, NONE).await, sorted(vec![blob("first"), blob("second")]));
}

async fn dry_runs_and_limits(store: Faces) {
    let (_, keeper) = &store;
    for text in ["a", "bb", "ccc"] {
        announce(&store, text).await;
    }
    commit(&store, "named", "dddd").await;
    let would = keeper.condemn_blobs(NONE, ALL, true).await.unwrap();
    assert_eq!(sorted(would), sorted(vec![blob("a"), blob("bb"), blob("ccc")]));
    assert_eq!(keeper.condemn_blobs(NONE, 2, true).await.unwrap().len(), 2);
    assert_eq!(states(&store).await.live, total(4, 10), "a dry run changes nothing");
    assert_eq!(keeper.condemn_blobs(NONE, 0, false).await.unwrap(), []);
    assert_eq!(keeper.condemn_blobs(NONE, 2, false).await.unwrap().len(), 2);
    assert_eq!(states(&store).await.condemned.count, 2);
    assert_eq!(keeper.condemn_blobs(NONE, 2, false).await.unwrap().len(), 1);
    assert_eq!(keeper.claim_blobs(NONE, 0).await.unwrap(), []);
    assert_eq!(keeper.claim_blobs(NONE, 2).await.unwrap().len(), 2);
    let after = states(&store).await;
    assert_eq!((after.live, after.condemned.count, after.deleting.count), (total(1, 4), 1, 2));
    assert_eq!(claim(&store, NONE).await.len(), 3);
}

async fn blobs_are_listed_in_order(store: Faces) {
    let (_, keeper) = &store;
    announce(&store, "deleting").await;
    condemn(&store, NONE).await;
    claim(&store, NONE).await;
    let mut all = Vec::new();
    for n in 0..10 {
        announce(&store, &format!("{n}")).await;
        all.push(blob(&format!("{n}")));
    }
    assert_eq!(keeper.condemn_blobs(NONE, 3, false).await.unwrap().len(), 3);
    all.sort_unstable();
    for limit in [1, 4, 100] {
        let mut seen: Vec<(Digest, u64)> = Vec::new();
        loop {
            let page = keeper.blobs_after(seen.last().map(|(digest, _)| *digest), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, all, "pages of {limit}");
    }
}

async fn rs_115_strays_live_for_a_grace_period(store: Faces) {
    let (_, keeper) = &store;
    commit(&store, "a", "named").await;
    announce(&store, "live").await;
    announce(&store, "condemned").await;
    announce(&store, "deleting").await;
    assert_eq!(condemn(&store, NONE).await.len(), 3);
    assert_eq!(announce(&store, "live").await, Announced::Kept);
    assert_eq!(announce(&store, "condemned").await, Announced::Kept);
    assert_eq!(claim(&store, NONE).await, [blob("deleting")]);
    assert_eq!(keeper.condemn_blobs(NONE, ALL, true).await.unwrap().len(), 2);
    let before = states(&store).await;
    let found = ["named", "live", "condemned", "deleting", "stray", "another"].map(blob);
    assert_eq!(keeper.take_up_strays(&found).await.unwrap(), 2);
    let after = states(&store).await;
    assert_eq!(after.condemned, total(2, 5 + 7), "those without a row");
    assert_eq!((after.live, after.deleting), (before.live, before.deleting), "and no others");
    assert_eq!(keeper.take_up_strays(&found).await.unwrap(), 0, "once");
    assert_eq!(keeper.take_up_strays(&[]).await.unwrap(), 0);
    assert_eq!(claim(&store, LONG).await, [blob("deleting")], "they are not old enough");
    commit(&store, "b", "another").await;
    assert_eq!(claim(&store, NONE).await, sorted(vec![blob("deleting"), blob("stray")]));
}

async fn rs_116_one_turn_at_a_time((_, keeper): Faces) {
    let turn = keeper.take_turn("collect").await.unwrap().expect("nobody has it");
    assert!(keeper.take_turn("collect").await.unwrap().is_none(), "it is taken");
    let other = keeper.take_turn("other").await.unwrap();
    assert!(other.is_some(), "other work has its own");
    drop(turn);
    let _again = once_free(async || keeper.take_turn("collect").await.unwrap()).await;
    assert!(keeper.take_turn("other").await.unwrap().is_none());
}

async fn rs_116_two_collectors_at_once_are_harmless(store: Faces) {
    let mut garbage = BTreeSet::new();
    for n in 0..60 {
        announce(&store, &format!("garbage {n}")).await;
        garbage.insert(blob(&format!("garbage {n}")));
        commit(&store, &format!("{n}"), &format!("named {n}")).await;
    }
    let collectors: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let (_, keeper) = &store;
                let (mut condemned, mut claimed) = (Vec::new(), BTreeSet::new());
                for _ in 0..20 {
                    condemned.extend(keeper.condemn_blobs(NONE, 7, false).await.unwrap());
                    for (digest, size) in keeper.claim_blobs(NONE, 7).await.unwrap() {
                        keeper.drop_blob(&digest).await.unwrap();
                        claimed.insert((digest, size));
                    }
                }
                (condemned, claimed)
            })
        })
        .collect();
    let (mut condemned, mut claimed) = (Vec::new(), BTreeSet::new());
    for collector in collectors {
        let (some, others) = collector.await.unwrap();
        condemned.extend(some);
        claimed.extend(others);
    }
    assert_eq!(condemned.len(), garbage.len(), "each is condemned by one of them");
    assert_eq!(condemned.into_iter().collect::<BTreeSet<_>>(), garbage);
    assert_eq!(claimed, garbage);
    let states = states(&store).await;
    assert_eq!((states.live.count, states.condemned.count, states.deleting.count), (60, 0, 0));
}

async fn selections_mean_what_they_say((metadata, keeper): Faces) {
    let paths = [
        "",
        "a",
        "a/",
        "a/b",
        "a/b?x=1",
        "a/bc",
        "A/b",
        "a%",
        "a%b",
        "a_",
        "a_b",
        "ab",
        "a\u{10ffff}",
        "a\u{10ffff}b",
        "a\u{10ffff}\u{10ffff}c",
        "\u{e4}",
        "\u{10ffff}",
        "\u{d7ff}x",
        "\u{e000}",
    ];
    let cases: Vec<Selection> = paths
        .iter()
        .chain(&["a\\", "none", "\u{d7ff}", "a\u{10ffff}\u{10ffff}"])
        .flat_map(|text| [Selection::Path((*text).to_owned()), Selection::Prefix((*text).to_owned())])
        .collect();
    for (number, selection) in cases.iter().enumerate() {
        let repo = number as i64 + 1;
        let elsewhere = [key(1_000 + repo, "a/b"), ArtifactKey { epoch: Epoch(2), ..key(repo, "a/b") }];
        for place in paths.iter().map(|path| key(repo, path)).chain(elsewhere.clone()) {
            metadata.commit_artifact(&place, &row("b", 1)).await.unwrap();
        }
        let is_meant = |path: &str| match selection {
            Selection::Path(exact) => path == exact,
            Selection::Prefix(prefix) => path.starts_with(prefix.as_str()),
        };
        let meant = paths.iter().filter(|path| is_meant(path)).count() as u64;
        if let Selection::Prefix(prefix) = selection {
            let found = metadata.paths_with_prefix(RepoId(repo), Epoch(1), prefix, ALL).await.unwrap();
            assert_eq!(found.len() as u64, meant, "paths with {prefix:?}");
        }
        let changed = keeper.change(RepoId(repo), Epoch(1), selection, Change::Evict).await.unwrap();
        assert_eq!(changed, meant, "{selection:?}");
        for path in paths {
            let left = metadata.artifact(&key(repo, path)).await.unwrap();
            assert_eq!(left.is_none(), is_meant(path), "{path:?} after {selection:?}");
        }
        for place in elsewhere {
            assert!(metadata.artifact(&place).await.unwrap().is_some(), "another repository or epoch");
        }
    }
}

async fn rs_08_changes_do_what_they_say((metadata, keeper): Faces) {
    let immutable = ArtifactRow { mutability: Mutability::Immutable, ..row("body", 1) };
    for path in ["a/1", "a/2", "b"] {
        metadata.commit_artifact(&key(1, path), &immutable).await.unwrap();
    }
    let change = async |prefix: &str, change| {
        keeper.change(RepoId(1), Epoch(1), &Selection::Prefix(prefix.into()), change).await.unwrap()
    };
    assert_eq!(change("a/", Change::Refresh).await, 2);
    let stored = metadata.artifact(&key(1, "a/1")).await.unwrap().unwrap();
    assert_eq!(stored, ArtifactRow { checked_at: Timestamp(0), ..immutable.clone() });
    assert_eq!(metadata.artifact(&key(1, "b")).await.unwrap(), Some(immutable.clone()));
    assert_eq!(change("a/", Change::Refresh).await, 2, "what was meant, not what is new");
    assert_eq!(change("a/", Change::Evict).await, 2);
    assert_eq!(change("a/", Change::Evict).await, 0);
    assert_eq!(metadata.pinned(&key(1, "a/1")).await.unwrap(), Some(immutable.digest), "the ledger stays");
    let other = ArtifactRow { mutability: Mutability::Immutable, ..row("other", 2) };
    let refused = metadata.commit_artifact(&key(1, "a/1"), &other).await.unwrap();
    assert_eq!(refused, Committed::Pinned(immutable.digest));
    assert_eq!(change("a/1", Change::Unpin).await, 1, "ledger entries, also of evicted artifacts");
    assert_eq!(metadata.commit_artifact(&key(1, "a/1"), &other).await.unwrap(), Committed::Stored);
    assert_eq!(change("b", Change::Unpin).await, 1);
    assert_eq!(metadata.artifact(&key(1, "b")).await.unwrap(), Some(immutable), "the row stays");
    assert_eq!(metadata.pinned(&key(1, "b")).await.unwrap(), None);
    assert_eq!(change("", Change::Unpin).await, 2);
}

async fn large_selections_are_changed_whole((metadata, keeper): Faces) {
    let immutable = ArtifactRow { mutability: Mutability::Immutable, ..row("body", 1) };
    let commits: Vec<_> = (0..1_203)
        .map(|n| {
            let (metadata, row) = (metadata.clone(), immutable.clone());
            tokio::spawn(async move {
                metadata.commit_artifact(&key(1, &format!("p/{n}")), &row).await.unwrap();
            })
        })
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
    for change in [Change::Refresh, Change::Evict, Change::Unpin] {
        let selection = Selection::Prefix("p/".into());
        let changed = keeper.change(RepoId(1), Epoch(1), &selection, change).await.unwrap();
        assert_eq!(changed, 1_203, "{change:?}");
    }
    assert_eq!(keeper.usage(RepoId(1), Epoch(1)).await.unwrap(), Total::default());
}

async fn retention_takes_the_least_recently_used((metadata, keeper): Faces) {
    let (repo, epoch) = (RepoId(1), Epoch(1));
    let order = async |limit| -> Vec<(String, u64)> {
        let found = keeper.least_used(repo, epoch, limit).await.unwrap();
        found.iter().map(|aged| (aged.key.path.to_string(), aged.size)).collect()
    };
    assert_eq!(order(ALL).await, []);
    assert_eq!(keeper.usage(repo, epoch).await.unwrap(), Total::default());
    for (path, text, at) in [("c", "333", 300), ("a", "1", 100), ("b", "22", 200), ("d", "22", 200)] {
        let row = ArtifactRow { checked_at: Timestamp(at), ..row(text, 1) };
        metadata.commit_artifact(&key(1, path), &row).await.unwrap();
        metadata.commit_artifact(&ArtifactKey { epoch: Epoch(2), ..key(1, path) }, &row).await.unwrap();
    }
    let named = |paths: &[(&str, u64)]| -> Vec<(String, u64)> {
        paths.iter().map(|(path, size)| ((*path).to_owned(), *size)).collect()
    };
    assert_eq!(keeper.usage(repo, epoch).await.unwrap(), total(4, 8), "counted as often as it is named");
    assert_eq!(order(ALL).await, named(&[("a", 1), ("b", 2), ("d", 2), ("c", 3)]));
    let first = keeper.least_used(repo, epoch, 1).await.unwrap().swap_remove(0);
    assert_eq!((first.digest, first.used_at), (blob("1").0, Timestamp(100)));
    metadata.touch(&[(key(1, "a"), Timestamp(400)), (key(1, "c"), Timestamp(50))]).await.unwrap();
    assert_eq!(order(3).await, named(&[("b", 2), ("d", 2), ("c", 3)]), "a use counts, an older one does not");
    let expire = async |before, limit| -> Vec<String> {
        let gone = keeper.expire_unused(repo, epoch, Timestamp(before), limit).await.unwrap();
        assert!(gone.iter().all(|key| (key.repo, key.epoch) == (repo, epoch)));
        gone.iter().map(|key| key.path.to_string()).collect()
    };
    assert_eq!(expire(200, ALL).await, [""; 0], "used then is not unused since then");
    assert_eq!(expire(201, 1).await, ["b"]);
    assert_eq!(
        expire(301, ALL).await.into_iter().collect::<BTreeSet<_>>(),
        ["c", "d"].map(str::to_owned).into()
    );
    assert_eq!(order(ALL).await, named(&[("a", 1)]));
    assert_eq!(metadata.artifact(&key(1, "b")).await.unwrap(), None);
    assert_eq!(keeper.usage(repo, Epoch(2)).await.unwrap(), total(4, 8), "another epoch");
}

async fn old_derived_documents_expire((metadata, keeper): Faces) {
    let made = [("a", 10), ("b", 20), ("c", 30)];
    for (text, at) in made {
        let (digest, size) = blob(text);
        let document = DerivedRow { digest, size, gzip: None, content_type: "text/html".into() };
        metadata.put_derived(&Digest::of(text.as_bytes()), &document, Timestamp(at)).await.unwrap();
    }
    let left = async || -> Vec<bool> {
        let mut left = Vec::new();
        for (text, _) in made {
            left.push(metadata.derived(&Digest::of(text.as_bytes())).await.unwrap().is_some());
        }
        left
    };
    assert_eq!(keeper.expire_derived(Timestamp(10), ALL).await.unwrap(), 0);
    assert_eq!(keeper.expire_derived(Timestamp(30), 1).await.unwrap(), 1);
    assert_eq!(left().await, [false, true, true], "the oldest first");
    assert_eq!(keeper.expire_derived(Timestamp(30), ALL).await.unwrap(), 1);
    assert_eq!(left().await, [false, false, true]);
}

async fn retired_repositories_and_past_epochs_expire((metadata, keeper): Faces) {
    let ensure = async |name: &str, url: &str| {
        let name = RepoName::try_from(name).unwrap();
        metadata.ensure_repository("default", &name, PackageType::Generic, url).await.unwrap()
    };
    let (stays, goes) = (ensure("stays", "https://a.test/").await, ensure("goes", "https://b.test/").await);
    let store = async |repo: RepoId, epoch| {
        for path in ["a", "b", "c"] {
            let place = ArtifactKey { repo, epoch, ..key(1, path) };
            metadata
                .commit_artifact(&place, &ArtifactRow { mutability: Mutability::Immutable, ..row("x", 1) })
                .await
                .unwrap();
        }
    };
    let count = async |repo, epoch| keeper.usage(repo, epoch).await.unwrap().count;
    store(stays.id, stays.epoch).await;
    store(goes.id, goes.epoch).await;
    assert_eq!(keeper.expire_retired(NONE, ALL).await.unwrap(), 0, "nobody said what is present");
    keeper.retire_others(&[stays.id, goes.id]).await.unwrap();
    assert_eq!(keeper.expire_retired(NONE, ALL).await.unwrap(), 0);
    keeper.retire_others(&[stays.id]).await.unwrap();
    keeper.retire_others(&[stays.id]).await.unwrap();
    assert_eq!(keeper.expire_retired(LONG, ALL).await.unwrap(), 0, "not retired for long");
    keeper.retire_others(&[stays.id, goes.id]).await.unwrap();
    assert_eq!(keeper.expire_retired(NONE, ALL).await.unwrap(), 0, "it came back");
    keeper.retire_others(&[stays.id]).await.unwrap();
    assert_eq!(ensure("goes", "https://b.test/").await, goes);
    assert_eq!(keeper.expire_retired(NONE, ALL).await.unwrap(), 0, "it is adopted again");
    keeper.retire_others(&[stays.id]).await.unwrap();
    assert_eq!(keeper.expire_retired(NONE, 2).await.unwrap(), 2);
    assert_eq!(keeper.expire_retired(NONE, ALL).await.unwrap(), 1);
    assert_eq!((count(stays.id, stays.epoch).await, count(goes.id, goes.epoch).await), (3, 0));
    let place = ArtifactKey { repo: goes.id, epoch: goes.epoch, ..key(1, "a") };
    assert!(metadata.pinned(&place).await.unwrap().is_some(), "the ledger stays");
    let moved = ensure("stays", "https://c.test/").await;
    store(moved.id, moved.epoch).await;
    assert_eq!(keeper.expire_retired(LONG, ALL).await.unwrap(), 3, "an epoch that is over");
    assert_eq!((count(stays.id, stays.epoch).await, count(moved.id, moved.epoch).await), (0, 3));
    keeper.retire_others(&[]).await.unwrap();
    assert_eq!(keeper.expire_retired(NONE, ALL).await.unwrap(), 3);
}

async fn repositories_are_found_by_name((metadata, keeper): Faces) {
    let name = |text: &str| RepoName::try_from(text).unwrap();
    let ensure = async |namespace: &str, text: &str, package_type, url: &str| {
        metadata.ensure_repository(namespace, &name(text), package_type, url).await.unwrap()
    };
    let first = ensure("default", "a", PackageType::Pypi, "https://a.test/").await;
    let other = ensure("team", "a", PackageType::Npm, "https://a.test/").await;
    let apart = ensure("default", "ab", PackageType::Npm, "https://a.test/").await;
    let moved = ensure("default", "a", PackageType::Pypi, "https://b.test/").await;
    assert_eq!(moved.id, first.id);
    keeper.retire_others(&[first.id, apart.id]).await.unwrap();
    let recorded = |namespace: &str, package_type, identity, retired| Recorded {
        namespace: namespace.to_owned(),
        package_type,
        identity,
        retired,
    };
    let mut want = vec![
        recorded("default", PackageType::Pypi, moved, false),
        recorded("team", PackageType::Npm, other, true),
    ];
    want.sort_by_key(|recorded| recorded.identity.id);
    assert_eq!(keeper.recorded(&name("a")).await.unwrap(), want);
    assert_eq!(keeper.recorded(&name("b")).await.unwrap(), []);
}
