//! Signed links to files on other hosts: `-/x/{token}/{file name}`.
//!
//! The token carries the URL and the index that named it, under a keyed hash that all replicas share. So no
//! client can choose a host, no table has to be kept, and any replica resolves any link. The last segment
//! is the original file name without query, since clients parse names from it and append `.metadata` (pip)
//! or `.prov` (Helm) to it.
//!
//! A link is good in the Remote whose index named the URL, and nowhere else: what the upstream of one names must not
//! be fetched with the credentials and from the networks of another. What it is bound to are the Remote's names, so
//! that links in lock files outlive its edits.

use artifactapi_model::{RepoPath, Spelling, digest::Digest, repository::RemoteSpec};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use url::Url;

use crate::PlanError;

/// First segments of every signed link.
pub const PREFIX: &str = "-/x/";
/// Bytes of the keyed hash in a token.
const TAG: usize = 16;
/// Longest token; a path segment must hold it.
const MAX_TOKEN: usize = 1000;

/// Makes and opens signed links with the cluster's shared key.
#[derive(Clone)]
pub struct LinkSigner {
    key: [u8; 32],
}

impl std::fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkSigner")
    }
}

/// What a signed link stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Canonical path for key and patterns: the same for every index that names the URL.
    pub path: RepoPath,
    /// The file's URL.
    pub url: Url,
    /// Canonical path (with query) of the index that named it.
    pub index: String,
    /// What was appended to the file name (`.metadata`, `.prov`, `.asc`); empty for the file itself.
    pub suffix: String,
}

impl LinkSigner {
    /// A signer with a 32-byte shared secret.
    pub fn new(key: [u8; 32]) -> Self {
        LinkSigner { key }
    }

    fn tag(&self, remote: &RemoteSpec, payload: &[u8]) -> [u8; TAG] {
        // What tells repositories apart; the namespace comes last, since nothing else bounds what is in it.
        let owner = format!("{}\n{}\n{}", remote.package_type, remote.name, remote.namespace);
        let full = hmac(&hmac(&self.key, owner.as_bytes()), payload);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&full[..TAG]);
        tag
    }

    /// The link (percent-encoded, relative to the repository's root) for `url`, which the index of `remote` at
    /// canonical path `index` named. `None` when the URL is no http(s) URL with a file name or too long for
    /// a path segment: such an entry is left as it is.
    pub fn link(&self, remote: &RemoteSpec, index: &str, url: &Url) -> Option<String> {
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some()
        {
            return None;
        }
        let mut target = url.clone();
        target.set_fragment(None);
        let name = target.path().rsplit('/').next().filter(|name| !name.is_empty())?.to_owned();
        RepoPath::parse(&name, Spelling::Plain).ok()?;
        let payload = format!("{index}\n{target}");
        let mut token = self.tag(remote, payload.as_bytes()).to_vec();
        token.extend_from_slice(payload.as_bytes());
        let token = URL_SAFE_NO_PAD.encode(token);
        (token.len() <= MAX_TOKEN).then(|| format!("{PREFIX}{token}/{name}"))
    }

    /// Opens the link at `path` in `remote`, or `None` when the path is no signed link at all.
    ///
    /// # Errors
    /// [`PlanError::ForgedLink`] when it looks like one but was not made by this key for `remote`.
    pub fn open(&self, remote: &RemoteSpec, path: &RepoPath) -> Result<Option<NamedFile>, PlanError> {
        let Some(Token { bytes, name }) = Token::of(path)? else { return Ok(None) };
        let forged = || PlanError::ForgedLink;
        let (tag, payload) = bytes.split_at_checked(TAG).ok_or_else(forged)?;
        // A 128-bit keyed hash leaks nothing usable through comparison time of its own recomputation.
        if self.tag(remote, payload) != *tag {
            return Err(forged());
        }
        let (index, url) = split(payload)?;
        let mut url = Url::parse(url).map_err(|_| forged())?;
        let original = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let original = RepoPath::parse(&original, Spelling::Plain).map_err(|_| forged())?;
        let suffix = name.strip_prefix(original.as_str()).ok_or_else(forged)?.to_owned();
        if !matches!(suffix.as_str(), "" | ".metadata" | ".asc" | ".prov" | ".sig") {
            return Err(forged());
        }
        if !suffix.is_empty() {
            let with_suffix = format!("{}{suffix}", url.path());
            url.set_path(&with_suffix);
        }
        let path = RepoPath::from_canonical(&Self::canonical_path(&url, name))?;
        Ok(Some(NamedFile { path, url, index: index.to_owned(), suffix }))
    }

    /// The canonical path under which the file at `url` is kept, whichever index named it. Facts about
    /// such a file carry this path.
    pub fn canonical_path(url: &Url, file_name: &str) -> String {
        let mut url = url.clone();
        url.set_fragment(None);
        let id = &Digest::of(url.as_str().as_bytes()).to_hex()[..32];
        format!("{PREFIX}{id}/{file_name}")
    }
}

/// The index that the link at `path` says it comes from, whoever made it; `None` when the path is no signed link at
/// all. It tells where to look for whoever made the link, and nothing may be fetched on the strength of it.
///
/// # Errors
/// [`PlanError::ForgedLink`] when it looks like one but nobody can have made it.
pub(crate) fn claimed_index(path: &RepoPath) -> Result<Option<String>, PlanError> {
    let Some(Token { bytes, .. }) = Token::of(path)? else { return Ok(None) };
    let payload = bytes.get(TAG..).ok_or(PlanError::ForgedLink)?;
    Ok(Some(split(payload)?.0.to_owned()))
}

