//! TLS towards upstreams: roots, a Remote's own CA, its client certificate, ALPN. ring is the provider,
//! named explicitly, so that nothing depends on which default a process has installed.

use std::sync::Arc;

use artifactapi_model::repository::{ClientCertificate, UpstreamTls};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secrecy::ExposeSecret;

/// The roots trusted for every upstream: the machine's own, or Mozilla's where the machine has none, as in
/// an empty container. Reads files: call it where blocking is allowed.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "a certificate of this machine cannot be used");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// The configuration for upstreams that `tls` describes. The client certificate is left out unless
/// `identify`, since only the Remote's own origin may see it.
///
/// # Errors
/// Which part of `spec.tls` cannot be used. Keys are not quoted.
pub(crate) fn client_config(
    system: &RootCertStore,
    tls: &UpstreamTls,
    identify: bool,
) -> Result<ClientConfig, String> {
    let mut roots = system.clone();
    if let Some(pem) = &tls.ca_pem {
        let certificates = certificates(pem).map_err(|()| "tls.caSecretRef holds no certificate in PEM")?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err("tls.caSecretRef holds no certificate that can be a trust anchor".into());
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match tls.client.as_ref().filter(|_| identify) {
        Some(client) => {
            let (chain, key) = identity(client)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| "tls.certSecretRef: certificate and key do not belong together")?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn identity(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain =
        certificates(&client.chain_pem).map_err(|()| "tls.certSecretRef holds no certificate in PEM")?;
    let key = PrivateKeyDer::from_pem_slice(client.key_pem.expose_secret().as_bytes())
        .map_err(|_| "tls.certSecretRef holds no private key in PEM")?;
    Ok((chain, key))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ()> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.ok().filter(|certificates| !certificates.is_empty()).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_roots() {
        assert!(!system_roots().is_empty());
    }

    #[test]
    fn unusable_material_is_named_and_not_quoted() {
        let canary = "c4n4ry-private-key";
        let ca = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
        for (ca_pem, chain, word) in [
            (Some("no pem"), None, "caSecretRef"),
            (None, Some("no pem"), "certSecretRef"),
            (None, Some(ca.as_str()), "private key"),
        ] {
            let tls = UpstreamTls {
                ca_pem: ca_pem.map(str::to_owned),
                client: chain
                    .map(|chain| ClientCertificate { chain_pem: chain.into(), key_pem: canary.into() }),
            };
            let error = client_config(&RootCertStore::empty(), &tls, true).unwrap_err();
            assert!(error.contains(word) && !error.contains(canary), "{error}");
        }
    }
}
