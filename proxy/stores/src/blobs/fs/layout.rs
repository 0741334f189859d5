//! The directories and what may be done in them. Every path is opened relative to a directory that is
//! already open, one component at a time, and never through a symbolic link (RS-15).

mod uploads;

use std::{
    fs::{DirBuilder, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use artifactapi_model::{
    Digest, failpoint,
    ports::{BlobError, Space},
};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat},
    fs::{fstat, fstatvfs, linkat, mkdirat, openat, renameat, renameat_with, statat, unlinkat},
    io::Errno,
};

use super::{error::failed, shortage::Shortage};
use crate::{OpenError, lock::ProcessLock};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What the directories are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::blobs) enum Purpose {
    /// The only copy: `blobs/`, and every commit is on disk before it is answered.
    Store,
    /// Copies of what is safe elsewhere: `cache/`, and nothing waits for the disk.
    Cache,
}

/// The open directories of one store.
#[derive(Debug)]
pub(in crate::blobs) struct Layout {
    purpose: Purpose,
    top: OwnedFd,
    blobs: OwnedFd,
    staging: OwnedFd,
    /// A cache has none: what is damaged there can be had again.
    quarantine: Option<OwnedFd>,
    /// A cache takes no uploads.
    uploads: Option<OwnedFd>,
    staged: AtomicU64,
    /// Where writes that meet a full disk are noted.
    pub(in crate::blobs) shortage: Arc<Shortage>,
    _lock: ProcessLock,
}

impl Purpose {
    fn directory(self) -> &'static str {
        match self {
            Purpose::Store => "blobs",
            Purpose::Cache => "cache",
        }
    }
}

