//! gzip in pieces: what a large document has had before is copied as it was compressed then.
//!
//! Where one piece ends and the next begins the content decides, so that a change moves no boundary but those beside
//! it. Every piece is compressed by itself and ends on a byte: a gzip document (RFC 1952) is their deflate blocks in a
//! row, the checksum of the whole being computed from theirs. Pieces are told apart by SHA-256, and what is copied is
//! compared with what was written then: a stored copy that has rotted is compressed anew.

use std::{
    collections::HashMap,
    io::{self, Read, Seek, SeekFrom, Write},
};

use artifactapi_model::{Digest, ports::StagedBlob};
use crc32fast::Hasher as Crc;
use fastcdc::v2020::FastCDC;
use flate2::{Compress, Compression, FlushCompress, Status};
use tokio::runtime::Handle;

use crate::{
    blocking::BlockingReader,
    derive::{StageWriter, Written},
};

/// Smaller documents are compressed whole, in bytes: that costs a few milliseconds.
pub(crate) const MIN_DOCUMENT: u64 = 1 << 20;
/// Least, usual and most bytes of a piece.
const SIZES: [usize; 3] = [32 << 10, 64 << 10, 256 << 10];
/// Bytes of a document that are looked at together.
const WINDOW: usize = 2 << 20;
/// Header of a gzip member that says nothing: the same content gives the same bytes everywhere.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block.
const END: [u8; 2] = [3, 0];

/// One piece of a compressed document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// SHA-256 of its bytes before compression, and of its deflate blocks.
    pub(crate) plain: Digest,
    pub(crate) packed: Digest,
    /// Bytes before and after compression.
    pub(crate) size: u32,
    pub(crate) packed_size: u32,
    /// CRC-32 of its bytes before compression.
    pub(crate) crc: u32,
}

/// Compressed documents of before, which `R` reads.
pub(crate) struct Earlier<R> {
    /// In which of them each piece is, and where it begins there.
    pieces: HashMap<Digest, (usize, u64, Piece)>,
    documents: Vec<R>,
}

impl<R> Default for Earlier<R> {
    fn default() -> Self {
        Earlier { pieces: HashMap::new(), documents: Vec::new() }
    }
}

impl<R: Read + Seek> Earlier<R> {
    /// Adds the document that consists of `pieces`.
    pub(crate) fn add(&mut self, pieces: &[Piece], document: R) {
        let (number, mut at) = (self.documents.len(), HEAD.len() as u64);
        self.documents.push(document);
        for piece in pieces {
            self.pieces.insert(piece.plain, (number, at, *piece));
            at += u64::from(piece.packed_size);
        }
    }

    /// Reads the deflate blocks of the piece `plain` into `blocks`; `None` when there are none to be relied on.
    fn copy(&mut self, plain: &Digest, blocks: &mut Vec<u8>) -> Option<Piece> {
        let (number, begin, piece) = *self.pieces.get(plain)?;
        let document = &mut self.documents[number];
        blocks.resize(piece.packed_size as usize, 0);
        document.seek(SeekFrom::Start(begin)).ok()?;
        document.read_exact(blocks).ok()?;
        (Digest::of(blocks) == piece.packed).then_some(piece)
    }
}

/// Writes the gzip form of `plain` to `packed`, and says what it consists of.
///
/// # Errors
/// When `plain` cannot be read, or `packed` not be written.
pub(crate) fn compressed(
    plain: &Written,
    packed: Box<dyn StagedBlob>,
    earlier: &mut Earlier<BlockingReader>,
    handle: &Handle,
) -> io::Result<(Written, Vec<Piece>)> {
    let input = BlockingReader::new(plain.staged.reader(), plain.size, handle.clone());
    compressed_from(input.take(plain.size), packed, earlier, handle)
}

/// The same of what `input` gives.
///
/// # Errors
/// When it cannot be read, or `packed` not be written.
pub(crate) fn compressed_from(
    input: impl Read,
    packed: Box<dyn StagedBlob>,
    earlier: &mut Earlier<BlockingReader>,
    handle: &Handle,
) -> io::Result<(Written, Vec<Piece>)> {
    let mut out = StageWriter::new(packed, handle.clone());
    let pieces = compress(input, earlier, &mut out)?;
    Ok((out.finish()?, pieces))
}

fn compress<R: Read + Seek>(
    input: impl Read,
    earlier: &mut Earlier<R>,
    out: &mut dyn Write,
) -> io::Result<Vec<Piece>> {
    out.write_all(&HEAD)?;
    let mut deflate = Compress::new(Compression::default(), false);
    let (mut pieces, mut blocks) = (Vec::new(), Vec::new());
    let (mut checksum, mut size) = (Crc::new(), 0_u32);
    cut(input, &mut |bytes| {
        let digest = Digest::of(bytes);
        let piece = match earlier.copy(&digest, &mut blocks) {
            Some(piece) => piece,
            None => pack(digest, bytes, &mut deflate, &mut blocks)?,
        };
        checksum.combine(&Crc::new_with_initial_len(piece.crc, bytes.len() as u64));
        // The format has the size modulo 2^32.
        size = size.wrapping_add(piece.size);
        pieces.push(piece);
        out.write_all(&blocks)
    })?;
    out.write_all(&END)?;
    out.write_all(&checksum.finalize().to_le_bytes())?;
    out.write_all(&size.to_le_bytes())?;
    Ok(pieces)
}

