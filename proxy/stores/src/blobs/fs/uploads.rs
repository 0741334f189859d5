//! Uploads in the directory of a blob store: each is one file that grows from request to request and is renamed
//! when it is whole.
//!
//! One process owns the directory, so a table in memory says who may write to which upload. Every change of a file
//! is made while its entry is locked, by the writer that the entry names; an older one changes nothing any more,
//! not even through the file that it has open and that is a blob by now.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use artifactapi_model::{
    Digest, failpoint,
    ports::{BlobError, BlobReader, Place, Stored, UploadId, UploadStore, UploadWriter},
};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::ftruncate;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    FsBlobs,
    error::{blocking, failed, joined},
    growth::Growth,
    layout::Layout,
    reader::{FileIo, readable},
    shortage::Shortage,
};
use crate::blobs::{lost, taken_over};

/// Uploads beside the bodies of one [`FsBlobs`].
#[derive(Clone, Debug)]
pub struct FsUploads {
    layout: Arc<Layout>,
    io: Arc<FileIo>,
    writers: Arc<Writers>,
}

/// Who may write to which upload. Those that nobody writes to have no entry.
#[derive(Debug, Default)]
pub(super) struct Writers(Mutex<HashMap<UploadId, Weak<Entry>>>);

/// Number of the writer that may change the file, locked while it does.
#[derive(Debug, Default)]
struct Entry(Mutex<u64>);

/// One writer's claim to an upload.
#[derive(Clone)]
struct Claim {
    entry: Arc<Entry>,
    number: u64,
}

impl FsBlobs {
    /// Where uploads are kept until they are bodies of this store.
    pub fn uploads(&self) -> FsUploads {
        FsUploads { layout: self.layout.clone(), io: self.io.clone(), writers: self.writers.clone() }
    }
}

impl Writers {
    fn entry(&self, id: &UploadId) -> Arc<Entry> {
        // A poisoned lock hides nothing: each change of the table is whole.
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(id).and_then(Weak::upgrade) {
            return entry;
        }
        entries.retain(|_, entry| entry.strong_count() > 0);
        let entry = Arc::new(Entry::default());
        entries.insert(id.clone(), Arc::downgrade(&entry));
        entry
    }
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Keeps everybody else from the file until the guard is dropped; fails once another writer has come.
    fn hold(&self) -> Result<MutexGuard<'_, u64>, BlobError> {
        let number = self.entry.lock();
        if *number == self.number { Ok(number) } else { Err(taken_over()) }
    }
}

#[async_trait]
impl UploadStore for FsUploads {
    async fn resume(
        &self,
        id: &UploadId,
        _stored: &Stored,
        offset: u64,
        _took_over: bool,
    ) -> Result<Box<dyn UploadWriter>, BlobError> {
        let (this, id) = (self.clone(), id.clone());
        blocking("going on with an upload", move || {
            let writer = this.open(id, offset)?;
            Ok(Box::new(writer) as Box<dyn UploadWriter>)
        })
        .await
    }

    async fn read(
        &self,
        id: &UploadId,
        _stored: &Stored,
        length: u64,
    ) -> Result<Arc<dyn BlobReader>, BlobError> {
        let (layout, io, id) = (self.layout.clone(), self.io.clone(), id.clone());
        blocking("reading an upload", move || {
            let (file, size) = layout.open_upload(&id)?.ok_or_else(lost)?;
            if size < length {
                return Err(lost());
            }
            Ok(Arc::new(UploadFile { file: Arc::new(file), length, io }) as Arc<dyn BlobReader>)
        })
        .await
    }

    async fn discard(&self, id: &UploadId, _stored: &Stored, _placed: bool) -> Result<(), BlobError> {
        let (this, id) = (self.clone(), id.clone());
        blocking("dropping an upload", move || {
            let entry = this.writers.entry(&id);
            let mut number = entry.lock();
            *number += 1;
            this.layout.remove_upload(&id)
        })
        .await
    }