impl Layout {
    /// Opens or makes the directories below `root`, takes the lock and empties `staging`.
    pub(in crate::blobs) fn open(root: &Path, purpose: Purpose) -> Result<Self, OpenError> {
        let at = |path: &Path, doing| {
            let path = path.to_owned();
            move |source: io::Error| OpenError::Io { path, doing, source }
        };
        make_root(root).map_err(at(root, "making the directory"))?;
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let top = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|errno| at(root, "opening the directory")(errno.into()))?;
        let lock = ProcessLock::take(&top, "lock", root)?;
        let sub = |parent: &OwnedFd, name: &str| {
            make_directory(parent, name).map_err(at(&root.join(name), "making the directory"))
        };
        let blobs = sub(&sub(&top, purpose.directory())?, "sha256")?;
        for shard in 0..=u8::MAX {
            sub(&blobs, &hex::encode([shard]))?;
        }
        let staging = sub(&top, "staging")?;
        let of_store = |name: &str| (purpose == Purpose::Store).then(|| sub(&top, name)).transpose();
        let (quarantine, uploads) = (of_store("quarantine")?, of_store("uploads")?);
        for directory in [&blobs, &top] {
            sync_directory(directory).map_err(at(root, "writing the directory to disk"))?;
        }
        let staged = AtomicU64::new(0);
        let shortage = Arc::default();
        let layout =
            Layout { purpose, top, blobs, staging, quarantine, uploads, staged, shortage, _lock: lock };
        layout.empty_staging().map_err(at(&root.join("staging"), "discarding what a dead process left"))?;
        Ok(layout)
    }

    /// The directory that holds all others.
    pub(in crate::blobs) fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// Room on the file system. What is kept back for others than its owner is not ours.
    pub(in crate::blobs) fn space(&self) -> Result<Space, BlobError> {
        let found = fstatvfs(&self.top).map_err(|errno| failed("measuring the file system", errno))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free: bytes(found.f_bavail), size: bytes(found.f_blocks) })
    }

    /// Whether a commit must be on disk before it is answered.
    pub(in crate::blobs) fn is_durable(&self) -> bool {
        self.purpose == Purpose::Store
    }

    fn empty_staging(&self) -> io::Result<()> {
        let mut left = 0;
        for entry in Dir::read_from(&self.staging)? {
            let entry = entry?;
            if entry.file_type() != FileType::Directory {
                unlinkat(&self.staging, entry.file_name(), AtFlags::empty())?;
                left += 1;
            }
        }
        if left > 0 {
            tracing::info!(files = left, "discarded bodies that a dead process had staged");
        }
        Ok(())
    }

    /// A new empty file in `staging` and its name there.
    pub(in crate::blobs) fn create_staged(&self) -> Result<(File, String), BlobError> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.staging, &name, flags, Mode::RUSR | Mode::WUSR);
        Ok((file.map_err(|errno| failed("staging a blob", errno))?.into(), name))
    }

    /// Forgets a staged file.
    pub(in crate::blobs) fn discard(&self, name: &str) {
        if let Err(error) = unlinkat(&self.staging, name, AtFlags::empty()) {
            tracing::warn!(%error, "a staged body could not be discarded; the next start does it");
        }
    }

    /// Gives the staged file `name`, whose bytes are on disk, its place under `digest`, and returns when that
    /// name is on disk too. `true`: the staged name is gone; `false`: it is left over, for `digest` was
    /// already there.
    pub(in crate::blobs) fn place(&self, name: &str, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        self.place_from(&self.staging, name, digest, size)
    }

    /// The same for a file in the directory `from`.
    fn place_from(&self, from: &OwnedFd, name: &str, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        let doing = "committing a blob";
        let shard = self.shard(digest).map_err(|errno| failed(doing, errno))?;
        let hex = digest.to_hex();
        let mut moved = rename_new(from, name, &shard, &hex);
        if let Err(Errno::EXIST) = moved
            && self.size(digest)? != Some(size)
        {
            // Whatever stands there is not this body.
            self.quarantine(digest)?;
            moved = rename_new(from, name, &shard, &hex);
        }
        let moved = match moved {
            Ok(moved) => moved,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(failed(doing, errno)),
        };
        failpoint("blob.commit.after_rename");
        if self.is_durable() {
            // Also when the name was there: whoever put it there may not have come to this line yet.
            sync_directory(&shard).map_err(|error| failed(doing, error))?;
        }
        failpoint("blob.commit.after_directory_fsync");
        Ok(moved)
    }

    /// Whether a blob of this length has its place, for good: whoever put it there may not have made sure of that yet.
    pub(in crate::blobs) fn keeps(&self, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        if self.size(digest)? != Some(size) {
            return Ok(false);
        }
        let doing = "committing a blob";
        let shard = self.shard(digest).map_err(|errno| failed(doing, errno))?;
        sync_directory(&shard).map_err(|error| failed(doing, error))?;
        Ok(true)
    }

    /// The blob's file and length; `None` when there is none.
    pub(in crate::blobs) fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>, BlobError> {
        // NONBLOCK: should a pipe stand in the blob's place, opening it must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self.shard(digest).and_then(|shard| openat(shard, digest.to_hex(), flags, Mode::empty()));
        let file = match file {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(BlobError::Damaged(*digest, "a symbolic link stands in its place"));
            }
            Err(errno) => return Err(failed("opening a blob", errno)),
        };
        let stat = fstat(&file).map_err(|errno| failed("opening a blob", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(BlobError::Damaged(*digest, "something that is no file stands in its place"));
        }
        Ok(Some((file, stat.st_size.cast_unsigned())))
    }

    /// The blob's length; `None` when there is none.
    pub(in crate::blobs) fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let size = match self.shard(digest) {
            Err(Errno::NOENT) => return Ok(None),
            shard => shard.and_then(|shard| file_stat(&shard, &digest.to_hex())),
        };
        let size = size.map(|stat| stat.map(|stat| stat.st_size.cast_unsigned()));
        size.map_err(|errno| failed("looking for a blob", errno))
    }

    /// Unlinks a blob; open readers keep its bytes.
    pub(in crate::blobs) fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let removed = self.shard(digest).and_then(|shard| unlinkat(shard, digest.to_hex(), AtFlags::empty()));
        unless_missing(removed).map_err(|errno| failed("removing a blob", errno))
    }

    /// Moves whatever stands in the blob's place to `quarantine`, or removes it from a cache.
    pub(in crate::blobs) fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        let Some(quarantine) = &self.quarantine else { return self.remove(digest) };
        let hex = digest.to_hex();
        let moved = self.shard(digest).and_then(|shard| renameat(shard, &hex, quarantine, &hex));
        unless_missing(moved).map_err(|errno| failed("quarantining a blob", errno))
    }

    /// Up to `limit` blobs after `after`, reading no more shards than needed.
    pub(in crate::blobs) fn list(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, BlobError> {
        let first = after.map_or(0, |digest| digest.0[0]);
        let mut page = Vec::new();
        for shard in first..=u8::MAX {
            if page.len() >= limit {
                break;
            }
            let found = self.list_shard(shard, after, limit - page.len());
            page.extend(found.map_err(|error| failed("listing blobs", error))?);
        }
        Ok(page)
    }

    fn list_shard(&self, shard: u8, after: Option<Digest>, limit: usize) -> io::Result<Vec<(Digest, u64)>> {
        let Some((directory, mut digests)) = self.names_in(shard)? else { return Ok(Vec::new()) };
        digests.retain(|digest| after.is_none_or(|after| *digest > after));
        digests.sort_unstable();
        let mut page = Vec::new();
        for digest in digests {
            if page.len() >= limit {
                break;
            }
            if let Some(stat) = file_stat(&directory, &digest.to_hex())? {
                page.push((digest, stat.st_size.cast_unsigned()));
            }
        }
        Ok(page)
    }

    /// All blobs of one shard in no order, with length and time of the last change in seconds.
    pub(in crate::blobs) fn scan_shard(&self, shard: u8) -> io::Result<Vec<(Digest, u64, i64)>> {
        let Some((directory, digests)) = self.names_in(shard)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for digest in digests {
            if let Some(stat) = file_stat(&directory, &digest.to_hex())? {
                found.push((digest, stat.st_size.cast_unsigned(), stat.st_mtime));
            }
        }
        Ok(found)
    }

    fn names_in(&self, shard: u8) -> io::Result<Option<(OwnedFd, Vec<Digest>)>> {
        let directory = match openat(&self.blobs, hex::encode([shard]), DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            directory => directory?,
        };
        let mut digests = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_str().ok().filter(|name| name.len() == 64);
            let digest = name.and_then(|name| name.parse::<Digest>().ok());
            digests.extend(digest.filter(|digest| digest.0[0] == shard));
        }
        Ok(Some((directory, digests)))
    }

    fn shard(&self, digest: &Digest) -> Result<OwnedFd, Errno> {
        openat(&self.blobs, hex::encode([digest.0[0]]), DIRECTORY, Mode::empty())
    }
}

/// A regular file's metadata; `None` for anything else and for nothing.
fn file_stat(directory: &OwnedFd, name: &str) -> Result<Option<Stat>, Errno> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_file.then_some(stat))
}

/// Renames without replacing; `false`: linked instead, since the file system cannot do that.
fn rename_new(from: &OwnedFd, name: &str, shard: &OwnedFd, hex: &str) -> Result<bool, Errno> {
    match renameat_with(from, name, shard, hex, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => linkat(from, name, shard, hex, AtFlags::empty()).map(|()| false),
        done => done.map(|()| true),
    }
}

fn unless_missing(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Makes `root` and what is missing above it, for the owner only, and writes the new names to disk.
fn make_root(root: &Path) -> io::Result<()> {
    let root = std::path::absolute(root)?;
    let missing: Vec<PathBuf> =
        root.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
    for made in missing {
        if let Some(parent) = made.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

/// Opens the directory `name` in `parent`, making it when it is missing.
fn make_directory(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(openat(parent, name, DIRECTORY, Mode::empty())?),
        Err(errno) => Err(errno.into()),
    }
}

fn sync_directory(directory: impl AsFd) -> io::Result<()> {
    File::from(directory.as_fd().try_clone_to_owned()?).sync_all()
}
