//! A client of registries that chooses, for every request, which entry point it goes to, and remembers what was
//! acknowledged: the oracle for pushes.
//!
//! The contract is that of the OCI distribution specification 1.1; nothing here knows whose registry it is.

pub mod conformance;
mod ledger;
mod manifests;
pub mod register;
#[cfg(test)]
mod tests;
mod upload;

use std::{
    fmt,
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::HeaderMap;
use reqwest::{Body, Client, Method, redirect::Policy};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

pub use ledger::Ledger;
pub use manifests::{NewManifest, Pushed, image_of, index_of};
pub use upload::{Form, Session};

use crate::{
    http::{Fetched, PATIENCE, use_ring},
    wait,
};

/// Why a request did not do what it was asked to.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Method and path.
    pub request: String,
    /// Status of the answer; `None` when there was none: the request may have had its effect.
    pub status: Option<u16>,
    /// What was said.
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} {}", self.request, self.status, self.text)
    }
}

impl Refused {
    /// Whether the answer names this code of the specification.
    pub fn is(&self, code: &str) -> bool {
        self.text.contains(&format!("\"{code}\""))
    }
}

/// Does `act` again for as long as the answer is 503, within [`PATIENCE`]: a machine that is too busy for a statement in
/// time may be asked again, by whoever does the same when it has had its effect already.
///
/// # Errors
/// [`Refused`], as `act` says it.
pub async fn patiently<T, F>(mut act: impl FnMut() -> F) -> Result<T, Refused>
where
    F: Future<Output = Result<T, Refused>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        match act().await {
            Err(refused) if refused.status == Some(503) && Instant::now() < end => wait::breathe().await,
            other => return other,
        }
    }
}

/// Which entry point each request of an operation goes to.
#[derive(Debug)]
pub struct Route {
    entries: Vec<usize>,
    next: AtomicUsize,
}

impl Route {
    /// Always the same one.
    pub fn only(entry: usize) -> Self {
        Self::turns([entry])
    }

    /// These in turn, again and again.
    pub fn turns(entries: impl IntoIterator<Item = usize>) -> Self {
        Route { entries: entries.into_iter().collect(), next: AtomicUsize::new(0) }
    }

    /// The one for the next request.
    pub fn next(&self) -> usize {
        self.entries[self.next.fetch_add(1, Relaxed) % self.entries.len()]
    }
}

/// A registry with one or several entry points.
#[derive(Clone)]
pub struct Registry {
    roots: Arc<RwLock<Vec<String>>>,
    prefix: String,
    client: Client,
}

impl Registry {
    /// Reached at these root URLs (without a slash at their end); `prefix` stands before all names of images.
    ///
    /// # Panics
    /// Never: a client needs nothing of the machine.
    pub fn new(roots: impl IntoIterator<Item = String>, prefix: &str) -> Self {
        use_ring();
        let client = Client::builder().redirect(Policy::none()).no_proxy().pool_max_idle_per_host(0);
        let client = client.timeout(PATIENCE * 3).build().expect("a client needs nothing of the machine");
        let roots = Arc::new(RwLock::new(roots.into_iter().collect()));
        Registry { roots, prefix: prefix.to_owned(), client }
    }

