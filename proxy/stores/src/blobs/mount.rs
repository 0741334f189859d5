//! A small file system of its own, for what happens when a disk is full.

use std::{path::Path, process::Command};

use tempfile::TempDir;

/// A file system of its own, unmounted at the end.
pub(super) struct Mount(TempDir);

impl Mount {
    /// `None` where mounting is not allowed.
    pub(super) fn tmpfs(size: u64) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let options = format!("size={size}");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(directory.path()).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Mount(directory))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
