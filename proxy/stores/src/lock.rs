//! One process per data directory: an advisory lock that the kernel drops when its holder dies.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, openat},
    io::Errno,
};

use crate::OpenError;

/// A held lock; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct ProcessLock {
    _file: OwnedFd,
}

impl ProcessLock {
    /// Takes the lock file `name` in the open directory `directory`, whose path is `path`.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process holds it.
    pub(crate) fn take(directory: impl AsFd, name: &str, path: &Path) -> Result<Self, OpenError> {
        let failed = |errno: Errno| OpenError::Io {
            path: path.to_owned(),
            doing: "taking the lock",
            source: errno.into(),
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(ProcessLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(OpenError::InUse(PathBuf::from(path))),
            Err(errno) => Err(failed(errno)),
        }
    }
}
