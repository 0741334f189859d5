//! Operation of the real process: what crashes leave behind, and what `fsck` finds.

mod crashes;
mod fsck;
mod support;
