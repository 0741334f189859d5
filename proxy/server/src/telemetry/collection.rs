//! What the collector has done, on the metrics page.

use std::{fmt, sync::Arc};

use artifactapi_engine::gc::{Numbers, Progress};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// The collector's own numbers.
#[derive(Clone, Debug, Default)]
pub struct CollectionCounts(pub Arc<Progress>);

/// Writes a counter that stands for itself.
pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    count: u64,
) -> Result<(), fmt::Error> {
    ConstCounter::new(count).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

impl Collector for CollectionCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Numbers {
            evicted,
            condemned,
            deleted,
            freed,
            strays,
            room_artifacts: _,
            room_bytes: _,
            runs,
            last,
            states,
        } = self.0.numbers();
        for (name, help, count) in [
            ("gc_evicted_artifacts", "Artifacts forgotten for the retention of their Remote", evicted),
            ("gc_condemned_blobs", "Blobs that nothing named for the grace period", condemned),
            ("gc_deleted_blobs", "Blobs deleted", deleted),
            ("gc_freed_bytes", "Bytes of deleted blobs", freed),
            ("gc_strays", "Blobs found in the blob store that the database did not know", strays),
        ] {
            counter(&mut encoder, name, help, count)?;
        }
        let help = "Collections that this process ended, well or not";
        let mut family = encoder.encode_descriptor("gc_runs", help, None, MetricType::Counter)?;
        for (outcome, count) in ["done", "failed"].into_iter().zip(runs) {
            ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        let help = "End of the last collection of this process, in seconds since 1970; 0 before the first";
        let gauge =
            encoder.encode_descriptor("gc_last_run_timestamp_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(last.cast_signed()).encode(gauge)?;
        let Some(states) = states else { return Ok(()) };
        let by_state =
            [("live", states.live), ("condemned", states.condemned), ("deleting", states.deleting)];
        for (name, help) in [
            ("blobs", "Blobs by state, as counted by the last collection of this process"),
            ("blob_bytes", "Their bytes"),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (state, total) in by_state {
                let value = if name == "blobs" { total.count } else { total.bytes };
                ConstGauge::new(value.cast_signed()).encode(family.encode_family(&[("state", state)])?)?;
            }
        }
        Ok(())
    }
}
