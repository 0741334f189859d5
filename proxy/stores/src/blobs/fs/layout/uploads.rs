//! The directory of uploads: one plain file each, named by the session.

use std::{fs::File, io, os::fd::OwnedFd, time::Duration};

use artifactapi_model::{
    Digest,
    ports::{BlobError, UploadId},
};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, unlinkat},
    io::Errno,
};

use super::{Layout, file_stat, sync_directory, unless_missing};
use crate::blobs::fs::error::failed;

const DOING: &str = "opening an upload";

impl Layout {
    fn uploads(&self) -> Result<&OwnedFd, BlobError> {
        self.uploads.as_ref().ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::Unsupported, "a cache takes no uploads");
            BlobError::Io { doing: DOING, source }
        })
    }

    /// The file of an upload and its length; `None` when there is none.
    pub(in crate::blobs::fs) fn open_upload(&self, id: &UploadId) -> Result<Option<(File, u64)>, BlobError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(self.uploads()?, id.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(DOING, errno)),
        };
        let stat = fstat(&file).map_err(|errno| failed(DOING, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let source = io::Error::new(io::ErrorKind::InvalidData, "something that is no file stands there");
            return Err(BlobError::Io { doing: DOING, source });
        }
        Ok(Some((file, stat.st_size.cast_unsigned())))
    }

    /// A new empty file for an upload.
    pub(in crate::blobs::fs) fn create_upload(&self, id: &UploadId) -> Result<File, BlobError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.uploads()?, id.as_str(), flags, Mode::RUSR | Mode::WUSR);
        Ok(file.map_err(|errno| failed(DOING, errno))?.into())
    }

    /// Writes the names of uploads to disk.
    pub(in crate::blobs::fs) fn sync_uploads(&self) -> Result<(), BlobError> {
        sync_directory(self.uploads()?).map_err(|error| failed("keeping an upload", error))
    }

    /// Unlinks an upload's file.
    pub(in crate::blobs::fs) fn remove_upload(&self, id: &UploadId) -> Result<(), BlobError> {
        let removed = unlinkat(self.uploads()?, id.as_str(), AtFlags::empty());
        unless_missing(removed).map_err(|errno| failed("dropping an upload", errno))
    }

    /// Gives an upload, whose bytes are on disk, its place among the blobs, and returns when it is there for good.
    pub(in crate::blobs::fs) fn place_upload(
        &self,
        id: &UploadId,
        digest: &Digest,
        size: u64,
    ) -> Result<(), BlobError> {
        if !self.place_from(self.uploads()?, id.as_str(), digest, size)? {
            self.remove_upload(id)?;
        }
        Ok(())
    }

    /// Up to `limit` uploads in order that have bytes and were last written at least `age` ago.
    pub(in crate::blobs::fs) fn list_uploads(
        &self,
        after: Option<&UploadId>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<UploadId>, BlobError> {
        let uploads = self.uploads()?;
        let list = || -> Result<Vec<UploadId>, io::Error> {
            let mut ids = Vec::new();
            for entry in Dir::read_from(uploads)? {
                let id = entry?.file_name().to_str().ok().and_then(UploadId::parse);
                ids.extend(id.filter(|id| after.is_none_or(|after| id > after)));
            }
            ids.sort_unstable();
            let now = self.now()?;
            let mut page = Vec::new();
            for id in ids {
                if page.len() >= limit {
                    break;
                }
                let Some(stat) = file_stat(uploads, id.as_str())? else { continue };
                let old = i128::from(now) - i128::from(stat.st_mtime) >= i128::from(age.as_secs());
                if stat.st_size > 0 && old {
                    page.push(id);
                }
            }
            Ok(page)
        };
        list().map_err(|error| failed("listing uploads", error))
    }

    /// The time that the file system gives to what is written now, in seconds.
    fn now(&self) -> io::Result<i64> {
        let (file, name) = self.create_staged().map_err(io::Error::other)?;
        let stat = fstat(&file);
        self.discard(&name);
        Ok(stat?.st_mtime)
    }
}
