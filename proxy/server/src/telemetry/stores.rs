//! What the stores count of themselves, on the metrics page.

use std::sync::{Arc, OnceLock};

use artifactapi_stores::{
    BlobCounts, BlobTally, RedisCounts, RedisTally, S3Counts, SqlStatements, TierCounts, TieredBlobs,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// The stores' own counters; hand them over when the stores are opened.
#[derive(Clone, Default)]
pub struct StoreCounts {
    /// SQL statements by operation.
    pub sql: Arc<SqlStatements>,
    /// Calls of the blob store.
    pub blobs: Arc<BlobTally>,
    redis: Arc<OnceLock<Arc<RedisTally>>>,
    tiered: Arc<OnceLock<Arc<TieredBlobs>>>,
}

impl StoreCounts {
    /// Shows what is asked of Redis, too.
    pub fn watch_redis(&self, tally: Arc<RedisTally>) {
        // One process has one of them.
        let _ = self.redis.set(tally);
    }

    /// Shows what `blobs` counts, too.
    pub fn watch_blobs(&self, blobs: &Arc<TieredBlobs>) {
        // One process has one of them.
        let _ = self.tiered.set(blobs.clone());
    }
}

impl Collector for StoreCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "SQL statements by what they were executed for";
        family(&mut encoder, "sql_statements", help, "operation", self.sql.by_operation())?;
        let help = "Rows that made no sense and were taken as absent";
        let unreadable = encoder.encode_descriptor("sql_unreadable_rows", help, None, MetricType::Counter)?;
        ConstCounter::new(self.sql.unreadable()).encode(unreadable)?;
        let BlobCounts { stages, opens, sizes, lists, removals, reads, read_bytes: _ } = self.blobs.counts();
        let calls = [
            ("stage", stages),
            ("open", opens),
            ("size", sizes),
            ("list", lists),
            ("remove", removals),
            ("read", reads),
        ];
        family(&mut encoder, "blob_calls", "Calls of the blob store", "call", calls.into_iter())?;
        if let Some(redis) = self.redis.get() {
            encode_redis(&mut encoder, redis)?;
        }
        match self.tiered.get() {
            Some(tiered) => encode_tiered(&mut encoder, tiered),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for StoreCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreCounts")
            .field("sql", &self.sql)
            .field("blobs", &self.blobs)
            .finish_non_exhaustive()
    }
}

fn encode_redis(encoder: &mut DescriptorEncoder<'_>, redis: &RedisTally) -> Result<(), std::fmt::Error> {
    let RedisCounts {
        acquires,
        renewals,
        releases,
        puts,
        gets,
        deletes,
        publishes,
        failures,
        refused,
        foreign,
        sessions,
        local,
    } = redis.counts();
    let calls = [
        ("acquire", acquires),
        ("renew", renewals),
        ("release", releases),
        ("put", puts),
        ("get", gets),
        ("delete", deletes),
        ("publish", publishes),
    ];
    family(encoder, "redis_calls", "Calls of Redis", "call", calls.into_iter())?;
    let troubles = [("failed", failures), ("refused", refused), ("foreign", foreign), ("session", sessions)];
    let help =
        "Calls of Redis that failed or were not made, values there that are not ours, and sessions begun";
    family(encoder, "redis_events", help, "event", troubles.into_iter())?;
    let help = "Whether this replica works on its own since Redis does not answer";
    let mode = encoder.encode_descriptor("redis_local_mode", help, None, MetricType::Gauge)?;
    ConstGauge::new(i64::from(local)).encode(mode)
}

fn encode_tiered(encoder: &mut DescriptorEncoder<'_>, tiered: &TieredBlobs) -> Result<(), std::fmt::Error> {
    let S3Counts { gets, puts, heads, lists, deletes, multiparts, failures } = tiered.s3().tally().counts();
    let calls = [
        ("get", gets),
        ("put", puts),
        ("head", heads),
        ("list", lists),
        ("delete", deletes),
        ("multipart", multiparts),
        ("failed", failures),
    ];
    family(encoder, "s3_calls", "Requests to S3", "call", calls.into_iter())?;
    let TierCounts { hits, streams, throughs, evictions, damaged, bytes } = tiered.counts();
    let events = [
        ("hit", hits),
        ("stream", streams),
        ("through", throughs),
        ("eviction", evictions),
        ("damaged", damaged),
    ];
    family(encoder, "tier_events", "What the disk tier did", "event", events.into_iter())?;
    let help = "Bytes of copies in the disk tier";
    let size = encoder.encode_descriptor("tier_size", help, Some(&Unit::Bytes), MetricType::Gauge)?;
    ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)).encode(size)
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    counts: impl Iterator<Item = (&'static str, u64)>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in counts {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}
