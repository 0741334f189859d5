//! Buffers for reads, used again and again.
//!
//! A fresh buffer of this size is a fresh mapping: its page faults cost more than the copy into it. The one
//! used last is still in the processor's cache, so it is handed out first.

use std::sync::{Arc, Mutex, PoisonError};

/// Below this a buffer is cheaper to make than to keep.
const SMALL: usize = 64 << 10;
/// Sizes that are kept, and how many of each: at most 8 MiB together.
const KEPT: [(usize, usize); 4] = [(128 << 10, 8), (256 << 10, 8), (512 << 10, 4), (1 << 20, 3)];

/// Free buffers.
#[derive(Debug, Default)]
pub(in crate::blobs) struct Buffers {
    free: [Mutex<Vec<Vec<u8>>>; KEPT.len()],
}

/// A buffer that goes back when it, or the last `Bytes` made of it, is dropped.
#[derive(Debug)]
pub(in crate::blobs) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A buffer of `length` bytes with unspecified (but initialised) contents.
    pub(in crate::blobs) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let class = KEPT.iter().position(|(size, _)| length <= *size);
        let bytes = match class {
            Some(class) if length > SMALL => {
                let free = self.free[class].lock().unwrap_or_else(PoisonError::into_inner).pop();
                free.unwrap_or_else(|| vec![0; KEPT[class].0])
            }
            _ => vec![0; length],
        };
        Buffer { bytes, length, home: self.clone() }
    }
}

impl Buffer {
    pub(in crate::blobs) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(class) = KEPT.iter().position(|(size, _)| self.bytes.len() == *size) {
            let mut free = self.home.free[class].lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < KEPT[class].1 {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_few_are_kept() {
        let buffers = Arc::new(Buffers::default());
        let mut first = buffers.take(200 << 10);
        assert_eq!(first.as_mut().len(), 200 << 10);
        let address = first.as_ref().as_ptr();
        drop(first);
        let again = buffers.take(256 << 10);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (address, 256 << 10));
        drop((0..100).map(|_| buffers.take(1 << 20)).collect::<Vec<_>>());
        assert_eq!(buffers.free[3].lock().unwrap().len(), KEPT[3].1);
        for length in [100 << 10, 128 << 10, 300 << 10] {
            let buffer = buffers.take(length);
            assert!(buffer.bytes.len() < 2 * length, "{length} bytes do not take {}", buffer.bytes.len());
        }
        assert_eq!(buffers.take(10).as_ref(), [0; 10]);
    }
}
