//! A certificate authority for one test, and what servers and clients need of it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Chain, leaf first.
    pub chain_pem: String,
    /// Private key.
    pub key_pem: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one with a new key.
    ///
    /// # Panics
    /// When the system gives no randomness.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("randomness");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "scripted test authority");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a self-signed certificate") }
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `names` (DNS names and addresses).
    ///
    /// # Panics
    /// When a name is no name.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().expect("randomness");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("valid names");
        let leaf = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        Identity { chain_pem: leaf.pem(), key_pem: key.serialize_pem() }
    }

    /// Server configuration for loopback that offers `protocol` (`h2` or `http/1.1`).
    ///
    /// # Panics
    /// Never with a certificate made here.
    pub(super) fn server(&self, protocol: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("randomness");
        let params =
            CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("valid names");
        let leaf = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("the key belongs to the certificate");
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}
