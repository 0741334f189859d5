//! Before bytes go to the blob store, the collector is told: from then on it leaves them alone (RS-114).

use std::time::Duration;

use artifactapi_model::{
    Digest, Hold,
    ports::{MetadataError, metadata::Announced},
};
use tokio::time::{Instant, sleep};

use crate::{Engine, error::FetchError};

/// How long to wait for a collector that is deleting the very blob.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

impl Engine {
    /// Announces a blob that is about to be put. One that is being deleted at this moment is waited for: put
    /// now, its bytes could go with the old ones. The result lives until a row names the blob.
    pub(crate) async fn announce(&self, digest: &Digest, size: u64) -> Result<Hold, FetchError> {
        let hold = self.ports.metadata.hold(digest);
        let late = Instant::now() + PATIENCE;
        loop {
            if self.ports.metadata.announce_blob(digest, size).await? == Announced::Kept {
                return Ok(hold);
            }
            if Instant::now() >= late {
                let message = format!("blob {digest} is being deleted");
                return Err(MetadataError::Failed { doing: "announcing a blob", message }.into());
            }
            sleep(PAUSE).await;
        }
    }
}
