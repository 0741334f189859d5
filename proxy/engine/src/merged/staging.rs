//! Takes what a merge writes into the blob store's staging. A large file is compressed by a second thread while it is
//! still being written.

use std::{
    io::{self, Read, Write},
    mem,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use artifactapi_formats::{
    IndexError, limits,
    merge::{Listed, Output, Written},
};
use artifactapi_model::ports::BlobStore;
use bytes::{Buf as _, Bytes};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    blocking::BlockingReader,
    derive::{self, StageWriter},
    pieces::{self, Earlier, Piece},
};

/// Ends of names of files that compression does not make smaller, or is not worth it for.
const PACKED: [&str; 4] = [".gz", ".xz", ".zst", ".asc"];
/// What files begin with that are compressed already: gzip, xz, zstd.
const PACKED_BEGIN: [&[u8]; 3] = [&[0x1f, 0x8b], b"\xfd7zXZ\0", &[0x28, 0xb5, 0x2f, 0xfd]];
/// Most other names of what one merge lists.
const MAX_ALIASES: usize = 100_000;
/// Blocks of a file that may wait to be compressed.
const WAITING: usize = 8;

/// A file that is staged and has its path.
pub(super) struct StagedFile {
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) plain: derive::Written,
    pub(super) gzip: Option<derive::Written>,
    pub(super) pieces: Vec<Piece>,
}

/// What a merge has written and told: a generation that is not kept yet.
pub(super) struct StagedGeneration {
    /// Each with its gzip form where it should have one.
    pub(super) files: Vec<StagedFile>,
    pub(super) listed: Vec<Listed>,
    /// Other names of what members have.
    pub(super) aliases: Vec<(String, Listed)>,
}

/// The gzip form of a file, and what it consists of.
type Packed = (derive::Written, Vec<Piece>);

/// Takes what a merge writes into the blob store's staging.
pub(super) struct Staging {
    blobs: Arc<dyn BlobStore>,
    handle: Handle,
    /// What was compressed before.
    earlier: Earlier<BlockingReader>,
    files: Vec<StagedFile>,
    last: Option<(derive::Written, Option<Packed>)>,
    listed: Vec<Listed>,
    aliases: Vec<(String, Listed)>,
}

impl Staging {
    /// One into `blobs`; what `earlier` has is not compressed again.
    pub(super) fn new(blobs: Arc<dyn BlobStore>, earlier: Earlier<BlockingReader>, handle: Handle) -> Self {
        let (files, listed, aliases) = (Vec::new(), Vec::new(), Vec::new());
        Staging { blobs, handle, earlier, files, last: None, listed, aliases }
    }

    /// Compresses what is left to be, and gives all there is. Blocks.
    ///
    /// # Errors
    /// [`IndexError`] when a form cannot be made.
    pub(super) fn finish(mut self) -> Result<StagedGeneration, IndexError> {
        for file in &mut self.files {
            if file.gzip.is_some() || is_packed(&file.path) {
                continue;
            }
            let packed = self.handle.block_on(self.blobs.stage(None)).map_err(io::Error::other)?;
            if file.plain.size < pieces::MIN_DOCUMENT {
                file.gzip = derive::compressed(&file.plain, packed, &self.handle)?;
                continue;
            }
            let (gzip, pieces) = pieces::compressed(&file.plain, packed, &mut self.earlier, &self.handle)?;
            (file.gzip, file.pieces) = (Some(gzip), pieces);
        }
        let Staging { files, listed, aliases, .. } = self;
        Ok(StagedGeneration { files, listed, aliases })
    }
}

fn is_packed(path: &str) -> bool {
    PACKED.iter().any(|end| path.ends_with(end))
}

impl Output for Staging {
    fn file(
        &mut self,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<Written, IndexError> {
        let staged = self.handle.block_on(self.blobs.stage(None)).map_err(io::Error::other)?;
        let handle = self.handle.clone();
        let mut packer = Packer { staging: self, state: State::Waiting(Vec::new()) };
        let mut tap = |block: &Bytes| packer.take(block);
        let mut writer = StageWriter::new(staged, handle).with_tap(&mut tap);
        content(&mut writer)?;
        let plain = writer.finish()?;
        let packed = packer.finish()?;
        let written = Written { digest: plain.digest, size: plain.size };
        self.last = Some((plain, packed));
        Ok(written)
    }

    fn publish(&mut self, path: String, content_type: &'static str) {
        let Some((plain, packed)) = self.last.take() else { return };
        let (gzip, pieces) = packed.filter(|_| !is_packed(&path)).unzip();
        self.files.push(StagedFile { path, content_type, plain, gzip, pieces: pieces.unwrap_or_default() });
    }

    fn list(&mut self, listed: Listed) -> Result<(), IndexError> {
        if self.listed.len() >= limits::MAX_ENTRIES {
            return Err(IndexError::TooLarge("number of entries"));
        }
        self.listed.push(listed);
        Ok(())
    }

    fn alias(&mut self, path: String, named: Listed) -> Result<(), IndexError> {
        if self.aliases.len() >= MAX_ALIASES {
            return Err(IndexError::TooLarge("number of other names of entries"));
        }
        self.aliases.push((path, named));
        Ok(())
    }
}

/// Has a file compressed as soon as it is large enough for it.
struct Packer<'o> {
    staging: &'o mut Staging,
    state: State,
}

enum State {
    /// It is small so far.
    Waiting(Vec<Bytes>),
    /// It goes to a thread that compresses it, and gives back what was compressed before.
    Packing(SyncSender<Bytes>, JoinHandle<(io::Result<Packed>, Earlier<BlockingReader>)>),
    /// It looks as if it were compressed already.
    Left,
}

