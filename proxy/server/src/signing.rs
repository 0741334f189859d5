//! The keys that merged indexes are signed with: RSA for alpine, OpenPGP for rpm.
//!
//! A cluster has one of each, made when the first merge needs them and kept in the metadata database: a replica
//! that finds none makes a candidate and offers it, the database takes the first and gives it to all. Nothing
//! ever replaces a key, so clients install its public half once. In a shared database keys are sealed under
//! `ARTIFACTAPI_ENCRYPTION_KEY`, and without that there are none; a standalone proxy without it keeps them open in
//! its own file, which only its owner can read.
//!
//! Signatures are pure functions of key and document (PKCS #1 v1.5, no clock), so that replicas write the same
//! bytes.

mod alpine;
mod openpgp;
mod rest;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use artifactapi_engine::keys::{KeyError, Keys};
use artifactapi_formats::merge::Signer;
use artifactapi_model::{
    Digest, Sealer,
    ports::{MetadataError, MetadataStore},
};
use async_trait::async_trait;
use getrandom::SysRng;
use rsa::{
    PrivateKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;

use self::{alpine::AlpineKey, openpgp::OpenpgpKey, rest::AtRest};

/// Size of both keys.
const BITS: usize = 4096;

/// Public halves, as clients install them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// File name of the RSA key, as in `/etc/apk/keys`.
    pub rsa_name: String,
    /// The RSA key: SubjectPublicKeyInfo in PEM.
    pub rsa_pem: String,
    /// The OpenPGP certificate, armored.
    pub openpgp: String,
}

/// Finds or makes the signing keys, and keeps them.
#[derive(Clone)]
pub struct SigningKeys(Arc<Inner>);

struct Inner {
    store: Arc<dyn MetadataStore>,
    rest: AtRest,
    bits: usize,
    /// A failure is not kept: the next call tries again.
    pair: OnceCell<Arc<Pair>>,
}

impl SigningKeys {
    /// The keys of a cluster, in a database that others can look into; without a sealer there are none.
    pub fn shared(store: Arc<dyn MetadataStore>, sealer: Option<Arc<Sealer>>) -> Self {
        Self::new(store, AtRest::shared(sealer), BITS)
    }

    /// The keys of a standalone proxy, in a file of its own.
    pub fn private(store: Arc<dyn MetadataStore>, sealer: Option<Arc<Sealer>>) -> Self {
        Self::new(store, AtRest::private(sealer), BITS)
    }

    fn new(store: Arc<dyn MetadataStore>, rest: AtRest, bits: usize) -> Self {
        SigningKeys(Arc::new(Inner { store, rest, bits, pair: OnceCell::new() }))
    }

    /// The public halves; the keys are made when there are none.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn public_keys(&self) -> Result<PublicKeys, KeyError> {
        Ok(self.pair().await?.public.clone())
    }

    async fn pair(&self) -> Result<Arc<Pair>, KeyError> {
        if let Some(pair) = self.0.pair.get() {
            return Ok(pair.clone());
        }
        // In a task: a caller that goes away does not stop what others wait for.
        let inner = self.0.clone();
        let task = tokio::spawn(async move { inner.pair.get_or_try_init(|| inner.find()).await.cloned() });
        task.await.unwrap_or_else(|_| Err(failed("finding the signing keys")))
    }
}

#[async_trait]
impl Keys for SigningKeys {
    fn can_sign(&self) -> bool {
        self.0.rest.check().is_ok()
    }

    async fn signer(&self) -> Result<Arc<dyn Signer + Send + Sync>, KeyError> {
        Ok(self.pair().await?)
    }
}

impl Inner {
    async fn find(&self) -> Result<Arc<Pair>, KeyError> {
        self.rest.check()?;
        let (alpine, openpgp) = tokio::try_join!(self.key::<AlpineKey>(), self.key::<OpenpgpKey>())?;
        Ok(Arc::new(Pair::new(alpine, openpgp)))
    }

    async fn key<K: StoredKey>(&self) -> Result<K, KeyError> {
        let stored = match self.stored(K::NAME, None).await? {
            Some(stored) => stored,
            None => {
                let bits = self.bits;
                let candidate = blocking(move || made(bits)).await?;
                tracing::info!(key = K::NAME, "a signing key was made");
                let sealed = self.rest.seal(K::NAME, &candidate)?;
                let first = self.stored(K::NAME, Some(&sealed)).await?;
                first.ok_or_else(|| failed("storing a signing key"))?
            }
        };
        let text = self.rest.open(K::NAME, &stored)?;
        blocking(move || K::read(text.expose_secret())).await
    }

    async fn stored(&self, name: &str, candidate: Option<&str>) -> Result<Option<String>, KeyError> {
        let asked = self.store.signing_key(name, candidate).await;
        asked.map_err(|error: MetadataError| KeyError(format!("the signing keys cannot be had: {error}")))
    }
}

/// A private key that is kept as text.
trait StoredKey: Sized + Send + 'static {
    /// What it is stored as.
    const NAME: &'static str;

    /// Reads what [`made`] wrote.
    fn read(text: &str) -> Result<Self, KeyError>;
}

/// A new RSA key of `bits` bits: PKCS #8 in PEM. Takes seconds.
fn made(bits: usize) -> Result<SecretString, KeyError> {
    let failed = || failed("making a signing key");
    let key = PrivateKey::new(&mut SysRng, bits).map_err(|_| failed())?;
    let text = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| failed())?;
    Ok(text.as_str().into())
}

/// The key that [`made`] wrote.
fn parsed(text: &str) -> Option<PrivateKey> {
    PrivateKey::from_pkcs8_pem(text).ok()
}

/// Both keys.
struct Pair {
    alpine: AlpineKey,
    openpgp: OpenpgpKey,
    public: PublicKeys,
}

impl Pair {
    fn new(alpine: AlpineKey, openpgp: OpenpgpKey) -> Self {
        let public = PublicKeys {
            rsa_name: alpine.name().to_owned(),
            rsa_pem: alpine.public_pem().to_owned(),
            openpgp: openpgp.certificate().to_owned(),
        };
        Pair { alpine, openpgp, public }
    }
}

impl Signer for Pair {
    fn rsa_name(&self) -> String {
        self.public.rsa_name.clone()
    }

    fn identity(&self) -> String {
        format!("{} {}", self.public.rsa_name, Digest::of(self.public.openpgp.as_bytes()))
    }

    fn rsa_sha256(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        self.alpine.sign(digest)
    }

    fn openpgp(&self, document: &[u8]) -> Result<Option<String>, String> {
        self.openpgp.sign(document).map(Some)
    }
}

/// Runs what computes for long where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeyError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(failed("working on a signing key")))
}

/// Of what should not happen; the causes that libraries give may hold parts of a key.
fn failed(doing: &str) -> KeyError {
    KeyError(format!("{doing} failed; the log may say more, and the next request tries again"))
}
