//! How a signing key lies in the database: sealed, or open in a file of ours.

use std::sync::Arc;

use artifactapi_engine::keys::KeyError;
use artifactapi_model::{Sealer, seal::SealError};
use secrecy::{ExposeSecret as _, SecretString};

/// How every key begins that is not sealed.
const OPEN: &str = "-----BEGIN ";

/// Seals and opens keys.
pub(super) struct AtRest {
    sealer: Option<Arc<Sealer>>,
    /// Whether nobody else can look into the database.
    is_private: bool,
}

impl AtRest {
    /// In a database that others can look into: only what is sealed is stored, and only that is believed.
    pub(super) fn shared(sealer: Option<Arc<Sealer>>) -> Self {
        AtRest { sealer, is_private: false }
    }

    /// In a file of ours: sealed if there is a sealer.
    pub(super) fn private(sealer: Option<Arc<Sealer>>) -> Self {
        AtRest { sealer, is_private: true }
    }

    /// Whether keys can be kept at all.
    pub(super) fn check(&self) -> Result<(), KeyError> {
        if self.sealer.is_some() || self.is_private {
            return Ok(());
        }
        Err(KeyError(
            "ARTIFACTAPI_ENCRYPTION_KEY is not set, and neither is ARTIFACTAPI_ENCRYPTION_KEY_FILE: merged indexes \
             are signed, and signing keys are stored encrypted only; give every replica the same one"
                .into(),
        ))
    }

    /// `key` as it is stored under `name`.
    pub(super) fn seal(&self, name: &str, key: &SecretString) -> Result<String, KeyError> {
        self.check()?;
        match &self.sealer {
            None => Ok(key.expose_secret().to_owned()),
            Some(sealer) => sealer
                .seal(&place(name), key.expose_secret().as_bytes())
                .map_err(|error| KeyError(format!("the signing key {name:?} cannot be sealed: {error}"))),
        }
    }

    /// The key that is stored as `stored` under `name`.
    pub(super) fn open(&self, name: &str, stored: &str) -> Result<SecretString, KeyError> {
        self.check()?;
        // In a shared database it would be one that somebody else has put there.
        if self.is_private && stored.starts_with(OPEN) {
            return Ok(stored.to_owned().into());
        }
        let Some(sealer) = &self.sealer else {
            return Err(KeyError(format!(
                "the signing key {name:?} is sealed: set ARTIFACTAPI_ENCRYPTION_KEY to what it was sealed with"
            )));
        };
        let opened = sealer.open(&place(name), stored).map_err(|error| unopened(name, error))?;
        String::from_utf8(opened).map(Into::into).map_err(|_| unopened(name, SealError::Damaged))
    }
}

/// What a key is sealed for: moved elsewhere it cannot be opened.
fn place(name: &str) -> String {
    format!("signing-key/{name}")
}

/// A key that cannot be read is never replaced: clients trust it.
pub(super) fn unopened(name: &str, error: SealError) -> KeyError {
    let cause = match error {
        SealError::OtherKey => {
            format!("ARTIFACTAPI_ENCRYPTION_KEY: the signing key {name:?}: {error}; set that one")
        }
        _ => format!("the signing key {name:?} cannot be read: {error}; bring the row back from a backup"),
    };
    KeyError(format!(
        "{cause}, or, if it is lost, delete the row from the table signing_keys and give all clients the new key"
    ))
}
