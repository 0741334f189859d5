//! Configuration: what the command line and the environment say, and what the manifests say.

pub mod apply;
pub mod database;
pub mod directory;
pub mod environment;
pub mod good;
mod identities;
pub mod manifests;
pub mod meeting;
pub mod owners;
pub mod periods;
mod purges;
pub mod room;
pub mod settings;
pub mod snapshot;
mod united;

pub use manifests::Manifests;
pub use settings::Settings;
pub use snapshot::{Face, LocalRepository, Member, Repository, Snapshot, VirtualRepository};
