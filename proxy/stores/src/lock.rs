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

/// What `attempt` gives when the lock it takes is free, for which it may have to be called often: a process that was forked
/// in another test has a copy of the lock until it runs its program, and a server notices the end of a session late.
///
/// # Panics
/// When it is not free within ten seconds.
#[cfg(any(test, feature = "suite"))]
pub(crate) async fn once_free<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let taken = async {
        loop {
            match attempt().await {
                Some(taken) => return taken,
                None => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), taken).await.expect("what was dropped is free")
}

/// The same for what says that it is in use.
#[cfg(test)]
pub(crate) async fn opened<T>(mut open: impl AsyncFnMut() -> Result<T, OpenError>) -> T {
    let opened = once_free(async || match open().await {
        Err(OpenError::InUse(_)) => None,
        opened => Some(opened),
    });
    opened.await.unwrap()
}
