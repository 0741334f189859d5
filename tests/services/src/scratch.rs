//! Directories of tests.

use tempfile::TempDir;

/// Where directories in memory are on Linux.
const MEMORY: &str = "/dev/shm";
/// Space that the tests want there, in bytes: containers often have 64 MiB.
const ROOM: u64 = 2 << 30;

/// An empty directory in memory, where the machine has room for that: for tests that sync thousands of small files and
/// ask nothing of a disk.
///
/// # Panics
/// When there is no space.
pub fn scratch() -> TempDir {
    let room = rustix::fs::statvfs(MEMORY).map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize));
    let memory = (room >= ROOM).then(|| TempDir::new_in(MEMORY).ok()).flatten();
    memory.unwrap_or_else(|| TempDir::new().expect("a temporary directory"))
}
