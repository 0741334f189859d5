//! Caps on what an index may inflate to, so that a bomb ends in an error and not in memory (RS-62, RS-63).

use std::{
    fmt,
    io::{self, Read},
};

/// Largest inflated index, in bytes.
pub const MAX_INFLATED: u64 = 512 << 20;
/// Largest ratio of inflated to stored size, once 1 MiB has been inflated.
pub const MAX_RATIO: u64 = 200;
/// Largest document handed to [`crate::PackageFormat::compose`], in bytes.
pub const MAX_PART: u64 = 4 << 20;
/// Deepest nesting of JSON, XML or YAML.
pub const MAX_DEPTH: usize = 64;
/// Most entries (files, versions, packages) of one index.
pub const MAX_ENTRIES: usize = 2_000_000;

#[derive(Debug)]
struct Breach(&'static str);

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Breach {}

/// An I/O error that says which limit was exceeded.
pub fn breached(limit: &'static str) -> io::Error {
    io::Error::other(Breach(limit))
}

/// The limit an I/O error speaks of, if it came from here.
pub fn breach(error: &io::Error) -> Option<&'static str> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Breach>()).map(|breach| breach.0)
}

/// Passes at most `left` bytes, then fails (unlike [`Read::take`], which would look like a clean end).
pub struct Capped<R> {
    inner: R,
    left: u64,
    limit: &'static str,
}

impl<R: Read> Capped<R> {
    /// Caps `inner` at `bytes`; the error names `limit`.
    pub fn new(inner: R, bytes: u64, limit: &'static str) -> Self {
        Capped { inner, left: bytes, limit }
    }
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| breached(self.limit))?;
        Ok(read)
    }
}

/// Caps an inflating reader by [`MAX_INFLATED`] and by [`MAX_RATIO`] of `stored` bytes.
pub fn inflated<R: Read>(inner: R, stored: u64) -> Capped<R> {
    let by_ratio = stored.saturating_mul(MAX_RATIO).max(1 << 20);
    Capped::new(inner, by_ratio.min(MAX_INFLATED), "inflated size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_62_a_cap_is_an_error_not_an_end() {
        let mut out = Vec::new();
        assert_eq!(Capped::new(&b"12345"[..], 5, "x").read_to_end(&mut out).unwrap(), 5);
        let error = Capped::new(&b"123456"[..], 5, "x").read_to_end(&mut out).unwrap_err();
        assert_eq!(breach(&error), Some("x"));
        assert_eq!(breach(&io::Error::other("y")), None);
    }
}
