//! The OpenPGP key of rpm repositories: `repodata/repomd.xml.asc` is a detached signature that dnf verifies with
//! `repo_gpgcheck=1`. Version 4, RSA and SHA-256 (RFC 9580), which every rpm that is still in use can verify.
//!
//! We only ever write a certificate and signatures of one form, so they are written out here.

mod packet;

use artifactapi_engine::keys::KeyError;
use artifactapi_model::seal::SealError;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rsa::{PrivateKey, sha2::Sha256, traits::PublicKeyParts as _};

use self::packet::{armored, mpi, packet, subpacket};
use super::{StoredKey, parsed, rest::unopened};

/// Whose key it is. Nobody can have an address in that domain (RFC 2606, 2).
const USER: &[u8] = b"ArtifactAPI <signing@artifactapi.invalid>";
/// The date of every key and signature: 2026-01-01T00:00:00Z, before any of them. Replicas sign the same document
/// at different times and must write the same bytes, and clients whose clocks are behind refuse what is of the
/// future.
const CREATED: u32 = 1_767_225_600;

// Packet types (RFC 9580, 5).
const SIGNATURE: u8 = 2;
const PUBLIC_KEY: u8 = 6;
const USER_ID: u8 = 13;
// Signature types (5.2.1).
const OF_A_DOCUMENT: u8 = 0x00;
const OF_A_USER: u8 = 0x13;
// Algorithms (9.1, 9.5).
const RSA: u8 = 1;
const WITH_SHA256: u8 = 8;
const VERSION: u8 = 4;
/// Key flags: it certifies (itself) and signs (5.2.3.29).
const USES: u8 = 0x01 | 0x02;

/// The key with its certificate.
pub(super) struct OpenpgpKey {
    key: PrivateKey,
    fingerprint: [u8; 20],
    certificate: String,
}

impl OpenpgpKey {
    /// The certificate, armored.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Detached, armored signature over the bytes of `document`.
    pub(super) fn sign(&self, document: &[u8]) -> Result<String, String> {
        let signature = self.signature(OF_A_DOCUMENT, &[], document);
        let signature = signature.map_err(|_| "the OpenPGP key did not sign")?;
        Ok(armored("SIGNATURE", &packet(SIGNATURE, &signature)))
    }

    fn of(key: PrivateKey) -> Result<Self, rsa::Error> {
        let mut public = vec![VERSION];
        public.extend(CREATED.to_be_bytes());
        public.push(RSA);
        public.extend([mpi(&key.n_bytes()), mpi(&key.e_bytes())].concat());
        // What stands for a key where it is hashed (5.2.4). It has a few hundred bytes.
        let mut hashed = vec![0x99];
        hashed.extend((public.len() as u16).to_be_bytes());
        hashed.extend(&public);
        let mut fingerprint = [0; 20];
        fingerprint.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &hashed).as_ref());
        let mut made = OpenpgpKey { key, fingerprint, certificate: String::new() };

        hashed.push(0xb4);
        hashed.extend((USER.len() as u32).to_be_bytes());
        hashed.extend(USER);
        let facts = [subpacket(27, &[USES]), subpacket(25, &[1])].concat();
        let signature = made.signature(OF_A_USER, &facts, &hashed)?;
        let packets =
            [packet(PUBLIC_KEY, &public), packet(USER_ID, USER), packet(SIGNATURE, &signature)].concat();
        made.certificate = armored("PUBLIC KEY BLOCK", &packets);
        Ok(made)
    }

    /// The body of a signature packet (5.2.3) over `signed` that says `facts`, which are subpackets.
    fn signature(&self, form: u8, facts: &[u8], signed: &[u8]) -> Result<Vec<u8>, rsa::Error> {
        let issuer = [&[VERSION], self.fingerprint.as_slice()].concat();
        let told = [&subpacket(2, &CREATED.to_be_bytes()), &subpacket(33, &issuer), facts].concat();
        let mut body = vec![VERSION, form, RSA, WITH_SHA256];
        body.extend((told.len() as u16).to_be_bytes());
        body.extend(told);
        let mut trailer = vec![VERSION, 0xff];
        trailer.extend((body.len() as u32).to_be_bytes());
        let digest = digest(&SHA256, &[signed, &body, &trailer].concat());
        let signature = self.key.pkcs1v15_sign_prehash::<Sha256>(digest.as_ref())?;

        // Not signed: the key's id, for software that does not know fingerprints here.
        let id = subpacket(16, &self.fingerprint[12..]);
        body.extend((id.len() as u16).to_be_bytes());
        body.extend(id);
        body.extend(&digest.as_ref()[..2]);
        body.extend(mpi(&signature));
        Ok(body)
    }
}

impl StoredKey for OpenpgpKey {
    const NAME: &'static str = "openpgp";

    fn read(text: &str) -> Result<Self, KeyError> {
        let key = parsed(text).and_then(|key| OpenpgpKey::of(key).ok());
        key.ok_or_else(|| unopened(Self::NAME, SealError::Damaged))
    }
}
