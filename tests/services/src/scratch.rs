//! Directories of tests.

use std::{env, process};

use tempfile::{Builder, TempDir};

/// Where directories in memory are on Linux.
const MEMORY: &str = "/dev/shm";
/// Space that the tests want there, in bytes: containers often have 64 MiB.
const ROOM: u64 = 2 << 30;

/// An empty directory in memory, where the machine has room for that: for tests that sync thousands of small files and
/// ask nothing of a disk. `hack/test` takes away what a run leaves that is killed: all of the directory for temporary ones
/// that it makes, and what is called as this is elsewhere.
///
/// # Panics
/// When there is no space.
pub fn scratch() -> TempDir {
    let is_elsewhere = env::temp_dir().parent().is_none_or(|above| !above.starts_with(MEMORY));
    let room = rustix::fs::statvfs(MEMORY).map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize));
    let process = format!(".{}", process::id());
    let named = || Builder::new().prefix("artifactapi-test.").suffix(&process).tempdir_in(MEMORY).ok();
    let memory = (is_elsewhere && room >= ROOM).then(named).flatten();
    memory.unwrap_or_else(|| TempDir::new().expect("a temporary directory"))
}
