//! Following the relative references of an index: dots are resolved, escapes stay, as curl does it for dnf.

use artifactapi_model::{RepoPath, Spelling, path};

/// A file below the directory of the index that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Below {
    /// The member's own canonical path.
    pub(crate) path: RepoPath,
    /// The reference without dots and empty segments, with the escapes that the index has.
    pub(crate) reference: String,
}

/// The path to which `reference` leads from `directory` (percent-encoded, empty or with a trailing slash). `None` for
/// URLs, for what names no file, and for what leaves the repository (RS-26).
pub(crate) fn follow(directory: &str, reference: &str) -> Option<String> {
    let names_a_file = !matches!(reference.rsplit('/').next(), Some("" | "." | "..") | None);
    if !names_a_file
        || reference.starts_with('/')
        || reference.contains("://")
        || reference.contains(['?', '#'])
    {
        return None;
    }
    let mut segments: Vec<&str> = directory.split_terminator('/').collect();
    for segment in reference.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()?),
            name => segments.push(name),
        }
    }
    Some(segments.join("/"))
}

/// Follows `reference`, as an index in `directory` (canonical, empty or with a trailing slash) has it. `None` for
/// URLs, for what leaves the directory, since no [`crate::merge::qualified`] path leads there, and for what no request
/// could carry.
pub(crate) fn below(directory: &str, reference: &str) -> Option<Below> {
    let reference = follow("", reference)?;
    let path = RepoPath::parse(&format!("{}{reference}", path::encode(directory)), Spelling::Plain).ok()?;
    Some(Below { path, reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_stay_below_their_index() {
        for (reference, want) in [
            ("a/b.rpm", Some(("r x/a/b.rpm", "a/b.rpm"))),
            ("./a//c/../b%2Bc^1.rpm", Some(("r x/a/b+c^1.rpm", "a/b%2Bc^1.rpm"))),
            ("-/x/1/a.tgz", Some(("r x/-/x/1/a.tgz", "-/x/1/a.tgz"))),
            ("../b.rpm", None),
            ("a/../../r%20x/b.rpm", None),
            ("a/%2e%2e/b.rpm", None),
            ("/b.rpm", None),
            ("https://a.test/b.rpm", None),
            ("b.rpm?x", None),
            ("a/..", None),
            ("a/", None),
            ("", None),
        ] {
            let found = below("r x/", reference);
            let got = found.as_ref().map(|found| (found.path.as_str(), found.reference.as_str()));
            assert_eq!(got, want, "{reference}");
        }
    }
}
