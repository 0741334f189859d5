//! The files of the tier.
//!
//! ```text
//! <root>/lock                      held by the one process that owns the directory
//! <root>/boot                      which boot of the machine the files are known good since
//! <root>/cache/sha256/aa/<hex>     bodies, each named by its SHA-256
//! <root>/staging/                  bodies on their way in; emptied on start
//! ```
//! Nothing waits for the disk here, so after a crash of the machine a file may have lost its bytes and kept
//! its name. A file older than this boot (or than the move of the directory to this machine) is therefore
//! hashed before its first use.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
};

use artifactapi_model::{
    Digest, Hasher,
    ports::{BlobError, BlobReader, BlobStore, StagedBlob},
};
use async_trait::async_trait;
use rustix::fs::{Mode, OFlags, Timespec, Timestamps, UTIME_NOW, fstat, futimens, openat};

use super::{TierTally, index::Index};
use crate::{
    OpenError,
    blobs::fs::{
        error::{blocking, failed, joined},
        layout::{Layout, Purpose},
        reader::{BlobFile, FileIo},
        staged::StagedFile,
    },
};

/// Names this boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A bounded directory of bodies that are safe elsewhere.
#[derive(Debug)]
pub(super) struct Disk {
    layout: Arc<Layout>,
    io: Arc<FileIo>,
    index: Mutex<Index>,
    /// Files not changed since then, in seconds and nanoseconds, are hashed before use.
    trusted_since: (i64, i64),
    tally: Arc<TierTally>,
}

impl Disk {
    /// Opens the tier in `root`; what is there is counted in the background.
    pub(super) async fn open(
        root: PathBuf,
        bound: u64,
        tally: Arc<TierTally>,
    ) -> Result<Arc<Self>, OpenError> {
        let open = move || {
            let layout = Layout::open(&root, Purpose::Cache)?;
            let trusted_since = trusted_since(&layout, &root)?;
            let (index, io) = (Mutex::new(Index::new(bound)), Arc::default());
            Ok(Arc::new(Disk { layout: Arc::new(layout), io, index, trusted_since, tally }))
        };
        let disk = tokio::task::spawn_blocking(open).await;
        let disk: Arc<Self> = disk.map_err(|error| OpenError::Io {
            path: PathBuf::new(),
            doing: "waiting for the disk",
            source: joined(error),
        })??;
        let known = Arc::downgrade(&disk);
        tokio::task::spawn_blocking(move || {
            // Weak: a store that is closed meanwhile gives its lock back.
            for shard in 0..=u8::MAX {
                let Some(disk) = known.upgrade() else { return };
                disk.count(shard);
            }
            if let Some(disk) = known.upgrade() {
                let bytes = disk.index().bytes();
                tracing::debug!(bytes, "the disk tier is counted");
            }
        });
        Ok(disk)
    }

    /// Books what one shard has.
    fn count(&self, shard: u8) {
        let found = match self.layout.scan_shard(shard) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, shard, "a part of the disk tier cannot be counted");
                return;
            }
        };
        let gone = {
            let mut index = self.index();
            for (digest, size, seconds) in found {
                index.found(digest, size, seconds);
            }
            index.make_room()
        };
        self.unlink(&gone);
    }

    /// A poisoned lock hides nothing: each change of the books is whole.
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in the tier.
    pub(super) fn bytes(&self) -> u64 {
        self.index().bytes()
    }

    /// Removes files; open readers go on. Blocks.
    fn unlink(&self, gone: &[Digest]) {
        for digest in gone {
            self.tally.evictions.fetch_add(1, Relaxed);
            if let Err(error) = self.layout.remove(digest) {
                tracing::warn!(%error, blob.digest = %digest, "a file of the disk tier cannot be removed");
            }
        }
    }

    /// The body, if the tier has it. A tier that cannot be read has nothing.
    pub(super) async fn open_blob(self: &Arc<Self>, digest: &Digest) -> Option<Arc<dyn BlobReader>> {
        let (disk, digest) = (self.clone(), *digest);
        let opened = blocking("opening a blob", move || {
            let opened = disk.open_file(&digest);
            match &opened {
                Ok(Some(_)) => {}
                Ok(None) => disk.index().forget(&digest),
                Err(BlobError::Damaged(..)) => disk.drop_blob(&digest),
                Err(_) => {}
            }
            opened
        });
        opened.await.unwrap_or_else(|error| {
            tracing::warn!(%error, blob.digest = %digest, "a file of the disk tier cannot be used");
            None
        })
    }

    fn open_file(&self, digest: &Digest) -> Result<Option<Arc<dyn BlobReader>>, BlobError> {
        let doing = "opening a blob";
        let Some((file, size)) = self.layout.open_blob(digest)? else { return Ok(None) };
        let stat = fstat(&file).map_err(|errno| failed(doing, errno))?;
        let proven = (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)) > self.trusted_since;
        if !proven && hash(&file, size).map_err(|error| failed(doing, error))? != *digest {
            self.tally.damaged.fetch_add(1, Relaxed);
            return Err(BlobError::Damaged(*digest, "its file has lost its bytes"));
        }
        if self.index().used(*digest, size) || !proven {
            // A new time of change also says that the file has been hashed.
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        }
        Ok(Some(Arc::new(BlobFile::new(file, size, *digest, self.io.clone()))))
    }

    /// A new staged file with room for `length`. When the disk has none, the tier gives way.
    pub(super) async fn stage(self: &Arc<Self>, length: Option<u64>) -> Result<StagedFile, BlobError> {
        let disk = self.clone();
        blocking("staging a blob", move || {
            let create = || StagedFile::create(disk.layout.clone(), disk.io.clone(), length);
            match (create(), length) {
                (Err(BlobError::Full(error)), Some(length)) => {
                    let mut index = disk.index();
                    // It must help: not even all of the tier would make room for some.
                    if index.bytes() < length {
                        return Err(BlobError::Full(error));
                    }
                    let gone = index.give_up(length);
                    drop(index);
                    disk.unlink(&gone);
                    create()
                }
                (staged, _) => staged,
            }
        })
        .await
    }

    /// Room for `size` bytes in the tier, made at once; `None` when they cannot fit.
    pub(super) async fn promise(self: &Arc<Self>, size: u64) -> Option<Promise> {
        let (promise, gone) = {
            let mut index = self.index();
            if !index.promise(size) {
                return None;
            }
            (Promise { disk: self.clone(), size }, index.make_room())
        };
        if !gone.is_empty() {
            let disk = self.clone();
            let unlinked = blocking("making room in the disk tier", move || {
                disk.unlink(&gone);
                Ok(())
            });
            unlinked.await.ok()?;
        }
        Some(promise)
    }

    /// Makes the staged body one of the tier.
    pub(super) async fn admit(
        &self,
        staged: StagedFile,
        digest: &Digest,
        promise: Promise,
    ) -> Result<(), BlobError> {
        let digest = *digest;
        blocking("keeping a blob", move || {
            staged.finish(&digest)?;
            promise.keep(digest);
            Ok(())
        })
        .await
    }

    fn drop_blob(&self, digest: &Digest) {
        self.index().forget(digest);
        if let Err(error) = self.layout.remove(digest) {
            tracing::warn!(%error, blob.digest = %digest, "a file of the disk tier cannot be removed");
        }
    }

    /// Forgets a body.
    pub(super) async fn remove(self: &Arc<Self>, digest: &Digest) -> Result<(), BlobError> {
        let (disk, digest) = (self.clone(), *digest);
        blocking("removing a blob", move || {
            disk.index().forget(&digest);
            disk.layout.remove(&digest)
        })
        .await
    }
}

