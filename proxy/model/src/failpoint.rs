//! Named places at which a crash test stops the process dead (RS-97).
//!
//! Without the feature `failpoints` a call costs nothing. With it, the process aborts at the point named by
//! `ARTIFACTAPI_FAILPOINT`; `name@3` means its third passing. No destructor runs and nothing is flushed, as
//! with `kill -9`.

/// Every point there is. The crash test visits each of them, so one that is not listed stops the process too.
pub const NAMES: [&str; 25] = [
    "blob.commit.after_directory_fsync",
    "blob.commit.after_fdatasync",
    "blob.commit.after_rename",
    "blob.commit.before_fdatasync",
    "blob.stage.after_create",
    "blob.write.after_filing",
    "derive.blob.after",
    "derive.blob.before",
    "derive.row.after",
    "fill.blob.after",
    "fill.blob.before",
    "fill.chunk.after",
    "fill.confirm.before",
    "fill.head.after",
    "fill.request.before",
    "fill.row.after",
    "fill.verify.before",
    "gc.claim.after",
    "gc.condemn.after",
    "gc.drop.after",
    "gc.remove.after",
    "gc.retention.after",
    "gc.stray.after",
    "metadata.commit.after",
    "metadata.commit.before",
];

/// Points that only a process with an S3 store passes.
pub const S3_NAMES: [&str; 4] =
    ["blob.upload.after", "blob.upload.after_part", "blob.upload.before", "blob.upload.before_complete"];

/// Points that only the sweep of Locals over an S3 store passes.
pub const S3_SWEEP_NAMES: [&str; 1] = ["registry.settle.after_copy"];

/// Points that a push passes, wherever its bytes go.
pub const PUSH_NAMES: [&str; 3] =
    ["upload.finish.after_complete", "upload.finish.before_complete", "upload.pause.before"];

/// Points that only a push to an S3 store passes.
pub const S3_PUSH_NAMES: [&str; 2] = ["upload.settle.after_copy", "upload.write.after_part"];

/// Points that the operator passes (RS-136).
pub const OPERATOR_NAMES: [&str; 13] = [
    "operator.apply.before",
    "operator.apply.after",
    "operator.dereference.after",
    "operator.fence.after",
    "operator.finalizer.after_add",
    "operator.finalizer.before_remove",
    "operator.lease.after_acquire",
    "operator.purge.after",
    "operator.sql.after_commit",
    "operator.sql.after_objects",
    "operator.sql.before_commit",
    "operator.status.after",
    "operator.status.before",
];

/// Points that the operator passes when it makes a token for a robot.
pub const ROBOT_NAMES: [&str; 3] =
    ["operator.token.after", "operator.token.before", "operator.token.written"];

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
    let store = [&NAMES[..], &S3_NAMES, &S3_SWEEP_NAMES, &PUSH_NAMES, &S3_PUSH_NAMES].concat();
    let all = [&store[..], &OPERATOR_NAMES, &ROBOT_NAMES].concat();
    if !all.contains(&name) {
        eprintln!("the failpoint {name:?} is not listed in NAMES or one of its neighbours");
        std::process::abort();
    }
    if let Some((wanted, left)) = armed
        && wanted == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}
