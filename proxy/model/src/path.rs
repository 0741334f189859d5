//! The one canonicaliser: raw percent-encoded request path in, canonical repository path out.
//!
//! Guard and handler use the same [`RepoPath`], so they cannot disagree (RS-20, RS-25). The canonical form
//! is *decoded* text; [`RepoPath::encode`] is the only way back to a URL. Two spellings of one thing give
//! one path, and no decoded text can be mistaken for another segment structure.

use std::{fmt, sync::Arc};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Longest accepted raw path, in bytes.
pub const MAX_PATH: usize = 8 * 1024;
/// Longest accepted segment after decoding, in bytes.
pub const MAX_SEGMENT: usize = 1024;

/// What a URL path must escape (RFC 3986 `pchar` left alone, so that `!`, `+`, `@`, `:` and `~` travel as
/// Go, Helm, npm and OCI clients write them).
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Which escaped slashes a type knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// None: `%2f` is refused.
    Plain,
    /// npm's `@scope%2fname`: one escaped slash in a segment that begins with `@`.
    NpmScope,
}

/// A canonical path below a repository: decoded UTF-8, no leading slash, no empty (but a trailing one
/// stays), `.` or `..` segments, no control characters, backslashes or percent signs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Arc<str>);

/// Why a path is refused, before any lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More than [`MAX_PATH`] bytes.
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// A segment of more than [`MAX_SEGMENT`] bytes.
    #[error("a path segment is longer than {MAX_SEGMENT} bytes")]
    SegmentTooLong,
    /// `.` or `..`, escaped or not.
    #[error("the path has a \".\" or \"..\" segment")]
    Traversal,
    /// Two slashes in a row, or one in front.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A slash or backslash written as an escape, or a backslash.
    #[error("the path has an escaped slash or a backslash")]
    EscapedSlash,
    /// A control character, or bytes that are not UTF-8.
    #[error("the path has a control character or is not UTF-8")]
    NotText,
    /// A percent sign that is not an escape, or an escaped one (double encoding).
    #[error("the path has a stray or doubly escaped \"%\"")]
    BadEscape,
    /// The text is no path of this package type.
    #[error("{0}")]
    NotOfThisType(&'static str),
}

impl RepoPath {
    /// Canonicalises `raw`, the percent-encoded path below the repository without a leading slash.
    ///
    /// # Errors
    /// [`PathError`] for anything RS-20 lists.
    pub fn parse(raw: &str, spelling: Spelling) -> Result<Self, PathError> {
        if raw.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        let mut canonical = String::with_capacity(raw.len());
        let mut segments = raw.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            if segment.is_empty() && !last {
                return Err(PathError::EmptySegment);
            }
            Self::decode_segment(segment, spelling, &mut canonical)?;
            if !last {
                canonical.push('/');
            }
        }
        // What is asked of upstream is the encoded form: a path that fits only until then could not be asked
        // for again by its own name.
        if canonical.len() > MAX_PATH / 3 && encode(&canonical).len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        Ok(RepoPath(canonical.into()))
    }

    fn decode_segment(segment: &str, spelling: Spelling, out: &mut String) -> Result<(), PathError> {
        if !has_only_whole_escapes(segment) {
            return Err(PathError::BadEscape);
        }
        let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| PathError::NotText)?;
        if decoded.len() > MAX_SEGMENT {
            return Err(PathError::SegmentTooLong);
        }
        if decoded.chars().any(char::is_control) {
            return Err(PathError::NotText);
        }
        if decoded.contains('%') {
            return Err(PathError::BadEscape);
        }
        if decoded.contains('\\') {
            return Err(PathError::EscapedSlash);
        }
        if decoded.contains('/') && !(spelling == Spelling::NpmScope && is_npm_scope(&decoded)) {
            return Err(PathError::EscapedSlash);
        }
        if decoded.split('/').any(|part| part == "." || part == "..") {
            return Err(PathError::Traversal);
        }
        out.push_str(&decoded);
        Ok(())
    }

    /// Takes text that is already canonical: a path a format has built from a parsed one.
    ///
    /// # Errors
    /// As [`RepoPath::parse`], for text no request could have produced.
    pub fn from_canonical(text: &str) -> Result<Self, PathError> {
        if text.contains('%') {
            return Err(PathError::BadEscape);
        }
        Self::parse(text, Spelling::Plain)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical text, shared rather than copied.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The last segment: a file's name, or empty for a directory path.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Everything before the last segment, with its slash; empty at the root.
    pub fn parent(&self) -> &str {
        &self.0[..self.0.len() - self.file_name().len()]
    }

    /// The path as it goes into a URL.
    pub fn encode(&self) -> String {
        encode(&self.0)
    }
}

