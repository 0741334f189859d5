//! Keys over a database in memory, in the hands of several replicas.

mod clients;

use std::time::Duration;

use artifactapi_stores::MemoryMetadata;
use futures_util::{FutureExt as _, future::join_all};

use super::*;

const KEY: &str = "a key of at least thirty-two characters";
const OTHER: &str = "another key of at least thirty-two characters";
/// Smaller than in service: they are made many times here.
const SMALL: usize = 2048;

fn sealer(key: &str) -> Option<Arc<Sealer>> {
    Some(Arc::new(Sealer::new(key).unwrap()))
}

fn with(store: &Arc<MemoryMetadata>, rest: AtRest) -> SigningKeys {
    SigningKeys::new(store.clone(), rest, SMALL)
}

fn replica(store: &Arc<MemoryMetadata>) -> SigningKeys {
    with(store, AtRest::shared(sealer(KEY)))
}

async fn stored(store: &MemoryMetadata) -> Vec<String> {
    let asked = join_all(["alpine", "openpgp"].map(|name| store.signing_key(name, None))).await;
    asked.into_iter().filter_map(Result::unwrap).collect()
}

async fn refused(keys: &SigningKeys) -> String {
    keys.public_keys().await.expect_err("there is a key").to_string()
}

#[tokio::test]
async fn replicas_that_begin_at_once_and_a_restart_have_the_same_keys() {
    let store = Arc::new(MemoryMetadata::default());
    let replicas = [replica(&store), replica(&store)];
    let found = join_all(replicas.iter().map(SigningKeys::public_keys)).await;
    let [one, two] = found.try_into().unwrap();
    let one = one.unwrap();
    assert_eq!(one, two.unwrap(), "both offered keys of their own");
    let again = replica(&store);
    assert_eq!(again.public_keys().await.unwrap(), one, "after a restart");
    let digest = Digest::of(b"an index");
    let mut signatures = Vec::new();
    for keys in replicas.iter().chain([&again]) {
        let signer = keys.signer().await.unwrap();
        assert_eq!(signer.rsa_name(), one.rsa_name);
        signatures.push((signer.rsa_sha256(&digest).unwrap(), signer.openpgp(b"an index").unwrap()));
    }
    assert!(signatures.iter().all(|made| *made == signatures[0]), "the same bytes whoever signs");
    let name = one.rsa_name.strip_prefix("artifactapi-").and_then(|name| name.strip_suffix(".rsa.pub"));
    assert!(name.is_some_and(|digits| digits.len() == 8), "{}", one.rsa_name);
}

#[tokio::test]
async fn what_is_stored_is_sealed_and_another_key_changes_nothing() {
    let store = Arc::new(MemoryMetadata::default());
    let public = replica(&store).public_keys().await.unwrap();
    let before = stored(&store).await;
    assert_eq!(before.len(), 2);
    for text in &before {
        assert!(text.starts_with("sealed:") && !text.contains("BEGIN"), "{}", &text[..40]);
    }
    let wrong = refused(&with(&store, AtRest::shared(sealer(OTHER)))).await;
    assert!(
        wrong.contains("ARTIFACTAPI_ENCRYPTION_KEY") && wrong.contains("another encryption key"),
        "{wrong}"
    );
    for keyless in [AtRest::shared(None), AtRest::private(None)] {
        let error = refused(&with(&store, keyless)).await;
        assert!(error.contains("ARTIFACTAPI_ENCRYPTION_KEY"), "{error}");
    }
    assert_eq!(stored(&store).await, before, "nobody has put another key there");
    assert_eq!(replica(&store).public_keys().await.unwrap(), public);
}

#[tokio::test]
async fn without_an_encryption_key_a_cluster_makes_none_and_a_standalone_proxy_does() {
    let store = Arc::new(MemoryMetadata::default());
    let error = refused(&with(&store, AtRest::shared(None))).await;
    assert!(error.starts_with("ARTIFACTAPI_ENCRYPTION_KEY is not set"), "{error}");
    assert_eq!(store.calls(), 0, "the database was not even asked");
    let public = with(&store, AtRest::private(None)).public_keys().await.unwrap();
    assert!(stored(&store).await.iter().all(|text| text.starts_with("-----BEGIN ")));
    let given_later = with(&store, AtRest::private(sealer(KEY)));
    assert_eq!(given_later.public_keys().await.unwrap(), public);
    let planted = refused(&replica(&store)).await;
    assert!(planted.contains("damaged"), "a cluster does not believe what is not sealed: {planted}");
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let store = Arc::new(MemoryMetadata::default());
    let keys = replica(&store);
    store.set_down(true);
    let error = refused(&keys).await;
    assert!(error.contains("database is unavailable"), "{error}");
    store.set_down(false);
    keys.public_keys().await.unwrap();
    store.set_down(true);
    keys.public_keys().await.expect("they are in memory now");
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_what_others_wait_for() {
    let store = Arc::new(MemoryMetadata::default());
    let keys = replica(&store);
    assert!(keys.public_keys().now_or_never().is_none(), "it takes a while");
    let waiting = (keys.public_keys(), keys.public_keys());
    let (one, two) =
        tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(waiting.0, waiting.1) })
            .await
            .unwrap();
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(store.calls(), 4, "each key was looked for and offered once");
}