    /// Never needed: what is finished is in its own place.
    async fn settle(&self, _place: &Place, _digest: &Digest, _size: u64) -> Result<bool, BlobError> {
        Ok(false)
    }

    /// Never needed: what is finished is in its own place.
    async fn remove_place(&self, _place: &Place) -> Result<(), BlobError> {
        Ok(())
    }

    async fn list(
        &self,
        after: Option<&UploadId>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<UploadId>, BlobError> {
        let (layout, after) = (self.layout.clone(), after.cloned());
        blocking("listing uploads", move || layout.list_uploads(after.as_ref(), age, limit)).await
    }
}

impl FsUploads {
    /// A writer at `offset`, which sends every other one away. Blocks.
    fn open(&self, id: UploadId, offset: u64) -> Result<Writer, BlobError> {
        let entry = self.writers.entry(&id);
        let mut number = entry.lock();
        *number += 1;
        let claim = Claim { entry: entry.clone(), number: *number };
        let (file, named) = match self.layout.open_upload(&id)? {
            Some((_, size)) if size < offset => return Err(lost()),
            Some((file, size)) => {
                if size > offset {
                    ftruncate(&file, offset).map_err(|errno| failed("going on with an upload", errno))?;
                }
                (Some(file), offset > 0)
            }
            None if offset == 0 => (Some(self.layout.create_upload(&id)?), false),
            // It has become a blob perhaps, which only `finish` can tell.
            None => (None, true),
        };
        drop(number);
        let growth = file.map(|file| Arc::new(Growth::from(file, offset, self.io.clone())));
        let (layout, durable) = (self.layout.clone(), Durable { length: offset, named });
        Ok(Writer { layout, id, claim, growth, length: offset, durable, filing: None, syncing: None })
    }
}

/// How much of an upload survives a power cut.
#[derive(Clone, Copy)]
struct Durable {
    length: u64,
    /// Whether the file's name does.
    named: bool,
}

struct Writer {
    layout: Arc<Layout>,
    id: UploadId,
    claim: Claim,
    /// `None`: the file is not there any more.
    growth: Option<Arc<Growth>>,
    /// Length of the body after the last write.
    length: u64,
    durable: Durable,
    /// The write to the file that is under way.
    filing: Option<JoinHandle<Result<(), BlobError>>>,
    /// The sync that is under way, and how much will be durable after it.
    syncing: Option<JoinHandle<Result<u64, BlobError>>>,
}

impl Writer {
    /// Waits for the write that is under way. May be called again after it was cancelled.
    async fn filed(&mut self) -> Result<(), BlobError> {
        if let Some(filing) = &mut self.filing {
            let done = filing.await;
            self.filing = None;
            done.map_err(|error| failed("writing an upload", joined(error))).flatten()?;
        }
        Ok(())
    }

