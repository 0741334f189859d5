//! Caps on what an index may inflate to, so that a bomb ends in an error and not in memory (RS-62, RS-63).

use std::{
    fmt,
    io::{self, Read},
};

use crate::IndexError;

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

/// How much may still come, be it bytes or entries.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: usize,
    limit: &'static str,
}

impl Allowance {
    /// As much as `most`; errors name `limit`.
    pub(crate) fn of(most: usize, limit: &'static str) -> Self {
        Allowance { left: most, limit }
    }

    /// As many entries as an index may have.
    pub(crate) fn of_entries(limit: &'static str) -> Self {
        Allowance::of(MAX_ENTRIES, limit)
    }

    /// Takes `amount` of it.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`] when there is less.
    pub(crate) fn take(&mut self, amount: usize) -> Result<(), IndexError> {
        self.left = self.left.checked_sub(amount).ok_or(IndexError::TooLarge(self.limit))?;
        Ok(())
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> usize {
        self.left
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_62_an_allowance_can_be_taken_once() {
        let mut left = Allowance::of(5, "x");
        left.take(2).unwrap();
        left.take(3).unwrap();
        assert!(matches!(left.take(1), Err(IndexError::TooLarge("x"))));
    }

    #[test]
    fn rs_62_a_cap_is_an_error_not_an_end() {
        let mut out = Vec::new();
        assert_eq!(Capped::new(&b"12345"[..], 5, "x").read_to_end(&mut out).unwrap(), 5);
        let error = Capped::new(&b"123456"[..], 5, "x").read_to_end(&mut out).unwrap_err();
        assert_eq!(breach(&error), Some("x"));
        assert_eq!(breach(&io::Error::other("y")), None);
    }
}
