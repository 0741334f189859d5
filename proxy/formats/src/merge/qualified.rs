//! Paths of a Virtual that name the member whose file they are.
//!
//! `{directory}-/m/{member}/{rest}`: the rest lies below the directory of the index, as the index itself has it.
//! `{directory}-/m/{member}/-/top/{path}`: the path begins at the root of the member, for types whose indexes name
//! files all over a repository. Either way the directory says which index advertises the file.

use std::borrow::Cow;

/// What separates the directory of an index from the member and the member's own path.
const MARK: &str = "-/m/";
/// What a path from the member's root begins with.
const TOP: &str = "-/top/";

/// The Virtual's path for the file at `path` (canonical) of `member`, which an index in `directory` (canonical,
/// empty or with a trailing slash) names: `{directory}-/m/{member}/{rest}`. `None` when the file lies outside of
/// that directory.
pub fn qualified(directory: &str, member: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(directory).filter(|rest| !rest.starts_with(TOP))?;
    Some(format!("{directory}{MARK}{member}/{rest}"))
}

/// The same for a file wherever it lies, from the root of `member` on.
pub(crate) fn qualified_from_top(directory: &str, member: &str, path: &str) -> String {
    format!("{directory}{MARK}{member}/{TOP}{path}")
}

/// The member and its own path behind a [`qualified`] path.
pub fn unqualified(path: &str) -> Option<(&str, String)> {
    let (directory, member, rest) = split(path)?;
    match rest.strip_prefix(TOP) {
        Some("") => None,
        Some(own) => Some((member, own.to_owned())),
        None => Some((member, format!("{directory}{rest}"))),
    }
}

/// The path at `member` of one that [`qualified`] has made for an index in `directory`.
pub(crate) fn own<'p>(directory: &str, member: &str, path: &'p str) -> Cow<'p, str> {
    match &path[directory.len() + MARK.len() + member.len() + 1..] {
        rest if directory.is_empty() => Cow::Borrowed(rest),
        rest => Cow::Owned(format!("{directory}{rest}")),
    }
}

/// The directory of the index that names a [`qualified`] path.
pub(crate) fn directory_of(path: &str) -> Option<&str> {
    split(path).map(|(directory, _, _)| directory)
}

/// Directory, member and what follows of a [`qualified`] path.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let at = if path.starts_with(MARK) { 0 } else { path.find("/-/m/")? + 1 };
    let (member, rest) = path[at + MARK.len()..].split_once('/')?;
    (!member.is_empty() && !rest.is_empty()).then(|| (&path[..at], member, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualified_path_leads_back_to_member_and_path() {
        for (directory, path, want) in [
            ("", "charts/a-1.tgz", "-/m/one/charts/a-1.tgz"),
            ("v3.20/main/", "v3.20/main/x/a.rpm", "v3.20/main/-/m/one/x/a.rpm"),
        ] {
            let made = qualified(directory, "one", path).unwrap();
            assert_eq!(made, want);
            assert_eq!(unqualified(&made), Some(("one", path.to_owned())));
            assert_eq!(own(directory, "one", &made), path);
        }
        assert_eq!(qualified("a/", "one", "b/c"), None);
        for path in ["charts/a-1.tgz", "-/m/one", "-/m//a", "-/m/one/", "x-/m/one/a", "a/-/m/one/-/top/"] {
            assert_eq!(unqualified(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_from_the_top_leads_back_as_well() {
        for path in ["packages/a-1.whl", "simple/a/a-1.whl", "-/x/token/a-1.whl", "-/top/a-1.whl"] {
            let made = qualified_from_top("simple/a/", "one", path);
            assert_eq!(unqualified(&made), Some(("one", path.to_owned())));
            assert_eq!(directory_of(&made), Some("simple/a/"));
        }
        // Below its directory it would be read as one from the top.
        assert_eq!(qualified("a/", "one", "a/-/top/x"), None);
    }
}
