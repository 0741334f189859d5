//! Named places at which a crash test stops the process dead (RS-97).
//!
//! Without the feature `failpoints` a call costs nothing. With it, the process aborts at the point named by
//! `ARTIFACTAPI_FAILPOINT`; `name@3` means its third passing. No destructor runs and nothing is flushed, as
//! with `kill -9`.

/// Marks the point `name` (`part.operation.moment`, as `blob.commit.before_rename`).
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn failpoint(_name: &str) {}

/// Marks the point `name` (`part.operation.moment`, as `blob.commit.before_rename`).
#[cfg(feature = "failpoints")]
pub fn failpoint(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let wanted = std::env::var("ARTIFACTAPI_FAILPOINT").ok()?;
        let (name, passing) = wanted.split_once('@').unwrap_or((&wanted, "1"));
        Some((name.to_owned(), AtomicU64::new(passing.parse().unwrap_or(1))))
    });
    if let Some((wanted, left)) = armed
        && wanted == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}
