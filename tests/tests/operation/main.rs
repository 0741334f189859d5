//! Operation of the real process: what crashes leave behind, what `fsck` finds, what nobody gets to see, what
//! changes while it runs, and how it ends.

mod access;
mod collection;
mod crashes;
mod drain;
mod fsck;
mod health;
mod manifests;
mod room;
mod secrets;
mod support;
