//! The Forge's paths, the parameters that belong to them, and which documents speak of a file.

use artifactapi_model::RepoPath;

use crate::{IndexRef, IndexUse};

/// Parameters of the lists, in canonical order: `module` first, so that the lists of one module share a
/// prefix of the key.
const LIST_PARAMETERS: &[&str] = &[
    "module",
    "owner",
    "query",
    "tag",
    "slugs",
    "starts_with",
    "limit",
    "offset",
    "sort_by",
    "with_html",
    "with_tasks",
    "with_plans",
    "with_pdk",
    "with_minimum_score",
    "with_release_since",
    "include_fields",
    "exclude_fields",
    "module_groups",
    "operatingsystem",
    "operatingsystemrelease",
    "pe_requirement",
    "puppet_requirement",
    "supported",
    "endorsements",
    "premium",
    "exclude_premium",
    "show_deleted",
    "hide_deprecated",
    "only_latest",
];
/// Those of them that leave nothing out of a list.
const NO_FILTERS: [&str; 9] = [
    "module",
    "limit",
    "offset",
    "sort_by",
    "with_html",
    "include_fields",
    "exclude_fields",
    "module_groups",
    "show_deleted",
];
/// Parameters of a single module, release or user.
const ITEM_PARAMETERS: &[&str] = &["with_html", "include_fields", "exclude_fields"];

/// Whether a list leaves items out because of the parameter `name`.
pub(super) fn is_filter(name: &str) -> bool {
    LIST_PARAMETERS.contains(&name) && !NO_FILTERS.contains(&name)
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A module, a release, a user, or a list of them.
    Document {
        /// Query parameters that belong to the key.
        parameters: &'static [&'static str],
    },
    /// A release's archive.
    File,
    /// Nothing known: it may change.
    Other,
}

/// Classifies `path`.
pub(super) fn classify(path: &RepoPath) -> Kind {
    let Some(rest) = path.as_str().strip_prefix("v3/") else { return Kind::Other };
    let (collection, item) = rest.split_once('/').unwrap_or((rest, ""));
    match (collection, item) {
        ("modules" | "releases" | "users", "") => Kind::Document { parameters: LIST_PARAMETERS },
        ("modules" | "releases" | "users", _) => Kind::Document { parameters: ITEM_PARAMETERS },
        ("files", name) if name.len() > ".tar.gz".len() && name.ends_with(".tar.gz") => Kind::File,
        _ => Kind::Other,
    }
}

/// The documents that may speak of the archive `{owner}-{module}-{version}.tar.gz`: its own first, then its
/// module's list, as `puppet module` asks for it, then the module, as r10k does.
pub(super) fn indexes_of(file_name: &str) -> Vec<IndexRef> {
    let slug = file_name.strip_suffix(".tar.gz").unwrap_or(file_name);
    let mut indexes = Vec::from(documents(format!("v3/releases/{slug}"), '?'));
    if let Some(module) = module_of(slug) {
        indexes.extend(documents(format!("v3/releases?module={module}"), '&'));
        indexes.extend(documents(format!("v3/modules/{module}"), '?'));
    }
    indexes
}

/// The document at `path` as it is and with further parameters.
fn documents(path: String, separator: char) -> [IndexRef; 2] {
    let with_parameters = format!("{path}{separator}");
    [IndexRef::held(path), IndexRef { path: with_parameters, when: IndexUse::HeldPrefix }]
}

/// `{owner}-{module}` of a release's slug: neither part has a dash, the version may. `None` for a name that
/// is no slug, and whose module would not be its own canonical query.
pub(super) fn module_of(slug: &str) -> Option<&str> {
    let mut parts = slug.splitn(3, '-');
    let (owner, module, version) = (parts.next()?, parts.next()?, parts.next()?);
    let is_word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_word(owner) && is_word(module) && !version.is_empty())
        .then(|| &slug[..owner.len() + 1 + module.len()])
}
