//! Which paths a Remote serves and for how long: the operator's patterns over the type's own rule.

use std::time::Duration;

use regex::RegexSet;

/// Largest compiled size of one list of patterns, in bytes (RS-70).
pub const MAX_PATTERN_SIZE: usize = 1 << 20;

/// Whether the bytes behind a path may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutability {
    /// Never: the first digest seen is the truth.
    Immutable,
    /// An index, a tag or a listing: revalidated when it is stale.
    Mutable,
}

/// How long a stored body counts as fresh. The wire's `0s` ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Never stale.
    Forever,
    /// Stale after this time.
    For(Duration),
}

/// Why policy refuses a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A `blocklist` pattern matches.
    #[error("the path is on this repository's blocklist")]
    Blocklisted,
    /// `patterns` are set and none matches.
    #[error("the path matches none of this repository's patterns")]
    NotAllowed,
    /// `docker.banTags` names the tag.
    #[error("the tag is banned in this repository")]
    BannedTag,
}

/// A Remote's patterns, compiled. Order: blocklist, patterns, overrides, type rule.
#[derive(Clone, Debug, Default)]
pub struct PathPolicy {
    /// Paths never served.
    pub blocklist: Patterns,
    /// When any is given, only these paths are served.
    pub patterns: Patterns,
    /// Paths treated as mutable whatever the type says.
    pub mutable: Patterns,
    /// Paths treated as immutable whatever the type says; `mutable` wins over it.
    pub immutable: Patterns,
}

impl PathPolicy {
    /// Whether there is anything that may not be served.
    pub fn hides(&self) -> bool {
        !self.blocklist.is_empty() || !self.patterns.is_empty()
    }

    /// Whether a path known under `aliases` (canonical path first, then every other spelling that names
    /// the same thing) may be served: no alias may be blocked, one must be allowed (RS-50).
    ///
    /// # Errors
    /// The [`Refusal`] that applies.
    pub fn permits<'a>(&self, aliases: impl IntoIterator<Item = &'a str> + Clone) -> Result<(), Refusal> {
        if aliases.clone().into_iter().any(|path| self.blocklist.matches(path)) {
            return Err(Refusal::Blocklisted);
        }
        if !self.patterns.is_empty() && !aliases.into_iter().any(|path| self.patterns.matches(path)) {
            return Err(Refusal::NotAllowed);
        }
        Ok(())
    }

    /// The mutability of `path` where the type's own rule says `by_type`.
    pub fn mutability(&self, path: &str, by_type: Mutability) -> Mutability {
        if self.mutable.matches(path) {
            Mutability::Mutable
        } else if self.immutable.matches(path) {
            Mutability::Immutable
        } else {
            by_type
        }
    }
}

/// A list of regular expressions (linear time, unanchored) compiled together.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Option<RegexSet>);

impl Patterns {
    /// Compiles `patterns`; an empty list matches nothing.
    ///
    /// # Errors
    /// The regex engine's message for the first pattern that does not compile or is too large.
    pub fn compile<S: AsRef<str>>(patterns: &[S]) -> Result<Self, regex::Error> {
        if patterns.is_empty() {
            return Ok(Patterns(None));
        }
        let set = regex::RegexSetBuilder::new(patterns).size_limit(MAX_PATTERN_SIZE).build()?;
        Ok(Patterns(Some(set)))
    }

    /// Whether any pattern matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|set| set.is_match(text))
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> PathPolicy {
        PathPolicy {
            blocklist: Patterns::compile(&["^secret/"]).unwrap(),
            patterns: Patterns::compile(&["^secret/", "^pub/"]).unwrap(),
            mutable: Patterns::compile(&["latest"]).unwrap(),
            immutable: Patterns::compile(&["^pub/"]).unwrap(),
        }
    }

    #[test]
    fn rs_50_blocklist_wins_over_patterns_under_every_alias() {
        assert_eq!(policy().permits(["pub/a"]), Ok(()));
        assert_eq!(policy().permits(["secret/a"]), Err(Refusal::Blocklisted));
        assert_eq!(policy().permits(["pub/a", "secret/a"]), Err(Refusal::Blocklisted));
        assert_eq!(policy().permits(["other"]), Err(Refusal::NotAllowed));
    }

    #[test]
    fn mutable_override_wins_over_immutable_over_type() {
        assert_eq!(policy().mutability("pub/latest", Mutability::Immutable), Mutability::Mutable);
        assert_eq!(policy().mutability("pub/x", Mutability::Mutable), Mutability::Immutable);
        assert_eq!(policy().mutability("x", Mutability::Mutable), Mutability::Mutable);
    }

    #[test]
    fn rs_70_a_hostile_pattern_is_an_error() {
        assert!(Patterns::compile(&["(a{1000}){1000}"]).is_err());
        assert!(Patterns::compile(&["("]).is_err());
    }
}