/// A link taken apart; nobody says yet who made it.
struct Token<'p> {
    /// Keyed hash, then payload.
    bytes: Vec<u8>,
    /// File name, perhaps with something appended.
    name: &'p str,
}

impl<'p> Token<'p> {
    fn of(path: &'p RepoPath) -> Result<Option<Self>, PlanError> {
        let Some(rest) = path.as_str().strip_prefix(PREFIX) else { return Ok(None) };
        let (token, name) = rest.split_once('/').ok_or(PlanError::ForgedLink)?;
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| PlanError::ForgedLink)?;
        Ok(Some(Token { bytes, name }))
    }
}

/// Index and URL.
fn split(payload: &[u8]) -> Result<(&str, &str), PlanError> {
    let text = std::str::from_utf8(payload).map_err(|_| PlanError::ForgedLink)?;
    text.split_once('\n').ok_or(PlanError::ForgedLink)
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use artifactapi_model::{PackageType, RepoName};

    use super::*;
    use crate::testing;

    fn remote() -> RemoteSpec {
        testing::remote(PackageType::Pypi, "https://up.example.org/")
    }

    fn path(link: &str) -> RepoPath {
        RepoPath::parse(link, Spelling::Plain).unwrap()
    }

    fn open(signer: &LinkSigner, link: &str) -> Result<Option<NamedFile>, PlanError> {
        signer.open(&remote(), &path(link))
    }

    #[test]
    fn a_link_opens_to_its_url_and_index() {
        let signer = LinkSigner::new([7; 32]);
        let url = Url::parse("https://files.example.org/a/b/pkg-1.0%2Blocal.whl#sha256=00").unwrap();
        let link = signer.link(&remote(), "simple/pkg/", &url).unwrap();
        assert!(link.ends_with("/pkg-1.0%2Blocal.whl"), "{link}");
        let file = open(&signer, &link).unwrap().unwrap();
        assert_eq!(file.url.as_str(), "https://files.example.org/a/b/pkg-1.0%2Blocal.whl");
        assert_eq!(file.index, "simple/pkg/");
        assert_eq!(file.path.as_str(), LinkSigner::canonical_path(&url, "pkg-1.0+local.whl"));
        let metadata = open(&signer, &format!("{link}.metadata")).unwrap().unwrap();
        assert_eq!(metadata.url.path(), "/a/b/pkg-1.0%2Blocal.whl.metadata");
        assert_ne!(metadata.path, file.path);
    }

    #[test]
    fn rs_34_no_client_chooses_a_host() {
        let signer = LinkSigner::new([7; 32]);
        let url = Url::parse("https://files.example.org/pkg.whl").unwrap();
        let link = signer.link(&remote(), "simple/pkg/", &url).unwrap();
        assert!(open(&LinkSigner::new([8; 32]), &link).is_err());
        assert!(open(&signer, &link.replace("pkg.whl", "other.whl")).is_err());
        assert!(open(&signer, "-/x/AAAA/pkg.whl").is_err());
        assert!(open(&signer, "-/x/pkg.whl").is_err());
        assert_eq!(open(&signer, "simple/pkg/").unwrap(), None);
        for bad in ["ftp://h/f", "https://u:p@h/f", "https://h/dir/", "file:///etc/passwd"] {
            assert_eq!(signer.link(&remote(), "i", &Url::parse(bad).unwrap()), None, "{bad}");
        }
    }

    #[test]
    fn rs_34_a_link_of_one_remote_is_none_of_another() {
        let signer = LinkSigner::new([7; 32]);
        let url = Url::parse("http://10.0.0.5:9200/_search?q=*").unwrap();
        let link = signer.link(&remote(), "simple/x/", &url).unwrap();
        let named = |name: &str, namespace: &str| RemoteSpec {
            name: RepoName::try_from(name).unwrap(),
            namespace: namespace.into(),
            ..remote()
        };
        let another = [
            named("s", "default"),
            named("r", "other"),
            named("r", ""),
            RemoteSpec { package_type: PackageType::Helm, ..remote() },
        ];
        for other in another {
            assert_eq!(signer.open(&other, &path(&link)), Err(PlanError::ForgedLink));
            assert_ne!(signer.link(&other, "simple/x/", &url).unwrap(), link);
        }
        assert_eq!(claimed_index(&path(&link)).unwrap().as_deref(), Some("simple/x/"));
    }

    #[test]
    fn a_link_outlives_edits_of_its_remote() {
        let signer = LinkSigner::new([7; 32]);
        let url = Url::parse("https://files.example.org/pkg.whl").unwrap();
        let edited = RemoteSpec {
            base_url: Url::parse("https://elsewhere.example.org/").unwrap(),
            max_concurrent: 1,
            ..remote()
        };
        let link = signer.link(&remote(), "simple/pkg/", &url).unwrap();
        assert_eq!(signer.link(&edited, "simple/pkg/", &url).unwrap(), link);
        assert_eq!(signer.open(&edited, &path(&link)).unwrap().unwrap().url, url);
        // What is in people's lock files: another text here breaks every one of them.
        let known = "kfJa9DESBxtaZZ77OXsyPnNpbXBsZS9wa2cvCmh0dHBzOi8vZmlsZXMuZXhhbXBsZS5vcmcvcGtnLndobA";
        assert_eq!(link, format!("-/x/{known}/pkg.whl"));
    }
}