/// The copies by themselves, for a scrub: reading one is no use of it, and a damaged one is dropped.
pub(super) struct Copies(pub(super) Arc<Disk>);

#[async_trait]
impl BlobStore for Copies {
    async fn stage(&self, _length: Option<u64>) -> Result<Box<dyn StagedBlob>, BlobError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "copies are made of stored bodies only");
        Err(BlobError::Io { doing: "staging a blob", source })
    }

    async fn open(&self, digest: &Digest) -> Result<Arc<dyn BlobReader>, BlobError> {
        let (disk, digest) = (self.0.clone(), *digest);
        blocking("opening a blob", move || {
            let (file, size) = disk.layout.open_blob(&digest)?.ok_or(BlobError::NotFound(digest))?;
            Ok(Arc::new(BlobFile::new(file, size, digest, disk.io.clone())) as Arc<dyn BlobReader>)
        })
        .await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let (disk, digest) = (self.0.clone(), *digest);
        blocking("looking for a blob", move || disk.layout.size(&digest)).await
    }

    async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        self.0.remove(digest).await
    }

    async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        self.0.tally.damaged.fetch_add(1, Relaxed);
        self.0.remove(digest).await
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, BlobError> {
        let disk = self.0.clone();
        blocking("listing blobs", move || disk.layout.list(after, limit)).await
    }
}

/// Room in the tier for a body on its way in.
#[derive(Debug)]
pub(super) struct Promise {
    disk: Arc<Disk>,
    size: u64,
}

impl Promise {
    /// The body is in its place.
    fn keep(mut self, digest: Digest) {
        let size = std::mem::take(&mut self.size);
        let mut index = self.disk.index();
        index.release(size);
        index.used(digest, size);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.disk.index().release(self.size);
    }
}

fn hash(mut file: &File, size: u64) -> io::Result<Digest> {
    let (mut hasher, mut left) = (Hasher::for_checksums(&[]), size);
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        left = left.saturating_sub(read as u64);
    }
    Ok(hasher.finish().digest)
}

/// The field's type differs between systems.
fn nanoseconds(field: impl TryInto<i64>) -> i64 {
    field.try_into().unwrap_or(0)
}

/// The time since when files of this directory were written by this boot of this machine: the time of a
/// file that names the boot, written anew when it names another.
fn trusted_since(layout: &Layout, root: &Path) -> Result<(i64, i64), OpenError> {
    let read = || -> io::Result<(i64, i64)> {
        let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(layout.top(), "boot", flags, Mode::RUSR | Mode::WUSR)?);
        let mut known = String::new();
        (&file).take(256).read_to_string(&mut known).ok();
        if known != boot || boot.is_empty() {
            file.set_len(0)?;
            io::Seek::rewind(&mut file)?;
            file.write_all(boot.as_bytes())?;
            file.sync_all()?;
            // With nothing to write the time would stay.
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
        }
        let stat = fstat(&file)?;
        Ok((stat.st_mtime, nanoseconds(stat.st_mtime_nsec)))
    };
    let failed =
        |source| OpenError::Io { path: root.join("boot"), doing: "reading which boot this is", source };
    read().map_err(failed)
}
