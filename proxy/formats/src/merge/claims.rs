//! Whose an entry is: what a merge remembers of the names and entries that it has met.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::Rules;

/// Names whose owner is decided: for types where a name belongs whole to the first member that has it.
pub(crate) struct Claims<'r> {
    rules: &'r dyn Rules,
    owners: HashMap<Box<str>, usize>,
}

impl<'r> Claims<'r> {
    /// None so far; `rules` say what counts.
    pub(crate) fn new(rules: &'r dyn Rules) -> Self {
        Claims { rules, owners: HashMap::new() }
    }

    /// Whether `member` may have the package `name`, whatever others have.
    pub(crate) fn may_have(&self, member: usize, name: &str) -> bool {
        self.rules.may_have(member, name)
    }

    /// Whether `member` may add entries of `name`, by the rules and by what earlier members have. Members must come
    /// in their order.
    pub(crate) fn admit(&mut self, member: usize, name: &str) -> bool {
        self.may_have(member, name)
            && (!self.rules.names_first() || *self.owners.entry(name.into()).or_insert(member) == member)
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
    use crate::merge::testing::Table;

    #[test]
    fn names_belong_to_the_first_member_only_where_the_rules_say_so() {
        let owners = [("kept".to_owned(), 1)].into();
        let rules = Table { names_first: true, owners };
        let mut claims = Claims::new(&rules);
        assert!(claims.admit(0, "a") && claims.admit(0, "a"));
        assert!(!claims.admit(1, "a"));
        assert!(!claims.admit(0, "kept") && claims.admit(1, "kept"));
        let united = Table { names_first: false, ..rules };
        assert!(Claims::new(&united).admit(1, "a"));
        assert!(!Claims::new(&united).admit(0, "kept"));
    }

    #[test]
    fn an_identity_is_met_once_and_parts_do_not_run_together() {
        let mut seen = Seen::default();
        assert!(seen.first(&["a", "bc"]) && seen.first(&["ab", "c"]) && seen.first(&["abc"]));
        assert!(!seen.first(&["a", "bc"]));
        assert!(seen.has(&["ab", "c"]) && !seen.has(&["a", "b", "c"]));
    }
}