/// Escapes canonical text for the path part of a URL; slashes stay.
pub fn encode(canonical: &str) -> String {
    utf8_percent_encode(canonical, PATH).to_string()
}

/// Appends to `text` what [`encode`] makes of `canonical`.
pub fn encode_to(canonical: &str, text: &mut String) {
    text.extend(utf8_percent_encode(canonical, PATH));
}

fn is_npm_scope(decoded: &str) -> bool {
    matches!(decoded.split_once('/'), Some((scope, name))
        if scope.len() > 1 && scope.starts_with('@') && !name.is_empty() && !name.contains('/'))
}

fn has_only_whole_escapes(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'%')
        .all(|(i, _)| bytes.get(i + 1..i + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rs_20_refuses_what_could_mean_two_things() {
        use PathError::*;
        for (raw, want) in [
            ("..", Traversal),
            ("a/../b", Traversal),
            ("a/./b", Traversal),
            ("a/%2e%2e/b", Traversal),
            ("a/%2E/b", Traversal),
            ("a//b", EmptySegment),
            ("/a", EmptySegment),
            ("a%2fb", EscapedSlash),
            ("a%5cb", EscapedSlash),
            ("a\\b", EscapedSlash),
            ("a%00b", NotText),
            ("a%0d%0ab", NotText),
            ("a%252fb", BadEscape),
            ("a%", BadEscape),
            ("a%zz", BadEscape),
            ("%c0%ae%c0%ae", NotText),
            ("@scope%2fname", EscapedSlash),
        ] {
            assert_eq!(RepoPath::parse(raw, Spelling::Plain), Err(want), "{raw}");
        }
        assert_eq!(RepoPath::parse(&"a".repeat(MAX_SEGMENT + 1), Spelling::Plain), Err(SegmentTooLong));
        assert_eq!(RepoPath::parse(&"a/".repeat(MAX_PATH), Spelling::Plain), Err(TooLong));
    }

    #[test]
    fn rs_20_a_path_is_measured_as_it_travels() {
        let segments = |letter: &str| vec![letter.repeat(500); 8].join("/");
        let plain = RepoPath::parse(&segments("a"), Spelling::Plain).unwrap();
        assert_eq!(RepoPath::parse(&plain.encode(), Spelling::Plain), Ok(plain));
        // Half as long as allowed as it came, too long with its escapes.
        assert_eq!(RepoPath::parse(&segments("é"), Spelling::Plain), Err(PathError::TooLong));
    }

    #[test]
    fn rs_21_one_thing_has_one_spelling() {
        for (raw, spelling, want) in [
            ("simple/flask/", Spelling::Plain, "simple/flask/"),
            ("a+b", Spelling::Plain, "a+b"),
            ("a%2Bb", Spelling::Plain, "a+b"),
            ("!burnt!sushi/%40v/list", Spelling::Plain, "!burnt!sushi/@v/list"),
            ("@scope%2fname", Spelling::NpmScope, "@scope/name"),
            ("@scope%2Fname", Spelling::NpmScope, "@scope/name"),
            ("@scope/name", Spelling::NpmScope, "@scope/name"),
            ("", Spelling::Plain, ""),
        ] {
            assert_eq!(RepoPath::parse(raw, spelling).unwrap().as_str(), want, "{raw}");
        }
        for raw in ["@a%2fb%2fc", "a%2fb", "@%2fb", "@a%2f..", "@a%2f"] {
            assert!(RepoPath::parse(raw, Spelling::NpmScope).is_err(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_idempotent(raw in "\\PC{0,64}|[a-z%2eEfF./@!+\\\\]{0,40}") {
            for spelling in [Spelling::Plain, Spelling::NpmScope] {
                if let Ok(path) = RepoPath::parse(&raw, spelling) {
                    prop_assert_eq!(&RepoPath::parse(&path.encode(), Spelling::Plain).unwrap(), &path);
                    prop_assert!(!path.as_str().split('/').any(|s| s == ".." || s == "."));
                    prop_assert!(!path.as_str().starts_with('/'));
                }
            }
        }
    }
}
