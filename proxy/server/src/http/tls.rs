//! The server's certificate, read again when its files change.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the chain, leaf first.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or holds no PEM of its kind.
    #[error("{} cannot be used as a TLS {what}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// `certificate` or `key`.
        what: &'static str,
        /// Why.
        cause: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not fit together, or the key's kind is unknown.
    #[error("the TLS certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate that follows its files.
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads the files. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let config = read(&files)?;
        Ok(Arc::new(Tls { files, config: ArcSwap::from_pointee(config) }))
    }

    /// An acceptor with the certificate of this moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Follows the files until `stop`. A pair that cannot be used is reported once, and the last good one
    /// stays.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = self.clone().stamps().await;
        while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            let now = self.clone().stamps().await;
            if now == seen {
                continue;
            }
            seen = now;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || read(&tls.files)).await {
                Ok(Ok(config)) => {
                    self.config.store(Arc::new(config));
                    tracing::info!("the TLS certificate was read again");
                }
                Ok(Err(error)) => {
                    tracing::error!(error = %error, "the last good TLS certificate stays in use")
                }
                Err(_) => {}
            }
        }
    }

    async fn stamps(self: Arc<Self>) -> Option<[Option<(SystemTime, u64)>; 2]> {
        let stamp = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        tokio::task::spawn_blocking(move || [stamp(&self.files.certificate), stamp(&self.files.key)])
            .await
            .ok()
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let failed = |path: &PathBuf, what| {
        let path = path.clone();
        move |cause| TlsError::File { path, what, cause }
    };
    let chain =
        CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .and_then(|chain| {
                if chain.is_empty() { Err(rustls_pki_types::pem::Error::NoItemsFound) } else { Ok(chain) }
            })
            .map_err(failed(&files.certificate, "certificate"))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(failed(&files.key, "key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &std::path::Path, name: &str) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let files = TlsFiles { certificate: dir.join("tls.crt"), key: dir.join("tls.key") };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::load(write(dir.path(), "a.test")).unwrap();
        let first = tls.config.load_full();
        let stop = CancellationToken::new();
        let following = tokio::spawn(tls.clone().follow(stop.clone()));
        // Time moves by itself while everyone waits.
        tokio::time::sleep(3 * PERIOD).await;
        assert!(Arc::ptr_eq(&first, &tls.config.load_full()));
        write(dir.path(), "another-name.test");
        tokio::time::sleep(3 * PERIOD).await;
        let second = tls.config.load_full();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(dir.path().join("tls.key"), "no key").unwrap();
        tokio::time::sleep(3 * PERIOD).await;
        assert!(Arc::ptr_eq(&second, &tls.config.load_full()));
        stop.cancel();
        following.await.unwrap();
    }

    #[test]
    fn says_which_file_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let files = write(dir.path(), "a.test");
        std::fs::write(&files.certificate, "").unwrap();
        let error = Tls::load(files.clone()).err().unwrap().to_string();
        assert!(error.contains("tls.crt") && error.contains("certificate"), "{error}");
        let other = tempfile::tempdir().unwrap();
        let key = write(other.path(), "b.test").key;
        let certificate = write(dir.path(), "a.test").certificate;
        assert!(matches!(Tls::load(TlsFiles { certificate, key }), Err(TlsError::Pair(_))));
    }
}
