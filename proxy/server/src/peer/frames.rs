//! Parts of a fill as frames: one byte for the kind, four for the length (big-endian), then the bytes.

use artifactapi_model::ports::Part;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Largest frame that is read, in bytes without its head.
const MAX_FRAME: usize = 1 << 20;
const HEAD: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;

/// The frame's head and its bytes.
pub(super) fn encode(part: &Part) -> [Bytes; 2] {
    let (kind, bytes) = match part {
        Part::Head(bytes) => (HEAD, bytes),
        Part::Data(bytes) => (DATA, bytes),
        Part::End(bytes) => (END, bytes),
    };
    let mut head = BytesMut::with_capacity(5);
    head.put_u8(kind);
    head.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    [head.freeze(), bytes.clone()]
}

/// What was received is no sequence of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes frames off received bytes. Bytes of a body are passed on as they come, so that a frame need not be whole;
/// the others are small and are.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    received: BytesMut,
    /// Bytes of a data frame that have not come yet.
    data_left: usize,
}

impl Decoder {
    /// Takes in what was received.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next part, if enough has come.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Malformed> {
        if self.data_left > 0 {
            let length = self.data_left.min(self.received.len());
            if length == 0 {
                return Ok(None);
            }
            self.data_left -= length;
            return Ok(Some(Part::Data(self.received.split_to(length).freeze())));
        }
        if self.received.len() < 5 {
            return Ok(None);
        }
        let kind = self.received[0];
        let mut length = [0; 4];
        length.copy_from_slice(&self.received[1..5]);
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME || !(HEAD..=END).contains(&kind) {
            return Err(Malformed);
        }
        if kind == DATA {
            self.received.advance(5);
            self.data_left = length;
            return if length == 0 { Ok(Some(Part::Data(Bytes::new()))) } else { self.next() };
        }
        if self.received.len() < 5 + length {
            return Ok(None);
        }
        self.received.advance(5);
        let bytes = self.received.split_to(length).freeze();
        Ok(Some(if kind == HEAD { Part::Head(bytes) } else { Part::End(bytes) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_however_they_are_torn() {
        let parts = [
            Part::Head(Bytes::from_static(b"{}")),
            Part::Data(Bytes::new()),
            Part::Data(Bytes::from(vec![7; 1000])),
            Part::End(Bytes::from_static(b"end")),
        ];
        let wire: Vec<u8> = parts.iter().flat_map(encode).flatten().collect();
        for piece in [1, 3, 5, 64, wire.len()] {
            let mut decoder = Decoder::default();
            let (mut head, mut data, mut end, mut signs) = (Vec::new(), Vec::new(), Vec::new(), 0);
            for bytes in wire.chunks(piece) {
                decoder.push(bytes);
                while let Some(part) = decoder.next().unwrap() {
                    match part {
                        Part::Head(bytes) => head.extend(bytes),
                        Part::Data(bytes) if bytes.is_empty() => signs += 1,
                        Part::Data(bytes) => data.extend(bytes),
                        Part::End(bytes) => end.extend(bytes),
                    }
                }
            }
            assert_eq!(
                (&head[..], data.len(), &end[..], signs),
                (&b"{}"[..], 1000, &b"end"[..], 1),
                "{piece}"
            );
        }
    }

    #[test]
    fn strange_bytes_are_refused_before_anything_is_allocated() {
        for wire in [&[0, 0, 0, 0, 0][..], &[4, 0, 0, 0, 0], &[2, 0xff, 0xff, 0xff, 0xff], b"HTTP/1.1"] {
            let mut decoder = Decoder::default();
            decoder.push(wire);
            assert_eq!(decoder.next(), Err(Malformed), "{wire:?}");
        }
    }
}
