//! A reader whose every read ends somewhere else: what a network and a block store may do to a stream.

use std::io::{self, BufRead, Read};

/// Gives `left` in pieces of 1 to `longest` bytes.
pub struct Torn<'d> {
    left: &'d [u8],
    longest: usize,
    state: u32,
    piece: usize,
}

impl<'d> Torn<'d> {
    /// Tears `data`; the pieces follow from its content, so that an input fails the same way every time.
    pub fn new(data: &'d [u8], longest: usize) -> Self {
        let state = data.iter().fold(1, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        let mut torn = Torn { left: data, longest, state, piece: 0 };
        torn.tear();
        torn
    }

    fn tear(&mut self) {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let piece = 1 + (self.state >> 16) as usize % self.longest;
        self.piece = piece.min(self.left.len());
    }
}

impl Read for Torn<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.piece.min(buffer.len());
        buffer[..taken].copy_from_slice(&self.left[..taken]);
        self.consume(taken);
        Ok(taken)
    }
}

impl BufRead for Torn<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(&self.left[..self.piece])
    }

    fn consume(&mut self, amount: usize) {
        self.left = &self.left[amount..];
        self.piece -= amount;
        if self.piece == 0 {
            self.tear();
        }
    }
}
