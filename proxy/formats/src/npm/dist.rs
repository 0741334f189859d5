//! The `dist` object of a version: where its tarball is, what it must hash to, and what we say instead.

use std::io::Write;

use artifactapi_model::{Checksum, Checksums, RepoPath, repository::RemoteSpec};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::Url;

use super::name;
use crate::{
    Fact, IndexError, Reach,
    json::Reader,
    placement::{Placement, place, url_of},
};

/// What a URL in a document becomes.
pub(super) struct Links<'a> {
    remote: &'a RemoteSpec,
    base: String,
    name: &'a str,
    document: &'a Url,
    /// Upstream's usual URL of a tarball, and ours, each up to the version.
    usual: Option<(String, String)>,
}

/// Longest name of a package, and longest version, whose URLs are put together from parts that were checked before.
const MAX_USUAL: usize = 256;

impl<'a> Links<'a> {
    /// The URLs of the package `name` of `remote`, whose document came from `document`, below `base`, our external base
    /// URL with its trailing slash.
    pub(super) fn new(remote: &'a RemoteSpec, base: String, name: &'a str, document: &'a Url) -> Self {
        let mut links = Links { remote, base, name, document, usual: None };
        let path = links.tarball_path("0").filter(|_| name.len() <= MAX_USUAL).map(|path| path.encode());
        links.usual = path.and_then(|path| {
            let before = path.strip_suffix("0.tgz")?;
            Some((format!("{}{before}", remote.base_url), format!("{}{before}", links.base)))
        });
        links
    }

    /// What clients get for `tarball`, when it is where registries have that of `version`: nearly always.
    fn usual(&self, version: &str, tarball: &str) -> Option<String> {
        let (theirs, ours) = self.usual.as_ref()?;
        let is_version = tarball.strip_prefix(theirs.as_str())?.strip_suffix(".tgz")? == version;
        let needs_no_escape =
            |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'+');
        let is_plain = (1..=MAX_USUAL).contains(&version.len()) && version.bytes().all(needs_no_escape);
        (is_version && is_plain).then(|| [ours, version, ".tgz"].concat())
    }

    /// The canonical path of `version`'s tarball; `None` when that is no path (a hostile version).
    fn tarball_path(&self, version: &str) -> Option<RepoPath> {
        let well_formed = !version.is_empty() && !version.contains('/');
        let path = name::tarball_path(self.name, version);
        well_formed.then(|| RepoPath::from_canonical(&path).ok()).flatten()
    }

    /// What clients get for `tarball`, or `None` when it stays as it is.
    fn tarball(&self, version: &str, tarball: &str) -> Option<String> {
        if let Some(url) = self.usual(version, tarball) {
            return Some(url);
        }
        let path = self.tarball_path(version)?.encode();
        // Where registries have it, which saves reading the URL.
        let is_usual = tarball.strip_prefix(self.remote.base_url.as_str()) == Some(&path);
        let left = || self.placement(tarball).is_some_and(|place| matches!(place, Placement::Left(_)));
        (is_usual || !left()).then(|| self.base.clone() + &path)
    }

    fn placement(&self, url: &str) -> Option<Placement> {
        self.document.join(url).ok().map(|url| place(self.remote, self.document, &url))
    }

    /// What clients get for an attestations URL: the same endpoint below our base, where upstream's own
    /// registry has it. npm resolves only its path, against our origin.
    fn attestations(&self, url: &str) -> Option<String> {
        let url = self.document.join(url).ok().filter(|url| self.remote.is_own_origin(url))?;
        let rest = url.path().strip_prefix(self.remote.base_url.path())?;
        Some(format!("{}{rest}", self.base))
    }

    /// Copies the `dist` object that comes next, with our URLs in it.
    pub(super) fn rewrite_dist(
        &self,
        version: &str,
        reader: &mut Reader<'_>,
        out: &mut dyn Write,
    ) -> Result<(), IndexError> {
        reader.object(out, |reader, out, key| match (key, reader.peek(out)?) {
            ("tarball", b'"') => reader.replace_text(out, |url| self.tarball(version, url)),
            ("attestations", b'{') => reader.object(out, |reader, out, key| match (key, reader.peek(out)?) {
                ("url", b'"') => reader.replace_text(out, |url| self.attestations(url)),
                _ => reader.value(out),
            }),
            _ => reader.value(out),
        })
    }

    /// What `dist`, an object of `version`, says about the tarball.
    pub(super) fn fact(&self, version: &str, dist: &serde_json::Value) -> Option<Fact> {
        let path = self.tarball_path(version)?;
        let text = |key: &str| dist.get(key).and_then(serde_json::Value::as_str);
        let url = match self.placement(text("tarball")?) {
            Some(Placement::Below(below)) if below == path => None,
            Some(Placement::Below(below)) => url_of(&self.remote.base_url, below.as_str()),
            Some(Placement::Linked(url)) => Some(url),
            // The client goes there by itself, or upstream is asked at the canonical path.
            Some(Placement::Left(_) | Placement::Dropped) | None => None,
        };
        let integrity = text("integrity").and_then(strongest);
        let checksum = integrity.or_else(|| Checksum::from_hex("sha1", text("shasum")?));
        let checksums: Checksums = checksum.into_iter().collect();
        Some(Fact { path: path.as_str().to_owned(), reach: Reach::File, url, checksums })
    }
}

