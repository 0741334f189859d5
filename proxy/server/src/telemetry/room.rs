//! Room on the file system of a standalone proxy's data, on the metrics page.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use artifactapi_engine::gc::{Numbers, Progress};
use artifactapi_model::ports::Space;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Unit,
};

use super::collection::counter;

/// As last measured; a replica, whose bytes are elsewhere, measures nothing and shows nothing.
#[derive(Clone, Debug, Default)]
pub struct RoomCounts {
    measured: Arc<Mutex<Option<(Space, u64)>>>,
    progress: Arc<Progress>,
}

impl RoomCounts {
    /// Shows what `progress` says of artifacts that made room, too.
    pub fn new(progress: Arc<Progress>) -> Self {
        RoomCounts { measured: Arc::default(), progress }
    }

    /// Notes how much room there is, and how much there is to be.
    pub fn note(&self, space: Space, floor: u64) {
        *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = Some((space, floor));
    }
}

impl Collector for RoomCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let measured = *self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((Space { free, size }, floor)) = measured else { return Ok(()) };
        for (name, help, bytes) in [
            ("volume_free", "Room on the file system of the data directory", free),
            ("volume_floor", "Room that is kept there by letting go of what is cached; 0 for none", floor),
            ("volume_size", "Size of that file system", size),
        ] {
            let gauge = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)).encode(gauge)?;
        }
        let Numbers { room_artifacts, room_bytes, .. } = self.progress.numbers();
        for (name, help, count) in [
            ("volume_evicted_artifacts", "Artifacts forgotten to keep that room", room_artifacts),
            ("volume_evicted_bytes", "Their bytes that were deleted at once", room_bytes),
        ] {
            counter(&mut encoder, name, help, count)?;
        }
        Ok(())
    }
}