impl Packer<'_> {
    fn take(&mut self, block: &Bytes) {
        match &mut self.state {
            State::Waiting(blocks) => {
                blocks.push(block.clone());
                if blocks.iter().map(|block| block.len() as u64).sum::<u64>() >= pieces::MIN_DOCUMENT {
                    let blocks = mem::take(blocks);
                    self.start(blocks);
                }
            }
            // A thread that listens no more has failed, and says so in the end.
            State::Packing(sender, _) => drop(sender.send(block.clone())),
            State::Left => {}
        }
    }

    fn start(&mut self, blocks: Vec<Bytes>) {
        if PACKED_BEGIN.iter().any(|begin| blocks[0].starts_with(begin)) {
            self.state = State::Left;
            return;
        }
        let (sender, receiver) = sync_channel(WAITING);
        let (blobs, handle) = (self.staging.blobs.clone(), self.staging.handle.clone());
        let mut earlier = mem::take(&mut self.staging.earlier);
        let pack = move || {
            let input = Blocks { first: blocks.into_iter(), receiver, block: Bytes::new() };
            let staged = handle.block_on(blobs.stage(None)).map_err(io::Error::other);
            let packed =
                staged.and_then(|staged| pieces::compressed_from(input, staged, &mut earlier, &handle));
            (packed, earlier)
        };
        self.state = State::Packing(sender, self.staging.handle.spawn_blocking(pack));
    }

    /// Ends the file, and waits for its gzip form when there is to be one.
    fn finish(self) -> io::Result<Option<Packed>> {
        let State::Packing(sender, thread) = self.state else { return Ok(None) };
        drop(sender);
        let (packed, earlier) = self.staging.handle.block_on(thread).map_err(io::Error::other)?;
        self.staging.earlier = earlier;
        packed.map(Some)
    }
}

/// The blocks of a file, as they come.
struct Blocks {
    first: std::vec::IntoIter<Bytes>,
    receiver: Receiver<Bytes>,
    block: Bytes,
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            match self.first.next().or_else(|| self.receiver.recv().ok()) {
                Some(block) => self.block = block,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.block.len());
        self.block.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use artifactapi_model::Digest;
    use artifactapi_stores::MemoryBlobs;
    use flate2::read::GzDecoder;

    use super::*;

    fn text(length: usize) -> Vec<u8> {
        let lines = (0_u32..).flat_map(|n| format!("a chart that does what charts do, {n}\n").into_bytes());
        lines.take(length).collect()
    }

    /// The only file of a staging that is given `content` in parts.
    async fn written(path: &'static str, content: Vec<u8>, earlier: Earlier<BlockingReader>) -> StagedFile {
        let mut staging = Staging::new(Arc::new(MemoryBlobs::default()), earlier, Handle::current());
        let write = move || {
            staging.file(&mut |out| {
                content.chunks(100_000).try_for_each(|part| out.write_all(part)).map_err(IndexError::from)
            })?;
            staging.publish(path.to_owned(), "text/plain");
            staging.finish()
        };
        let mut merged = tokio::task::spawn_blocking(write).await.unwrap().unwrap();
        merged.files.remove(0)
    }

    async fn bytes(written: &derive::Written) -> Vec<u8> {
        let reader = written.staged.reader();
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < written.size {
            bytes.extend_from_slice(&reader.read_at(bytes.len() as u64, 1 << 20).await.unwrap());
        }
        bytes
    }

    async fn opened(written: &derive::Written) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(&*bytes(written).await).read_to_end(&mut plain).unwrap();
        plain
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_of_any_size_has_its_gzip_form() {
        let limit = usize::try_from(pieces::MIN_DOCUMENT).unwrap();
        for length in [2_000, limit - 1, limit, limit + 1, 3_000_000] {
            let file = written("index.yaml", text(length), Earlier::default()).await;
            assert_eq!(bytes(&file.plain).await, text(length), "{length}");
            let gzip = file.gzip.unwrap();
            assert_eq!(opened(&gzip).await, text(length), "{length}");
            assert_eq!(gzip.digest, Digest::of(&bytes(&gzip).await), "{length}");
            assert_eq!(file.pieces.is_empty(), length < limit, "{length}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_compressed_before_makes_no_difference() {
        let before = written("index.yaml", text(3_000_000), Earlier::default()).await;
        let gzip = before.gzip.unwrap();
        let changed = [text(1_500_000), b"something else".to_vec(), text(1_500_000)].concat();
        let mut earlier = Earlier::default();
        earlier.add(&before.pieces, BlockingReader::new(gzip.staged.reader(), gzip.size, Handle::current()));
        let copied = written("index.yaml", changed.clone(), earlier).await;
        let made = written("index.yaml", changed, Earlier::default()).await;
        assert_eq!(copied.gzip.unwrap().digest, made.gzip.unwrap().digest);
        assert_eq!(copied.pieces, made.pieces);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_compressed_is_not_compressed_again() {
        let packed = [&[0x1f, 0x8b], &*text(2_000_000)].concat();
        for content in [packed.clone(), text(2_000_000)] {
            assert!(written("primary.xml.gz", content, Earlier::default()).await.gzip.is_none());
        }
        // Whatever a file begins with, its name decides.
        let file = written("index.yaml", packed.clone(), Earlier::default()).await;
        assert_eq!(opened(&file.gzip.unwrap()).await, packed);
    }
}
