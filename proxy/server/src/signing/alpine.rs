//! The RSA key of alpine indexes. apk 2 looks for `.SIGN.RSA256.{name}` and verifies it with the file of that name in
//! `/etc/apk/keys`: PKCS #1 v1.5 with SHA-256 (RFC 8017, 8.2), under a SubjectPublicKeyInfo in PEM.

use artifactapi_engine::keys::KeyError;
use artifactapi_model::{Digest, seal::SealError};
use rsa::{
    PrivateKey,
    pkcs8::{EncodePublicKey as _, LineEnding},
    sha2::Sha256,
};

use super::{StoredKey, parsed, rest::unopened};

/// How much of the public key's digest its name has.
const NAMED: usize = 8;

/// The key, with its public half as clients need it.
pub(super) struct AlpineKey {
    key: PrivateKey,
    name: String,
    public_pem: String,
}

impl AlpineKey {
    /// The file name of the public key, which tells keys apart.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    pub(super) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Signature over the SHA-256 `digest`.
    pub(super) fn sign(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let signature = self.key.pkcs1v15_sign_prehash::<Sha256>(&digest.0);
        signature.map_err(|_| "the RSA key did not sign".into())
    }

    fn of(key: PrivateKey) -> Option<Self> {
        let public = key.as_public_key();
        let digest = Digest::of(public.to_public_key_der().ok()?.as_bytes()).to_hex();
        Some(AlpineKey {
            name: format!("artifactapi-{}.rsa.pub", &digest[..NAMED]),
            public_pem: public.to_public_key_pem(LineEnding::LF).ok()?,
            key,
        })
    }
}

impl StoredKey for AlpineKey {
    const NAME: &'static str = "alpine";

    fn read(text: &str) -> Result<Self, KeyError> {
        parsed(text).and_then(AlpineKey::of).ok_or_else(|| unopened(Self::NAME, SealError::Damaged))
    }
}
