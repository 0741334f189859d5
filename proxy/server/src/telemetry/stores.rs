//! What the stores count of themselves, on the metrics page.

use std::sync::Arc;

use artifactapi_stores::{BlobCounts, BlobTally, SqlStatements};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
};

/// The stores' own counters; hand them over when the stores are opened.
#[derive(Clone, Debug, Default)]
pub struct StoreCounts {
    /// SQL statements by operation.
    pub sql: Arc<SqlStatements>,
    /// Calls of the blob store.
    pub blobs: Arc<BlobTally>,
}

impl Collector for StoreCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "SQL statements by what they were executed for";
        family(&mut encoder, "sql_statements", help, "operation", self.sql.by_operation())?;
        let BlobCounts { stages, opens, sizes, lists, removals, reads, read_bytes: _ } = self.blobs.counts();
        let calls = [
            ("stage", stages),
            ("open", opens),
            ("size", sizes),
            ("list", lists),
            ("remove", removals),
            ("read", reads),
        ];
        family(&mut encoder, "blob_calls", "Calls of the blob store", "call", calls.into_iter())
    }
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
