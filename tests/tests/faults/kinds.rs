//! The ten types as the fault matrix sees them: a document that changes, a file that does not, and what
//! publishes the file's checksum. Made here from a few lines each, so that no client has to be installed.

mod archives;
mod languages;
mod systems;

use artifactapi_model::PackageType;
use artifactapi_tests::{Proxy, Upstream, http::Fetched, upstream::gzip};
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

/// Bytes of every file: more than is held back, so that an answer begins before its end is judged.
const FILE_BYTES: u32 = 200 << 10;

/// One package type.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) package_type: PackageType,
    /// Fields of the Remote's spec besides the common ones.
    pub(crate) spec: fn() -> Value,
    /// Fills an upstream.
    pub(crate) stock: fn(&Upstream) -> Stock,
}

/// What an upstream was filled with. Paths of clients are below the repository, those of the upstream below its root.
pub(crate) struct Stock {
    /// The document that changes, as clients and as the proxy ask for it.
    pub(crate) index: (&'static str, &'static str),
    /// How its versions are told apart.
    pub(crate) versions: Versions,
    /// Replaces it by its second version.
    pub(crate) change: Box<dyn Fn(&Upstream) + Send + Sync>,
    /// Further documents that a client reads on its way to the file.
    pub(crate) way: Vec<String>,
    /// Where clients find the file.
    pub(crate) file: Place,
    /// Where the upstream has it.
    pub(crate) file_upstream: String,
    /// The file.
    pub(crate) bytes: Bytes,
    /// Whether a document publishes a checksum of the file (or its name is one).
    pub(crate) published: bool,
    /// A pattern that blocks the file (and, where they belong together, the document).
    pub(crate) block: &'static str,
    /// Other spellings under which the same blocked thing may be asked for.
    pub(crate) aliases: Vec<String>,
}

/// How the versions of a document are told apart.
pub(crate) enum Versions {
    /// They are served as they are.
    Raw(Bytes, Bytes),
    /// Only the second holds this text.
    Mark(&'static str),
}

/// Where clients find a file.
pub(crate) enum Place {
    /// At this path.
    Named(String),
    /// Where the document says; the link ends in this.
    Linked(&'static str),
}

impl Versions {
    /// Checks that `answer` is the first version, or the second.
    pub(crate) fn check(&self, answer: &Fetched, second: bool) {
        match self {
            Versions::Raw(one, two) => assert_eq!(&answer.body, if second { two } else { one }),
            Versions::Mark(mark) => assert_eq!(answer.text().contains(mark), second, "{}", answer.text()),
        }
    }
}

impl Kind {
    /// Base URL of repository `name` for clients.
    pub(crate) fn base(&self, proxy: &Proxy, name: &str) -> String {
        match self.package_type {
            PackageType::Docker => format!("{}/v2/{name}/", proxy.url()),
            _ => proxy.remote(name),
        }
    }

    /// Checks that `answer` is a refusal with `status` in the shape that the type's clients expect.
    pub(crate) fn check_refused(&self, answer: &Fetched, status: u16) {
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.complete);
        assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
        if self.package_type == PackageType::Docker {
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
            let error = &answer.json()["errors"][0];
            let code = error["code"].as_str().expect("a code");
            let right = match status {
                403 => code == "DENIED",
                404 => code.ends_with("_UNKNOWN"),
                429 => code == "TOOMANYREQUESTS",
                _ => code == "UNAVAILABLE",
            };
            assert!(right, "{status}: {error}");
            assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
        } else {
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            let text = answer.text();
            assert!(text.len() > 1 && text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
            assert!(!text.contains('<'), "{text:?}");
        }
    }
}

impl Place {
    /// The file's URL, for a client that has read `index` at `index_url`.
    pub(crate) fn url(&self, base: &str, index_url: &str, index: &Fetched) -> String {
        match self {
            Place::Named(path) => format!("{base}{path}"),
            Place::Linked(end) => {
                let text = index.text();
                let at = text.find(end).unwrap_or_else(|| panic!("no {end} in {text}"));
                let start = text[..at].rfind(['"', '\'', ' ', '\n']).map_or(0, |quote| quote + 1);
                let link = &text[start..at + end.len()];
                Url::parse(index_url).and_then(|url| url.join(link)).expect("a link").into()
            }
        }
    }
}

/// All ten.
pub(crate) const ALL: [Kind; 10] = [
    archives::GENERIC,
    archives::DOCKER,
    archives::HELM,
    languages::PYPI,
    languages::NPM,
    systems::RPM,
    systems::ALPINE,
    archives::PUPPET,
    archives::TERRAFORM,
    languages::GOPROXY,
];

/// The kind of one type.
pub(crate) fn of(package_type: PackageType) -> Kind {
    ALL.into_iter().find(|kind| kind.package_type == package_type).expect("all ten are there")
}

fn nothing() -> Value {
    json!({})
}

/// Bytes that do not compress, the same every time.
pub(crate) fn noise(length: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A gzipped file.
fn tgz() -> Bytes {
    gzip(&noise(FILE_BYTES))
}

fn put_json(upstream: &Upstream, path: &str, value: &Value) {
    upstream.put_with(path, value.to_string(), &[("content-type", "application/json")]);
}
