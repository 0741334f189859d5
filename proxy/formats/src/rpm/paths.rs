//! Which paths of an RPM repository may change, and where their checksums are published.

use artifactapi_model::{Checksum, RepoPath};

/// Most directories above a package that are looked at for a `repodata/`, nearest first.
const MAX_ANCESTORS: usize = 16;

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `repodata/repomd.xml`: names the metadata of the current generation.
    Repomd,
    /// `repodata/repomd.xml.asc` and `.key`: one unit with it.
    RepomdCompanion,
    /// `repodata/{hex}-{name}`: the prefix is the file's own checksum, where its length is known.
    HashNamed(Option<Checksum>),
    /// Any other file of `repodata/`: changes with the generation.
    SimpleNamed,
    /// A package or a delta of one.
    Package,
    /// A list of mirror URLs.
    Mirrorlist,
    /// The same as XML, with checksums of `repomd.xml`.
    Metalink,
    /// Keys, tree descriptions, installer images, listings: anything may change.
    Other,
}

/// Classifies `path` (protocols: dnf4, dnf5, librepo).
pub(super) fn classify(path: &RepoPath) -> Kind {
    let name = path.file_name();
    if root_of(path).is_some() {
        return match name {
            "" => Kind::Other,
            "repomd.xml" => Kind::Repomd,
            "repomd.xml.asc" | "repomd.xml.key" => Kind::RepomdCompanion,
            _ => match checksum_prefix(name) {
                Some(digits) => Kind::HashNamed(checksum_of(digits)),
                None => Kind::SimpleNamed,
            },
        };
    }
    match name {
        "mirrorlist" | "mirrorlist.txt" => Kind::Mirrorlist,
        "metalink" | "metalink.xml" => Kind::Metalink,
        _ if name.ends_with(".rpm") || name.ends_with(".drpm") => Kind::Package,
        _ => Kind::Other,
    }
}

/// The repository root (canonical, with trailing slash; empty at our root) of a file directly in a
/// `repodata/` directory.
pub(super) fn root_of(path: &RepoPath) -> Option<&str> {
    path.parent().strip_suffix("repodata/").filter(|root| root.is_empty() || root.ends_with('/'))
}

/// The `repomd.xml` in the directory of `path`.
pub(super) fn repomd_beside(path: &RepoPath) -> String {
    format!("{}repomd.xml", path.parent())
}

/// The `repodata/repomd.xml` of every directory above `path`, nearest first, at most [`MAX_ANCESTORS`].
pub(super) fn repomds_above(path: &RepoPath) -> impl Iterator<Item = String> {
    std::iter::successors(Some(path.parent()), |directory| {
        let inner = directory.strip_suffix('/')?;
        Some(&inner[..inner.rfind('/').map_or(0, |slash| slash + 1)])
    })
    .take(MAX_ANCESTORS)
    .map(|directory| format!("{directory}repodata/repomd.xml"))
}

/// The hex digits of `{hex}-{rest}`: 32 to 128 lower-case ones, with something behind the dash.
fn checksum_prefix(name: &str) -> Option<&str> {
    let (digits, rest) = name.split_once('-')?;
    let is_hex = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    ((32..=128).contains(&digits.len()) && is_hex && !rest.is_empty()).then_some(digits)
}

/// The algorithm is told by the length alone; SHA-224 and SHA-384, which createrepo_c can also write, are
/// left to the size and checksum in `repomd.xml`.
fn checksum_of(digits: &str) -> Option<Checksum> {
    let algorithm = match digits.len() {
        32 => "md5",
        40 => "sha1",
        64 => "sha256",
        128 => "sha512",
        _ => return None,
    };
    Checksum::from_hex(algorithm, digits)
}
