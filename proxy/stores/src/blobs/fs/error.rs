//! From errors of the operating system to errors of the port, and from the executor to threads that may
//! block.

use std::io;

use artifactapi_model::ports::BlobError;
use rustix::io::Errno;
use tokio::task::{JoinError, spawn_blocking};

/// Says what `source` means for the caller: no room, or broken while `doing`.
pub(in crate::blobs) fn failed(doing: &'static str, source: impl Into<io::Error>) -> BlobError {
    let source = source.into();
    // EFBIG: the process's own file size limit or the file system's.
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG];
    if Errno::from_io_error(&source).is_some_and(|errno| full.contains(&errno)) {
        BlobError::Full(source)
    } else {
        BlobError::Io { doing, source }
    }
}

/// Runs `work` where it may block.
pub(in crate::blobs) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    spawn_blocking(work).await.map_err(|error| failed(doing, joined(error)))?
}

/// A blocking task ended without a result: it panicked, or the runtime is going down.
pub(in crate::blobs) fn joined(error: JoinError) -> io::Error {
    io::Error::other(if error.is_panic() { "a worker panicked" } else { "the runtime is shutting down" })
}
