//! What a running proxy does for itself now and then. Failures are logged and tried again the next time.

pub mod collection;
pub mod notices;
pub mod observations;
pub mod room;

use std::{future::Future, sync::Arc, time::Duration};

use artifactapi_engine::scrub::scrub;
use artifactapi_model::{
    Timestamp,
    ports::{BlobStore, MetadataStore},
};
use tokio_util::sync::CancellationToken;

use self::{collection::Collection, room::Room};
use crate::App;

/// How often last uses are written down.
const USES_PERIOD: Duration = Duration::from_secs(60);
/// When rarer work begins after the start, so that a proxy that is restarted daily does it too.
const SOON: Duration = Duration::from_secs(600);
/// How often old access records are looked for.
const ACCESS_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Age at which access records go.
const ACCESS_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often all stored bytes are read and hashed again (RS-11).
const SCRUB_PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// At which pace, in bytes per second; meant to be small beside serving, not yet measured.
const SCRUB_PACE: u64 = 16 << 20;

/// Does all of it until `stop`; room on the disk is kept where bytes have no other place.
pub async fn run(
    app: Arc<App>,
    metadata: Arc<dyn MetadataStore>,
    blobs: Arc<dyn BlobStore>,
    collection: Collection,
    room: Option<Room>,
    stop: CancellationToken,
) {
    let uses = every(USES_PERIOD, USES_PERIOD, || async {
        if let Err(error) = app.engine.record_uses().await {
            tracing::warn!(error = %error, "last uses could not be written down");
        }
        if let Err(error) = app.gate.record_uses().await {
            tracing::warn!(error = %error, "last uses of tokens could not be written down");
        }
    });
    let access = every(SOON, ACCESS_PERIOD, || async {
        let age = i64::try_from(ACCESS_AGE.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(app.clock.now().0.saturating_sub(age));
        if let Err(error) = metadata.expire_access_log(before).await {
            tracing::warn!(error = %error, "old access records could not be dropped");
        }
    });
    let scrubs = every(SOON, SCRUB_PERIOD, || async {
        match scrub(&*blobs, SCRUB_PACE, true).await {
            Ok(scrubbed) => tracing::info!(
                blobs = scrubbed.blobs,
                size_bytes = scrubbed.bytes,
                damaged = scrubbed.damaged.len(),
                unread = scrubbed.unread,
                "all stored blobs were read again"
            ),
            Err(error) => tracing::warn!(error = %error, "stored blobs could not be read again"),
        }
    });
    let collections = async {
        collection.resume(&app).await;
        let interval = collection.schedule.interval;
        every(SOON.min(interval), interval, || collection.run(&app)).await;
    };
    let rooms = async {
        if let Some(room) = room {
            // In a place of its own: it is the largest of them.
            Box::pin(room.keep(&app)).await;
        }
    };
    // None of them ends by itself, unless there is nothing to do.
    stop.run_until_cancelled(async { tokio::join!(uses, access, scrubs, collections, rooms) }).await;
}

/// Calls `work` after `first` and then once a `period`.
async fn every<F: Future<Output = ()>>(first: Duration, period: Duration, mut work: impl FnMut() -> F) {
    tokio::time::sleep(first).await;
    loop {
        work().await;
        tokio::time::sleep(period).await;
    }
}
