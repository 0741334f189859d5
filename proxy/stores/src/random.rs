//! Random bytes from the operating system.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// `N` bytes fit for secrets and tokens.
///
/// # Errors
/// Whatever the operating system says; in practice only before its pool is seeded.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}
