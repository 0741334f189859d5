//! A body that grows: its older part in a file, its newest in memory.
//!
//! Upstream's pieces are small (often 16 KiB) and a hop to a thread that may block costs more than writing
//! such a piece, so they gather in memory until a write is worth it. Readers must not wait for that: they
//! read the file and go on in memory.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use artifactapi_model::ports::{BlobError, BlobReader};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::io::{Errno, pwritev};

use super::{
    error::failed,
    reader::{FileIo, readable},
};

/// A write to the file is worth it from here.
const WORTH_WRITING: u64 = 256 << 10;
/// Most pieces of one write; Linux takes 1024.
const MAX_PIECES: usize = 512;

/// The file and the newest part of one body.
pub(in crate::blobs) struct Growth {
    pub(in crate::blobs) file: Arc<File>,
    newest: Mutex<Newest>,
    io: Arc<FileIo>,
}

/// What is not in the file yet.
#[derive(Default)]
struct Newest {
    /// Bytes that are in the file; the pieces follow them.
    filed: u64,
    /// Where the last piece ends of which all bytes are in the file.
    whole: u64,
    /// Bytes altogether.
    written: u64,
    pieces: VecDeque<Bytes>,
}

impl Growth {
    pub(in crate::blobs) fn new(file: File, io: Arc<FileIo>) -> Self {
        Growth { file: Arc::new(file), newest: Mutex::default(), io }
    }

    /// A body whose first `length` bytes are in the file.
    pub(in crate::blobs) fn from(file: File, length: u64, io: Arc<FileIo>) -> Self {
        let newest = Newest { filed: length, whole: length, written: length, pieces: VecDeque::new() };
        Growth { file: Arc::new(file), newest: Mutex::new(newest), io }
    }

    /// A poisoned lock hides nothing: each change in here is whole.
    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `bytes`, readable at once. `true`: it is time to [`Growth::file_pieces`].
    pub(in crate::blobs) fn push(&self, bytes: Bytes) -> bool {
        let mut newest = self.newest();
        newest.written += bytes.len() as u64;
        newest.pieces.push_back(bytes);
        newest.written - newest.filed >= WORTH_WRITING || newest.pieces.len() >= MAX_PIECES
    }

    /// Length so far.
    pub(in crate::blobs) fn written(&self) -> u64 {
        self.newest().written
    }

    /// Length of the whole pieces that are in the file.
    pub(in crate::blobs) fn whole(&self) -> u64 {
        self.newest().whole
    }

    /// Writes what is in memory to the file. Blocks; one caller at a time. After an error the pieces that
    /// did not fit stay in memory, readable.
    pub(in crate::blobs) fn file_pieces(&self) -> io::Result<()> {
        loop {
            let (offset, pieces) = {
                let newest = self.newest();
                (newest.filed, newest.pieces.iter().take(MAX_PIECES).cloned().collect::<Vec<_>>())
            };
            if pieces.is_empty() {
                return Ok(());
            }
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            match pwritev(&self.file, &slices, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(done) => self.newest().advance(done),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Newest {
    /// `done` bytes of the pieces are in the file.
    fn advance(&mut self, mut done: usize) {
        let mut at = self.filed;
        self.filed += done as u64;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > done {
                bytes::Buf::advance(piece, done);
                return;
            }
            done -= piece.len();
            at += piece.len() as u64;
            self.whole = at;
            self.pieces.pop_front();
        }
    }

    /// The bytes `start..end`, all of them in memory, as pieces.
    fn slice(&self, start: u64, end: u64) -> Vec<Bytes> {
        let mut at = self.filed;
        let mut found = Vec::new();
        for piece in &self.pieces {
            let piece_end = at + piece.len() as u64;
            if piece_end > start && at < end {
                let from = usize::try_from(start.saturating_sub(at)).unwrap_or(0);
                let to = usize::try_from(end.min(piece_end) - at).unwrap_or(piece.len());
                found.push(piece.slice(from..to));
            }
            at = piece_end;
        }
        found
    }
}

/// A reader that follows the growth.
pub(in crate::blobs) struct GrowingFile(pub(in crate::blobs) Arc<Growth>);

#[async_trait]
impl BlobReader for GrowingFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let growth = &self.0;
        let (filed, length, mut pieces) = {
            let newest = growth.newest();
            let length = readable(newest.written, offset, length);
            let end = offset.saturating_add(length as u64);
            (newest.filed, length, newest.slice(offset.max(newest.filed), end))
        };
        if length == 0 {
            return Ok(Bytes::new());
        }
        if offset >= filed && pieces.len() == 1 {
            return Ok(pieces.swap_remove(0));
        }
        let mut buffer = growth.io.buffers.take(length);
        let mut at = length - pieces.iter().map(Bytes::len).sum::<usize>();
        if at > 0 {
            let head = growth.io.read(&growth.file, offset, buffer, at).await;
            buffer = head.map_err(|error| failed("reading a staged body", error))?;
        }
        for piece in pieces {
            buffer.as_mut()[at..at + piece.len()].copy_from_slice(&piece);
            at += piece.len();
        }
        Ok(Bytes::from_owner(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::suite::{pattern, read_all};

    #[tokio::test]
    async fn every_range_reads_alike_whatever_is_filed() {
        let growth = Arc::new(Growth::new(tempfile::tempfile().unwrap(), Arc::default()));
        let reader = GrowingFile(growth.clone());
        let body = pattern(60);
        for (n, (start, end)) in [(0, 10), (10, 11), (11, 40), (40, 60)].into_iter().enumerate() {
            assert!(!growth.push(body.slice(start..end)));
            if n == 1 {
                growth.file_pieces().unwrap();
            }
        }
        assert_eq!(growth.newest().filed, 11);
        growth.newest().advance(0);
        for start in 0..=60 {
            for end in start..=60 {
                let got = reader.read_at(start as u64, end - start).await.unwrap();
                assert_eq!(got, body[start..end], "{start}..{end}");
            }
        }
        growth.file_pieces().unwrap();
        assert!(growth.newest().pieces.is_empty());
        assert_eq!(read_all(&reader, 7).await, body);
    }

    #[test]
    fn a_partly_filed_piece_keeps_its_rest() {
        let pieces = ["abc".into(), "def".into()].into();
        let mut newest = Newest { filed: 0, whole: 0, written: 6, pieces };
        newest.advance(4);
        assert_eq!((newest.filed, newest.whole), (4, 3));
        assert_eq!(newest.slice(4, 6), [Bytes::from_static(b"ef")]);
        newest.advance(2);
        assert_eq!((newest.filed, newest.whole), (6, 6));
    }

    #[test]
    fn many_tiny_pieces_are_filed_before_they_weigh_more_than_their_bytes() {
        let growth = Growth::new(tempfile::tempfile().unwrap(), Arc::default());
        let due = (0..MAX_PIECES).map(|_| growth.push(Bytes::from_static(b"x"))).collect::<Vec<_>>();
        assert_eq!(due.iter().position(|due| *due), Some(MAX_PIECES - 1));
    }
}
