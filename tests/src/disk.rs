//! A disk of a size that a test can fill.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A file system of a few MiB in memory, unmounted when it is dropped.
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// Mounts one of `size` bytes.
    ///
    /// # Errors
    /// Why it cannot: that needs root.
    ///
    /// # Panics
    /// Without a temporary directory.
    pub fn mount(size: usize) -> Result<Disk, String> {
        let directory = TempDir::new().expect("a temporary directory");
        let told = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .output()
            .map_err(|error| format!("no mount: {error}"))?;
        if told.status.success() {
            return Ok(Disk { directory });
        }
        Err(format!("mounting a tmpfs needs root: {}", String::from_utf8_lossy(&told.stderr).trim()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves `room` bytes.
    ///
    /// # Panics
    /// When there was less.
    pub fn fill(&self, room: usize) {
        let mut ballast = fs::File::create(self.ballast()).expect("room for a name");
        let piece = vec![0u8; 64 << 10];
        let mut written = 0u64;
        loop {
            match ballast.write(&piece) {
                Ok(count) => written += count as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("filling a disk: {error}"),
            }
        }
        ballast.set_len(written - room as u64).expect("it shrinks");
    }

    /// There is room again.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn empty(&self) {
        fs::remove_file(self.ballast()).expect("it was full");
    }

    /// How many bytes are free.
    ///
    /// # Panics
    /// When it is not mounted any more.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).expect("a mounted file system");
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that was not waited for may still hold it.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
