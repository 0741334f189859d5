//! Operation and abuse of the real process: crashes, checks, secrets, manifests, shutdown, overload.

mod crashes;
mod fsck;
mod support;
