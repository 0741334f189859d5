//! What a merge remembers of the entries it has met.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::{IndexError, limits::MAX_ENTRIES};

/// Counts the entries of all members together.
#[derive(Debug, Default)]
pub(crate) struct Entries(usize);

impl Entries {
    /// Counts one more.
    ///
    /// # Errors
    /// [`IndexError::TooLarge`] past [`MAX_ENTRIES`].
    pub(crate) fn count(&mut self) -> Result<(), IndexError> {
        self.0 += 1;
        if self.0 > MAX_ENTRIES {
            return Err(IndexError::TooLarge("number of entries of all members together"));
        }
        Ok(())
    }
}

/// Identities that were met, in 16 bytes each however long the names are.
#[derive(Debug, Default)]
pub(crate) struct Seen(HashSet<[u8; 16]>);

impl Seen {
    /// Notes the identity that `parts` make up; whether it is met for the first time.
    pub(crate) fn first(&mut self, parts: &[&str]) -> bool {
        self.0.insert(identity(parts))
    }

    /// Whether the identity was noted.
    pub(crate) fn has(&self, parts: &[&str]) -> bool {
        self.0.contains(&identity(parts))
    }
}

/// A digest of `parts`, in which no two rows of parts look alike.
fn identity(parts: &[&str]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut identity = [0; 16];
    identity.copy_from_slice(&hasher.finalize()[..16]);
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_met_once_and_parts_do_not_run_together() {
        let mut seen = Seen::default();
        assert!(seen.first(&["a", "bc"]) && seen.first(&["ab", "c"]) && seen.first(&["abc"]));
        assert!(!seen.first(&["a", "bc"]));
        assert!(seen.has(&["ab", "c"]) && !seen.has(&["a", "b", "c"]));
    }

    #[test]
    fn rs_62_entries_are_bounded() {
        let mut entries = Entries(MAX_ENTRIES - 1);
        entries.count().unwrap();
        assert!(matches!(entries.count(), Err(IndexError::TooLarge(_))));
    }
}
