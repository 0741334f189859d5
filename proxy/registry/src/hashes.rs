//! Hashes of a body that comes in several requests, to several processes: the state between two of them is a text in
//! the session's row, so that no byte is read twice.

use artifactapi_model::{
    Digest,
    oci::{Algorithm, OciDigest},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// The running hashes: always SHA-256, the key in the blob store, and SHA-512 where the client announced it.
#[derive(Clone, Debug, Default)]
pub struct Hashes {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

/// A text that is no state of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recorded state of a hash is damaged")]
pub struct Damaged;

impl Hashes {
    /// Hashes of nothing, for a client that will name the body by `algorithm`.
    pub fn for_algorithm(algorithm: Algorithm) -> Self {
        Hashes { sha256: Sha256::new(), sha512: (algorithm == Algorithm::Sha512).then(Sha512::new) }
    }

    /// Reads a state; the empty text is that of nothing.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn load(text: &str) -> Result<Self, Damaged> {
        if text.is_empty() {
            return Ok(Hashes::default());
        }
        let (first, second) = text.split_once('.').map_or((text, None), |(first, rest)| (first, Some(rest)));
        Ok(Hashes { sha256: read(first)?, sha512: second.map(read).transpose()? })
    }

    /// The state as text: about 150 characters, 450 with SHA-512.
    pub fn save(&self) -> String {
        let first = STANDARD.encode(self.sha256.serialize());
        match &self.sha512 {
            Some(sha512) => format!("{first}.{}", STANDARD.encode(sha512.serialize())),
            None => first,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The SHA-256 of all bytes.
    pub fn sha256(&self) -> Digest {
        Digest(self.sha256.clone().finalize().into())
    }

    /// The digest of all bytes by `algorithm`; `None`: it was not announced at the beginning.
    pub fn digest(&self, algorithm: Algorithm) -> Option<OciDigest> {
        match algorithm {
            Algorithm::Sha256 => Some(self.sha256().into()),
            Algorithm::Sha512 => Some(OciDigest::Sha512(self.sha512.clone()?.finalize().into())),
        }
    }
}

fn read<H: SerializableState>(text: &str) -> Result<H, Damaged> {
    let bytes = STANDARD.decode(text).map_err(|_| Damaged)?;
    let state = SerializedState::<H>::try_from(bytes.as_slice()).map_err(|_| Damaged)?;
    H::deserialize(&state).map_err(|_| Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_in_pieces_has_the_digest_of_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let whole = pieces.concat();
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let mut state = Hashes::for_algorithm(algorithm).save();
                for piece in &pieces {
                    let mut hashes = Hashes::load(&state).unwrap();
                    hashes.update(piece);
                    state = hashes.save();
                    prop_assert!(state.len() < 500, "{}", state.len());
                }
                let hashes = Hashes::load(&state).unwrap();
                prop_assert_eq!(hashes.digest(algorithm), Some(OciDigest::of(algorithm, &whole)));
                prop_assert_eq!(hashes.sha256(), Digest::of(&whole));
            }
        }

        #[test]
        fn other_texts_are_no_state(text in "\\PC{0,200}") {
            let _ = Hashes::load(&text);
        }
    }

    #[test]
    fn a_damaged_state_is_told() {
        let good = Hashes::default().save();
        for bad in ["x", &good[1..], &format!("{good}."), &format!(".{good}")] {
            assert_eq!(Hashes::load(bad).unwrap_err(), Damaged, "{bad}");
        }
        assert_eq!(Hashes::default().digest(Algorithm::Sha512), None);
    }
}
