//! The doors of the engine. Small traits here, adapters in `stores` and `upstream`, one conformance
//! suite per port; logic stays above them.

pub mod accounts;
pub mod blobs;
pub mod coordination;
pub mod housekeeping;
pub mod metadata;
pub mod observations;
pub mod peers;
pub mod registry;
pub mod uploads;
pub mod upstream;

pub use accounts::Accounts;
pub use blobs::{BlobError, BlobReader, BlobStore, Space, StagedBlob};
pub use coordination::{CoordinationError, Coordinator, Heard, Lease, Messages};
pub use housekeeping::Housekeeping;
pub use metadata::{MetadataError, MetadataStore};
pub use observations::Observations;
pub use peers::{NoPeers, Part, Parts, PeerError, Peers};
pub use registry::{BlobLinks, ImageKey, Manifests, Placements, RegistryStore, UploadSessions};
pub use uploads::{Place, Stored, UploadId, UploadStore, UploadWriter};
pub use upstream::{Upstream, UpstreamError, UpstreamMethod, UpstreamRequest, UpstreamResponse};
