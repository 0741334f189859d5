use std::time::Duration;

use artifactapi_stores::{MemoryBlobs, MemoryMetadata};
use tokio::time::timeout;

use super::*;
use crate::manifest::OCI_INDEX;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn large_manifests_wait_until_others_are_stored() {
    let (rows, blobs) = (Arc::new(MemoryMetadata::default()), Arc::new(MemoryBlobs::default()));
    let registry = Registry::new(rows.clone(), rows, Arc::new(blobs.uploads()), blobs);
    let manifest = |length| Bytes::from(format!(r#"{{"schemaVersion":2,"x":"{}"}}"#, "x".repeat(length)));
    let parse = |length| timeout(PATIENCE, registry.parse(manifest(length), Some(OCI_INDEX)));
    let mut stored = Vec::new();
    for _ in 0..PUSHED {
        stored.push(parse(LARGE).await.unwrap().unwrap());
    }
    assert!(parse(LARGE).await.is_err(), "one more is read");
    assert!(parse(LARGE / 2).await.unwrap().is_ok(), "a small one does not wait");
    stored.pop();
    assert!(parse(LARGE).await.unwrap().is_ok(), "there is room again");
}
