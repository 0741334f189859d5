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
    /// Calls of Redis.
    pub redis: Arc<RedisTally>,
    tiered: Arc<OnceLock<Arc<TieredBlobs>>>,
}

impl StoreCounts {
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
        family(&mut encoder, "redis_calls", "Calls of Redis", "call", self.redis.by_call())?;
        let RedisCounts { failed, skipped, foreign, is_local } = self.redis.counts();
        let troubles = [("failed", failed), ("skipped", skipped), ("foreign", foreign)];
        let help = "Calls of Redis that failed or were left out, and values there that are not ours";
        family(&mut encoder, "redis_troubles", help, "trouble", troubles.into_iter())?;
        let help = "Whether this replica works on its own since Redis does not answer";
        let local = encoder.encode_descriptor("redis_local_mode", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(is_local)).encode(local)?;
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
