//! Project and file names, and what a path means.

use artifactapi_model::path;

use crate::PlanError;

/// What a canonical path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place<'p> {
    /// The same page is at this percent-encoded path.
    Moved(String),
    /// A page of projects or files.
    Page,
    /// `pypi/{project}/json` or `pypi/{project}/{version}/json`.
    Api,
    /// A distribution file, or a file made by appending to its name.
    File {
        /// The distribution file's name.
        original: &'p str,
    },
    /// Anything else.
    Unknown,
}

/// Extensions of distribution files, past and present.
const EXTENSIONS: [&str; 12] = [
    ".whl", ".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".tar.z", ".egg", ".exe", ".msi", ".rpm",
    ".deb",
];
/// What is appended to a distribution file's name.
const SUFFIXES: [&str; 3] = [".metadata", ".asc", ".sig"];

/// A project's name as PEP 503 normalises it.
pub(super) fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut gap = false;
    for c in name.chars() {
        if matches!(c, '-' | '_' | '.') {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    if gap {
        out.push('-');
    }
    out
}

fn is_project(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// The name of the distribution file that `name` is, or is appended to.
pub(super) fn distribution(name: &str) -> Option<&str> {
    let original = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let lower = original.to_ascii_lowercase();
    EXTENSIONS.iter().any(|end| lower.len() > end.len() && lower.ends_with(end)).then_some(original)
}

/// Finds out what `canonical` names.
///
/// # Errors
/// [`PlanError::NotFound`] for a project that no name can be.
pub(super) fn place(canonical: &str) -> Result<Place<'_>, PlanError> {
    let segments: Vec<&str> = canonical.split('/').collect();
    if let ["pypi", project, .., "json"] = segments[..]
        && (3..=4).contains(&segments.len())
    {
        let wanted = normalised(project);
        if wanted != project {
            let rest = segments[2..].join("/");
            return Ok(Place::Moved(path::encode(&format!("pypi/{wanted}/{rest}"))));
        }
        return Ok(Place::Api);
    }
    let file = segments.last().copied().unwrap_or_default();
    let is_simple = |segment: &str| matches!(segment, "simple" | "+simple");
    // The segment that names the project, where there is one.
    let after = segments.iter().position(|segment| is_simple(segment)).map(|at| &segments[at + 1..]);
    match after {
        Some([]) => return Ok(Place::Moved(format!("{}/", path::encode(canonical)))),
        Some([project]) if !project.is_empty() && distribution(project).is_none() => {
            return Ok(Place::Moved(page(canonical, project)?));
        }
        Some([project, ""]) => {
            let to = page(canonical.trim_end_matches('/'), project)?;
            return Ok(if to == path::encode(canonical) { Place::Page } else { Place::Moved(to) });
        }
        _ => {}
    }
    Ok(match distribution(file) {
        Some(original) => Place::File { original },
        None if file.is_empty() || file.ends_with(".html") => Place::Page,
        None => Place::Unknown,
    })
}

/// Where the page of `project`, the last segment of `canonical`, really is.
fn page(canonical: &str, project: &str) -> Result<String, PlanError> {
    if !is_project(project) {
        return Err(PlanError::NotFound("a project name has only letters, digits, '.', '-' and '_'"));
    }
    let parent = &canonical[..canonical.len() - project.len()];
    Ok(path::encode(&format!("{parent}{}/", normalised(project))))
}

/// Pages that may list the distribution file `name` in directory `parent`, likeliest first.
pub(super) fn pages_of(parent: &str, name: &str) -> Vec<String> {
    let mut pages = Vec::new();
    let mut add = |page: String| {
        if !pages.contains(&page) {
            pages.push(page);
        }
    };
    let projects = projects_of(name);
    for project in &projects {
        add(format!("simple/{project}/"));
    }
    if !parent.is_empty() {
        add(parent.to_owned());
    }
    for project in &projects {
        add(format!("{parent}{project}/"));
    }
    pages
}

/// Projects that a distribution file's name may belong to. A wheel says it plainly; in an sdist of old, both
/// name and version may have dashes: the version begins at the first dash before a digit, or at the last dash.
pub(super) fn projects_of(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |stem: &str| {
        let project = normalised(stem);
        if is_project(stem) && !found.contains(&project) {
            found.push(project);
        }
    };
    if name.ends_with(".whl") || name.ends_with(".egg") {
        add(name.split('-').next().unwrap_or_default());
        return found;
    }
    let before_digit =
        name.match_indices('-').find(|(at, _)| name[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    for (at, _) in before_digit.into_iter().chain(name.rmatch_indices('-').next()) {
        add(&name[..at]);
    }
    found
}

/// The version that a distribution file's name says, as it says it. In an sdist of old it begins at the first dash
/// before a digit.
pub(super) fn version_of(name: &str) -> Option<&str> {
    let lower = name.to_ascii_lowercase();
    let end = EXTENSIONS.iter().find(|end| lower.ends_with(*end))?;
    let stem = name.get(..name.len() - end.len())?;
    if matches!(*end, ".whl" | ".egg") {
        return stem.split('-').nth(1);
    }
    let digit =
        stem.match_indices('-').find(|(at, _)| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()))?;
    Some(&stem[digit.0 + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_pep_503_says() {
        for (name, want) in [
            ("Flask", "flask"),
            ("a__b.-c", "a-b-c"),
            ("zope.interface", "zope-interface"),
            ("x", "x"),
            ("a-", "a-"),
        ] {
            assert_eq!(normalised(name), want);
            assert_eq!(normalised(want), want);
        }
    }

    #[test]
    fn a_file_name_tells_its_version() {
        for (name, want) in [
            ("Flask-3.0.0-py3-none-any.whl", Some("3.0.0")),
            ("a-1.0+cpu-cp39-cp39-linux_x86_64.whl", Some("1.0+cpu")),
            ("python-dateutil-2.8.tar.gz", Some("2.8")),
            ("foo-1.0-beta.ZIP", Some("1.0-beta")),
            ("a-1.0.egg", Some("1.0")),
            ("nodash.zip", None),
            ("Flask-3.0.0", None),
            (".whl", None),
        ] {
            assert_eq!(version_of(name), want, "{name}");
        }
    }

    #[test]
    fn a_file_name_tells_its_project() {
        for (name, want) in [
            ("Flask-3.0.0-py3-none-any.whl", &["flask"][..]),
            ("zope.interface-6.0.tar.gz", &["zope-interface"]),
            ("python-dateutil-2.8.tar.gz", &["python-dateutil"]),
            ("foo-1.0-beta.zip", &["foo", "foo-1-0"]),
            ("nodash.zip", &[]),
        ] {
            assert_eq!(projects_of(name), want, "{name}");
        }
        assert_eq!(pages_of("whl/cpu/", "torch-2.0-x.whl"), ["simple/torch/", "whl/cpu/", "whl/cpu/torch/"]);
    }
}