/// Hands the pieces of `input` to `piece`, one after the other.
fn cut(mut input: impl Read, piece: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let [min, usual, max] = SIZES;
    let mut window = Vec::with_capacity(WINDOW);
    loop {
        let wanted = (WINDOW - window.len()) as u64;
        let is_last = (&mut input).take(wanted).read_to_end(&mut window)? < wanted as usize;
        let mut begin = 0;
        for chunk in FastCDC::new(&window, min, usual, max) {
            // What the window cuts off, the next one has whole.
            if !is_last && window.len() - begin < max {
                break;
            }
            begin += chunk.length;
            piece(&window[chunk.offset..begin])?;
        }
        if is_last {
            return Ok(());
        }
        window.drain(..begin);
    }
}

/// Compresses `bytes` into `blocks`, which end on a byte.
fn pack(plain: Digest, bytes: &[u8], deflate: &mut Compress, blocks: &mut Vec<u8>) -> io::Result<Piece> {
    deflate.reset();
    blocks.clear();
    loop {
        blocks.reserve(64 << 10);
        let taken = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        let status = deflate.compress_vec(&bytes[taken..], blocks, FlushCompress::Sync)?;
        // With room left, everything is flushed.
        if status == Status::BufError || blocks.len() < blocks.capacity() {
            break;
        }
    }
    let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
    Ok(Piece {
        plain,
        packed: Digest::of(blocks),
        size: size(bytes.len())?,
        packed_size: size(blocks.len())?,
        crc: crc32fast::hash(bytes),
    })
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    type Never = Earlier<io::Cursor<Vec<u8>>>;

    fn text(seed: u64, bytes: usize) -> Vec<u8> {
        let mut state = seed;
        let mut text = Vec::with_capacity(bytes);
        while text.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.extend_from_slice(format!("a chart that does what charts do {:x},", state >> 40).as_bytes());
        }
        text.truncate(bytes);
        text
    }

    fn packed(text: &[u8], earlier: Option<Never>) -> (Vec<u8>, Vec<Piece>) {
        let mut out = Vec::new();
        let pieces = compress(text, &mut earlier.unwrap_or_default(), &mut out).unwrap();
        (out, pieces)
    }

    fn earlier(pieces: &[Piece], gzip: Vec<u8>) -> Option<Never> {
        let mut earlier = Earlier::default();
        earlier.add(&[], io::Cursor::new(Vec::new()));
        earlier.add(pieces, io::Cursor::new(gzip));
        Some(earlier)
    }

    fn opened(gzip: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn any_reader_of_gzip_opens_it() {
        for bytes in [0, 1, 100, 32 << 10, 300_000, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 12_345] {
            let text = text(7, bytes);
            let (gzip, pieces) = packed(&text, None);
            assert_eq!(opened(&gzip), text, "{bytes}");
            assert_eq!(pieces.iter().map(|piece| u64::from(piece.size)).sum::<u64>(), bytes as u64);
        }
        // What cannot be made smaller, and what can be made very small.
        let noise: Vec<u8> = (0..300_000_u64).map(|n| Digest::of(&n.to_le_bytes()).0[0]).collect();
        for text in [noise, vec![b'a'; 3_000_000]] {
            assert_eq!(opened(&packed(&text, None).0), text);
        }
    }

    #[test]
    fn a_change_in_the_middle_costs_the_pieces_beside_it() {
        let before = text(7, 5_000_000);
        let (gzip, pieces) = packed(&before, None);
        let mut after = before.clone();
        after.splice(2_000_000..2_000_100, text(9, 5_000));
        // What is copied is what was written: with other blocks in their place, nothing is.
        let (again, new) = packed(&after, earlier(&pieces, gzip));
        assert_eq!(opened(&again), after);
        assert_eq!((&again, &new), (&packed(&after, None).0, &packed(&after, None).1), "as if made whole");
        let kept = new.iter().filter(|piece| pieces.contains(piece)).count();
        assert!(new.len() > 40 && new.len() - kept <= 4, "{kept} of {}", new.len());
    }

    #[test]
    fn a_copy_that_has_rotted_is_not_used() {
        let text = text(7, 2_000_000);
        let (gzip, pieces) = packed(&text, None);
        let mut rotten = gzip.clone();
        for at in (0..rotten.len()).step_by(1000) {
            rotten[at] ^= 1;
        }
        let earlier = |bytes: &[u8]| earlier(&pieces, bytes.to_vec());
        assert_eq!(packed(&text, earlier(&rotten)).0, gzip);
        assert_eq!(packed(&text, earlier(&gzip[..gzip.len() / 2])).0, gzip);
    }

    #[test]
    fn what_was_there_is_copied() {
        let text = text(7, 2_000_000);
        let (gzip, mut pieces) = packed(&text, None);
        // Blocks that nobody would make of this text, and that say so of themselves, are taken as they are.
        let marked = vec![0xAA; pieces[3].packed_size as usize];
        let at = HEAD.len() + pieces[..3].iter().map(|piece| piece.packed_size as usize).sum::<usize>();
        let mut other = gzip;
        other[at..at + marked.len()].copy_from_slice(&marked);
        pieces[3].packed = Digest::of(&marked);
        let (again, _) = packed(&text, earlier(&pieces, other.clone()));
        assert_eq!(again, other);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn edits_never_change_what_is_opened(
            edits in prop::collection::vec((0..1_500_000_usize, 0..40_000_usize, 0..40_000_usize, any::<u64>()), 1..4),
        ) {
            let before = text(7, 1_500_000);
            let (gzip, pieces) = packed(&before, None);
            let mut after = before;
            for (at, gone, new, seed) in edits {
                let at = at.min(after.len());
                let end = (at + gone).min(after.len());
                after.splice(at..end, text(seed, new));
            }
            let (again, _) = packed(&after, earlier(&pieces, gzip));
            prop_assert_eq!(opened(&again), after);
        }
    }
}
