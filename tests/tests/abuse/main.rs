//! Hostile clients and hostile surroundings of the real process: a full disk, forged targets, floods.

mod disk_full;
mod durable;
mod limits;
mod namespaces;
mod paths;
