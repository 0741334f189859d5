//! The operator against a cluster of a few maps and a sink in memory.

mod behind;
mod bench;
mod branches;
mod deletions;
mod election;
mod reach;
mod repositories;
mod robots;
mod sequences;
mod upstreams;