/// The strongest hash of a Subresource Integrity text that we can compute. Of several hashes of one
/// algorithm any may match (W3C SRI, 3.3.4), which a list of claims cannot say: such an algorithm is passed
/// over.
fn strongest(integrity: &str) -> Option<Checksum> {
    let of = |algorithm: &str, wrap: fn(&[u8]) -> Option<Checksum>| {
        let mut hashes = integrity.split_ascii_whitespace().filter_map(|item| {
            let hash = item.strip_prefix(algorithm)?.strip_prefix('-')?;
            let hash = hash.split('?').next().unwrap_or_default();
            wrap(&STANDARD.decode(hash).ok()?)
        });
        let first = hashes.next()?;
        hashes.all(|hash| hash == first).then_some(first)
    };
    of("sha512", |hash| hash.try_into().ok().map(Checksum::Sha512))
        .or_else(|| of("sha256", |hash| hash.try_into().ok().map(Checksum::Sha256)))
        .or_else(|| of("sha1", |hash| hash.try_into().ok().map(Checksum::Sha1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    proptest! {
        #[test]
        fn a_usual_url_becomes_what_any_url_becomes(
            name in "(@[a-z%é.]{1,3}/)?[a-z.%é~+-]{1,6}",
            version in "[0-9a-zé.%/+_~-]{0,6}",
            host in prop::sample::select(vec!["https://up.test/", "https://other.test/", ""]),
            rest in prop::option::of("[a-z0-9/.-]{0,8}"),
        ) {
            let remote = testing::remote(artifactapi_model::PackageType::Npm, "https://up.test/");
            let document = Url::parse("https://up.test/p").unwrap();
            let links = Links::new(&remote, "https://here.test/p/".to_owned(), &name, &document);
            let slow = Links { usual: None, base: links.base.clone(), ..links };
            let path = slow.tarball_path(&version).map(|path| path.encode());
            let url = host.to_owned() + &rest.or(path).unwrap_or_default();
            prop_assert_eq!(links.usual(&version, &url).or_else(|| slow.tarball(&version, &url)), slow.tarball(&version, &url));
        }
    }

    #[test]
    fn rs_09_the_strongest_unambiguous_hash_counts() {
        let hash = |bytes: &[u8]| STANDARD.encode(bytes);
        let (sha1, sha256, sha512) = (hash(&[1; 20]), hash(&[2; 32]), hash(&[3; 64]));
        for (integrity, want) in [
            (format!("sha1-{sha1} sha512-{sha512}?opt"), Some(Checksum::Sha512([3; 64]))),
            (format!("sha512-{sha512} sha512-{sha512}"), Some(Checksum::Sha512([3; 64]))),
            (
                format!("sha512-{sha512} sha512-{} sha256-{sha256}", hash(&[4; 64])),
                Some(Checksum::Sha256([2; 32])),
            ),
            (format!("sha1-{sha1}"), Some(Checksum::Sha1([1; 20]))),
            (format!("sha512-{sha1} md5-x"), None),
            (String::new(), None),
        ] {
            assert_eq!(strongest(&integrity), want, "{integrity}");
        }
    }
}