    /// Waits for the sync that is under way.
    async fn synced(&mut self) -> Result<(), BlobError> {
        if let Some(syncing) = &mut self.syncing {
            let done = syncing.await;
            self.syncing = None;
            let length = done.map_err(|error| failed("keeping an upload", joined(error))).flatten()?;
            self.durable = Durable { length, named: true };
        }
        Ok(())
    }
}

/// Writes what is in memory to the file. On a full disk the file keeps what is durable only: the rest will have to
/// come again in any case, and its room may be what others need. Blocks.
fn file_pieces(shortage: &Shortage, growth: &Growth, claim: &Claim, durable: u64) -> Result<(), BlobError> {
    let _held = claim.hold()?;
    let done = growth.file_pieces().map_err(|error| failed("writing an upload", error));
    if let Err(error @ BlobError::Full(_)) = &done {
        let _ = ftruncate(&growth.file, durable);
        shortage.note(error, 0);
    }
    done
}

/// Makes what is in the file durable, and its name. Blocks.
fn sync(layout: &Layout, file: &File, durable: Durable, length: u64) -> Result<u64, BlobError> {
    if length > durable.length || !durable.named {
        file.sync_data().map_err(|error| failed("keeping an upload", error))?;
    }
    if !durable.named {
        layout.sync_uploads()?;
    }
    Ok(length)
}

#[async_trait]
impl UploadWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.length += bytes.len() as u64;
        let Some(growth) = &self.growth else { return Ok(()) };
        if !bytes.is_empty() && growth.push(bytes) {
            // One write at a time: memory holds one write under way and the pieces of the next.
            let (growth, claim, durable) = (growth.clone(), self.claim.clone(), self.durable.length);
            self.filed().await?;
            let shortage = self.layout.shortage.clone();
            self.filing = Some(spawn_blocking(move || file_pieces(&shortage, &growth, &claim, durable)));
        }
        Ok(())
    }

    /// Never waits for the disk: what is in the file begins to be synced now, and is told by a later call.
    async fn keep(&mut self) -> Result<(u64, Stored), BlobError> {
        let growth = self.growth.clone().ok_or_else(lost)?;
        if self.syncing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.synced().await?;
        }
        let (filed, durable) = (growth.whole(), self.durable);
        if self.syncing.is_none() && filed > durable.length {
            let layout = self.layout.clone();
            self.syncing = Some(spawn_blocking(move || sync(&layout, &growth.file, durable, filed)));
        }
        Ok((self.durable.length, Stored::default()))
    }

    async fn pause(mut self: Box<Self>) -> Result<Stored, BlobError> {
        self.filed().await?;
        self.synced().await?;
        let Writer { layout, growth, claim, durable, length, .. } = *self;
        let growth = growth.ok_or_else(lost)?;
        blocking("keeping an upload", move || {
            file_pieces(&layout.shortage, &growth, &claim, durable.length)?;
            failpoint("upload.pause.before");
            // With the file's lock held: nobody may have cut it since.
            let _held = claim.hold()?;
            sync(&layout, &growth.file, durable, length)?;
            Ok(Stored::default())
        })
        .await
    }

    async fn finish(mut self: Box<Self>, digest: &Digest) -> Result<Option<Place>, BlobError> {
        self.filed().await?;
        let digest = *digest;
        blocking("finishing an upload", move || {
            let Writer { layout, id, growth, claim, durable, length, .. } = *self;
            finish(&layout, &id, growth.as_deref(), &claim, durable, (&digest, length)).map(|()| None)
        })
        .await
    }
}

/// Moves the whole body to its place. Blocks.
fn finish(
    layout: &Layout,
    id: &UploadId,
    growth: Option<&Growth>,
    claim: &Claim,
    durable: Durable,
    (digest, length): (&Digest, u64),
) -> Result<(), BlobError> {
    let filed = || {
        let growth = growth.ok_or_else(lost)?;
        file_pieces(&layout.shortage, growth, claim, durable.length)?;
        let number = claim.hold()?;
        if growth.whole() == length { Ok((growth, number)) } else { Err(lost()) }
    };
    let (growth, mut number) = match filed() {
        Ok(ours) => ours,
        // Another request has come to its end with the same body.
        Err(error) => return if layout.keeps(digest, length)? { Ok(()) } else { Err(error) },
    };
    growth.file.sync_data().map_err(|error| failed("finishing an upload", error))?;
    failpoint("upload.finish.before_complete");
    layout.place_upload(id, digest, length)?;
    failpoint("upload.finish.after_complete");
    // The file is a blob now.
    *number += 1;
    Ok(())
}

/// An upload, open for reading.
struct UploadFile {
    file: Arc<File>,
    length: u64,
    io: Arc<FileIo>,
}

#[async_trait]
impl BlobReader for UploadFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let length = readable(self.length, offset, length);
        if length == 0 {
            return Ok(Bytes::new());
        }
        match self.io.read(&self.file, offset, self.io.buffers.take(length), length).await {
            Ok(buffer) => Ok(Bytes::from_owner(buffer)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(lost()),
            Err(error) => Err(failed("reading an upload", error)),
        }
    }
}