    /// How many entry points there are.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn entries(&self) -> usize {
        self.roots.read().expect("no holder panics").len()
    }

    /// All entry points in turn.
    pub fn everywhere(&self) -> Route {
        Route::turns(0..self.entries())
    }

    /// The same, the first request going to `entry`.
    pub fn everywhere_from(&self, entry: usize) -> Route {
        let route = self.everywhere();
        route.next.store(entry, Relaxed);
        route
    }

    /// An image of it.
    pub fn image(&self, name: &str) -> Image {
        Image { registry: self.clone(), name: format!("{}{name}", self.prefix) }
    }

    /// One request for `path` (with its query) at entry point `entry`.
    ///
    /// # Errors
    /// [`Refused`] without a status, when no answer comes or it breaks off.
    ///
    /// # Panics
    /// When there is no such entry point.
    pub async fn send(
        &self,
        entry: usize,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<Fetched, Refused> {
        let root = self.roots.read().expect("no holder panics")[entry].clone();
        let request = format!("{method} {path} at {entry}");
        let lost = |error: reqwest::Error| Refused {
            request: request.clone(),
            status: None,
            text: format!("{error:?}"),
        };
        let mut sending = self.client.request(method, format!("{root}{path}")).body(body);
        for (name, value) in headers {
            sending = sending.header(*name, *value);
        }
        let answer = sending.send().await.map_err(lost)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await.map_err(lost)?;
        Ok(Fetched { status, headers, body, complete: true })
    }

    /// Length and SHA-256 of what `path` answers, read piece by piece.
    ///
    /// # Errors
    /// [`Refused`] when that is not a complete 200.
    ///
    /// # Panics
    /// When there is no such entry point.
    pub async fn digest_of(&self, entry: usize, path: &str) -> Result<(u64, String), Refused> {
        let root = self.roots.read().expect("no holder panics")[entry].clone();
        let request = format!("GET {path} at {entry}");
        let refused = |status, text| Refused { request: request.clone(), status, text };
        let lost = |error: reqwest::Error| refused(None, format!("{error:?}"));
        let mut answer = self.client.get(format!("{root}{path}")).send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        if status != 200 {
            let text = answer.text().await.unwrap_or_default();
            return Err(refused(Some(status), text));
        }
        let (mut hash, mut length) = (Sha256::new(), 0);
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            length += chunk.len() as u64;
            hash.update(&chunk);
        }
        Ok((length, format!("sha256:{}", hex::encode(hash.finalize()))))
    }
}

/// One image of a registry.
#[derive(Clone)]
pub struct Image {
    registry: Registry,
    name: String,
}

impl Image {
    /// Its whole name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.name)
    }

    async fn send(
        &self,
        entry: usize,
        method: Method,
        rest: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<Fetched, Refused> {
        self.registry.send(entry, method, &self.path(rest), headers, body).await
    }

    /// Whether the image has the blob.
    ///
    /// # Errors
    /// [`Refused`] when the answer is neither 200 nor 404.
    pub async fn has_blob(&self, entry: usize, digest: &str) -> Result<bool, Refused> {
        let rest = format!("blobs/{digest}");
        let answer = self.send(entry, Method::HEAD, &rest, &[], "").await?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refused(Method::HEAD, &rest, &answer)),
        }
    }

    /// Reads a blob and holds it against its digest.
    ///
    /// # Errors
    /// [`Refused`] when it does not come, or is another one (status 200).
    pub async fn verify_blob(&self, entry: usize, digest: &str) -> Result<u64, Refused> {
        let path = self.path(&format!("blobs/{digest}"));
        let (length, actual) = self.registry.digest_of(entry, &path).await?;
        if actual == digest {
            return Ok(length);
        }
        let text = format!("{length} bytes of {actual}");
        Err(Refused { request: format!("GET {path} at {entry}"), status: Some(200), text })
    }

    /// Takes a blob from the image; 202 or 404.
    ///
    /// # Errors
    /// [`Refused`] for any other answer.
    pub async fn delete_blob(&self, entry: usize, digest: &str) -> Result<(), Refused> {
        self.expect(entry, Method::DELETE, &format!("blobs/{digest}"), &[], "", &[202, 404]).await.map(drop)
    }

    async fn expect(
        &self,
        entry: usize,
        method: Method,
        rest: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
        statuses: &[u16],
    ) -> Result<Fetched, Refused> {
        let answer = self.send(entry, method.clone(), rest, headers, body).await?;
        if statuses.contains(&answer.status) { Ok(answer) } else { Err(refused(method, rest, &answer)) }
    }
}

fn refused(method: Method, what: &str, answer: &Fetched) -> Refused {
    Refused { request: format!("{method} {what}"), status: Some(answer.status), text: answer.text() }
}

/// `sha256:` and the digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    crate::fixtures::oci::digest(bytes)
}

/// Path and query of a `Location`, which may be a whole URL.
fn location(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("location")?.to_str().ok()?;
    let path = match text.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/')?..],
        None => text,
    };
    Some(path.to_owned())
}

/// Cuts `bytes` into pieces of `size`; the last may be shorter. Nothing has one piece, which is empty.
fn pieces(bytes: &Bytes, size: usize) -> Vec<Bytes> {
    let starts = (0..bytes.len().max(1)).step_by(size.max(1));
    starts.map(|start| bytes.slice(start..bytes.len().min(start + size.max(1)))).collect()
}
