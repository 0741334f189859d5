//! Opens a compressed index as a stream: gzip (all members), xz, zstd (all frames) or plain bytes.
//!
//! The kind is read from the first two bytes and not from the file's name, which a stranger chose. What comes
//! out is capped in size, in ratio to the bytes taken in so far, and in the window a decoder may allocate, so
//! that a bomb ends in an error within the work of a few megabytes (RS-62, RS-63).

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Cursor, Read},
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use crate::{
    IndexError,
    limits::{MAX_INFLATED, MAX_RATIO, breach, breached},
};

/// Largest window a decoder may allocate, in bytes: what `xz -9` asks for. An index that cannot be read keeps
/// its packages from being served, so honest compressors must fit.
const MAX_WINDOW: u64 = 64 << 20;
/// Inflated bytes that are never held against the ratio.
const RATIO_GRACE: u64 = 1 << 20;

/// A reader of what `input` inflates to.
///
/// # Errors
/// Those of the first read. Later reads fail with a [`breached`] error at a limit, and with
/// [`io::ErrorKind::InvalidData`] or [`io::ErrorKind::UnexpectedEof`] for a broken stream; see
/// [`index_error`].
pub(crate) fn open<'a>(input: &'a mut dyn BufRead) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut head = Vec::with_capacity(2);
    Read::take(&mut *input, 2).read_to_end(&mut head)?;
    let kind = [head.first().copied().unwrap_or(0), head.get(1).copied().unwrap_or(0)];
    let taken = Rc::new(Cell::new(0));
    let whole = Counted { inner: Cursor::new(head).chain(input), taken: Rc::clone(&taken) };
    let inflated: Box<dyn Read + 'a> = match kind {
        [0x1f, 0x8b] => Box::new(MultiGzDecoder::new(whole)),
        [0xfd, b'7'] => Box::new(XzReader::new_mem_limit(whole, true, (MAX_WINDOW >> 10) as u32 + 1024)),
        [0x28, 0xb5] => Box::new(ZstdFrames::new(whole)),
        _ => return Ok(Box::new(whole)),
    };
    Ok(Box::new(BufReader::with_capacity(64 << 10, Watched { inner: inflated, taken, given: 0 })))
}

/// The [`IndexError`] of an error met while reading through [`open`]: broken compressed data is the index's
/// fault, not the disk's.
pub(crate) fn index_error(error: io::Error) -> IndexError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof, Unsupported};
    if breach(&error).is_none()
        && matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof | Unsupported)
    {
        return IndexError::malformed(format!("its compressed form is broken: {error}"));
    }
    error.into()
}

/// Counts the stored bytes a decoder has taken.
struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.taken.set(self.taken.get() + read as u64);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, amount: usize) {
        self.taken.set(self.taken.get() + amount as u64);
        self.inner.consume(amount);
    }
}

/// Holds what a decoder gives against what it took.
struct Watched<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
    given: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => breached("decompression window"),
            _ => error,
        })?;
        self.given += read as u64;
        let by_ratio = self.taken.get().saturating_mul(MAX_RATIO).max(RATIO_GRACE);
        if self.given > MAX_INFLATED.min(by_ratio) {
            return Err(breached("inflated size"));
        }
        Ok(read)
    }
}

/// Decodes zstd frames one after another, skipping skippable ones (RFC 8878, 3.1).
struct ZstdFrames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        ZstdFrames { source, decoder, in_frame: false }
    }

    /// Begins the next frame; `false` at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(zstd_error(&error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let read = self.decoder.read(buf)?;
            if read > 0 {
                return Ok(read);
            }
            if self.in_frame && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(buf.len()))
                    .map_err(|error| zstd_error(&error))?;
                continue;
            }
            if self.in_frame && self.decoder.get_checksum_from_data().is_some() {
                self.check()?;
            }
            self.in_frame = self.next_frame()?;
            if !self.in_frame {
                return Ok(0);
            }
        }
    }
}

impl<R> ZstdFrames<R> {
    fn check(&self) -> io::Result<()> {
        let agrees = self.decoder.get_checksum_from_data() == self.decoder.get_calculated_checksum();
        if agrees { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "zstd checksum differs")) }
    }
}

fn zstd_error(error: &FrameDecoderError) -> io::Error {
    match error {
        FrameDecoderError::WindowSizeTooBig { .. } => breached("decompression window"),
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// `printf 'hello, repository\n' | xz`, with xz 5.4.
    const XZ: &str = "fd377a585a000004e6d6b4460200210110000000a8708e8601001168656c6c6f2c207265706f7369746f72790a0000002f0e147edd5ece1200012a124b0854bc1fb6f37d010000000004595a";

    fn inflate(mut stored: &[u8]) -> Result<Vec<u8>, IndexError> {
        let mut out = Vec::new();
        open(&mut stored)?.read_to_end(&mut out).map_err(index_error)?;
        Ok(out)
    }

    #[test]
    fn every_member_and_frame_is_read() {
        let text = b"hello, repository\n";
        for (name, stored, want) in [
            ("plain", text.to_vec(), text.to_vec()),
            ("empty", Vec::new(), Vec::new()),
            ("one byte", vec![b'x'], vec![b'x']),
            ("gzip", gzip(text), text.to_vec()),
            ("two gzip members", [gzip(text), gzip(b"more")].concat(), b"hello, repository\nmore".to_vec()),
            ("zstd", zstd(text), text.to_vec()),
            (
                "zstd with a skippable frame between",
                [zstd(text), b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(), zstd(b"more")].concat(),
                b"hello, repository\nmore".to_vec(),
            ),
            ("xz", hex::decode(XZ).unwrap(), text.to_vec()),
            ("xz twice", hex::decode(XZ.repeat(2)).unwrap(), text.repeat(2)),
        ] {
            assert_eq!(inflate(&stored).unwrap(), want, "{name}");
        }
    }

    #[test]
    fn a_broken_stream_is_malformed() {
        let text = b"hello, repository\n".repeat(1000);
        let xz = hex::decode(XZ).unwrap();
        let mut flipped = zstd(&text);
        *flipped.last_mut().unwrap() ^= 1;
        for (name, stored) in [
            ("gzip cut", gzip(&text)[..40].to_vec()),
            ("zstd cut", zstd(&text)[..20].to_vec()),
            ("zstd checksum", flipped),
            ("xz cut", xz[..40].to_vec()),
            ("gzip then junk", [gzip(&text), b"\x1f\x8b junk".to_vec()].concat()),
            ("zstd then junk", [zstd(&text), b"junk".to_vec()].concat()),
        ] {
            assert!(matches!(inflate(&stored), Err(IndexError::Malformed(_))), "{name}");
        }
    }

    #[test]
    fn rs_63_a_bomb_ends_at_the_ratio() {
        let zeros = vec![0; 64 << 20];
        for (name, stored) in [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros))] {
            assert!(stored.len() * 200 < zeros.len(), "{name} is no bomb: {}", stored.len());
            let taken = inflate(&stored);
            assert!(matches!(taken, Err(IndexError::TooLarge("inflated size"))), "{name}");
        }
    }

    #[test]
    fn rs_63_a_declared_window_is_not_allocated() {
        // A zstd frame header that asks for a window of 2 GiB, then a raw block.
        let stored = b"\x28\xb5\x2f\xfd\x00\xa8\x09\x00\x00a";
        assert!(matches!(inflate(stored), Err(IndexError::TooLarge("decompression window"))));
    }
}
