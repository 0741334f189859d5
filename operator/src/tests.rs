//! The operator against a cluster of a few maps and a sink in memory.

mod bench;
mod branches;
mod deletions;
mod election;
mod reach;
mod robots;
mod sequences;
mod upstreams;
