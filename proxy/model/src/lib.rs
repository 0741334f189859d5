//! The words every other crate shares: names, paths, digests, repositories, time, and the ports
//! through which the cache engine reaches storage, coordination and upstreams.
//!
//! Nothing here does I/O. Types are parsed once, at the door (a route, a manifest, a row), and trusted
//! inside; that is why there is no `String` where a name, a path or a digest is meant.

pub mod account;
pub mod clock;
pub mod digest;
pub mod failpoint;
pub mod hold;
pub mod key;
pub mod name;
pub mod notice;
pub mod observation;
pub mod oci;
pub mod path;
pub mod policy;
pub mod ports;
pub mod public_url;
pub mod reminder;
pub mod repository;
pub mod seal;

pub use clock::{Clock, SystemClock, Timestamp};
pub use digest::{Checksum, Checksums, Digest, Hasher};
pub use failpoint::failpoint;
pub use hold::{Hold, Holds};
pub use key::{ArtifactKey, Epoch, RepoId};
pub use name::RepoName;
pub use notice::Notice;
pub use path::{PathError, RepoPath, Spelling};
pub use policy::{Mutability, PathPolicy, Refusal, Ttl};
pub use public_url::PublicUrl;
pub use reminder::Reminder;
pub use repository::{Local, PackageType, Remote};
pub use seal::Sealer;
