//! An index of any type, read and rewritten under the promises that all of them keep:
//!
//! - it does not matter into which pieces the stream is torn: output, facts and verdict are the same;
//! - output stays in proportion to input, and a second reading gives the same;
//! - a fact names a canonical path, and a request for that path is planned for exactly that path: what the
//!   guard and the checksums know under a name is what a client gets under it.

use std::io::{self, BufRead, BufReader, Write};

use artifactapi_formats::{
    Fact, PublicBase, Reach, Resource, RewriteContext, Source, format_of, link::PREFIX,
};
use artifactapi_model::{PackageType, RepoPath, path, repository::RemoteSpec};
use url::Url;

use crate::{links, remote, resource, torn::Torn};

/// Most bytes of output for an empty input: heads and our own base.
const MOST: usize = 16 << 10;
/// Most bytes of output for a byte of input. The shortest entry of an index has about twenty bytes and may
/// become a URL with a name of its own, a few hundred bytes long.
const MOST_PER_BYTE: usize = 64;

/// Which document the input is.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    pub package_type: PackageType,
    /// Raw path below the repository, then `?` and a query where it has one.
    pub target: &'a str,
    /// Upstream's.
    pub content_type: &'a str,
    /// The client's.
    pub accept: &'a str,
}

/// What became of an input.
pub struct Reading {
    pub remote: RemoteSpec,
    pub resource: Resource,
    /// The rewritten form; `None` where it was refused or the stored bytes are served.
    pub output: Option<Vec<u8>>,
    /// `None` where it was refused.
    pub facts: Option<Vec<Fact>>,
}

/// An input that is JSON, perhaps behind a byte order mark.
pub fn parsed(input: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(input.strip_prefix("\u{feff}".as_bytes()).unwrap_or(input)).ok()
}

/// Our own base in every rewrite.
pub fn base() -> PublicBase {
    PublicBase { origin: "https://own.example".into(), prefix: "/api/v1/remote/fuzz/".into() }
}

impl Document<'_> {
    /// Reads `data` as this document and holds the result against what every index promises.
    pub fn read(&self, data: &[u8]) -> Reading {
        let remote = remote(self.package_type);
        let resource = resource(&remote, self.target, self.accept).expect("the target is a document");
        let output =
            self.rewrite(&remote, &resource, data, &mut BufReader::with_capacity(data.len() + 1, data));
        let facts = self.facts(&remote, &resource, &mut BufReader::with_capacity(data.len() + 1, data));
        // One way to tear it for an input, all ways over the inputs.
        let longest = [1, 7, 512][data.len() % 3];
        let torn = self.rewrite(&remote, &resource, data, &mut Torn::new(data, longest));
        assert_eq!(output, torn, "rewritten otherwise in pieces of up to {longest} bytes");
        let torn = self.facts(&remote, &resource, &mut Torn::new(data, longest));
        assert_eq!(facts, torn, "other facts in pieces of up to {longest} bytes");
        facts.iter().flatten().for_each(|fact| check_fact(&remote, fact));
        Reading { remote, resource, output, facts }
    }

    fn url(&self, base: &Url) -> Url {
        base.join(self.target.split('?').next().unwrap_or_default()).expect("a valid URL")
    }

    fn rewrite(
        &self,
        remote: &RemoteSpec,
        resource: &Resource,
        data: &[u8],
        input: &mut dyn BufRead,
    ) -> Option<Vec<u8>> {
        resource.representation?;
        let url = self.url(&remote.base_url);
        let source = Source {
            path: &resource.path,
            query: &resource.query,
            content_type: self.content_type,
            url: &url,
        };
        let (base, links) = (base(), links());
        let cx = RewriteContext { base: &base, links: &links, remote, permits: &|_| true };
        let mut output = Bounded { bytes: Vec::new(), most: MOST + data.len() * MOST_PER_BYTE };
        format_of(self.package_type).rewrite(resource, &source, &cx, input, &mut output).ok()?;
        Some(output.bytes)
    }

    fn facts(&self, remote: &RemoteSpec, resource: &Resource, input: &mut dyn BufRead) -> Option<Vec<Fact>> {
        let url = self.url(&remote.base_url);
        let source = Source {
            path: &resource.path,
            query: &resource.query,
            content_type: self.content_type,
            url: &url,
        };
        let mut facts = Vec::new();
        format_of(self.package_type)
            .read_facts(&source, remote, input, &mut |fact| facts.push(fact))
            .ok()
            .map(|()| facts)
    }
}

impl Reading {
    /// The output as JSON, which it has to be.
    pub fn json(&self) -> Option<serde_json::Value> {
        let output = self.output.as_ref()?;
        Some(serde_json::from_slice(output).expect("rewritten JSON is JSON"))
    }

    /// The output as JSON. Values are copied without a look into their strings, so that what upstream wrote
    /// badly stays bad: `None` then, but only then.
    pub fn copied_json(&self, input: &[u8]) -> Option<serde_json::Value> {
        let output = serde_json::from_slice(self.output.as_ref()?).ok();
        assert!(output.is_some() || parsed(input).is_none(), "JSON became something else");
        output
    }

    /// The canonical path behind `reference`, a link in the output: it is followed as a client does, from our
    /// own address of this document. `None` for links to other hosts and to what is no file of ours.
    pub fn follow(&self, reference: &str) -> Option<RepoPath> {
        let base = Url::parse(&base().url()).expect("a valid URL");
        let document = base.join(&self.resource.path.encode()).expect("a valid URL");
        let url = document.join(reference).ok()?;
        let raw = url.as_str().split('#').next()?.strip_prefix(base.as_str())?;
        resource(&self.remote, raw, "").map(|resource| resource.path)
    }

    /// Follows a link to a file, which must be one that the facts know.
    pub fn check_link(&self, reference: &str) {
        let (Some(facts), Some(path)) = (&self.facts, self.follow(reference)) else { return };
        let is_known = facts.iter().any(|fact| fact.path == path.as_str());
        assert!(is_known, "{reference:?} leads to {path:?}, of which nothing is known: {facts:?}");
    }
}

fn check_fact(remote: &RemoteSpec, fact: &Fact) {
    let canonical = RepoPath::from_canonical(&fact.path).expect("a fact names a canonical path");
    assert_eq!(canonical.as_str(), fact.path);
    if let Some(url) = &fact.url {
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{url}");
    }
    if fact.reach == Reach::Prefix || fact.path.starts_with(PREFIX) {
        return;
    }
    if let Some(planned) = resource(remote, &path::encode(&fact.path), "") {
        assert_eq!(planned.path, canonical, "asked for by its own name");
    }
}

/// Output that may not outgrow its input.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.bytes.len() + bytes.len() <= self.most, "output outgrows its input");
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
