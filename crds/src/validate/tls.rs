//! `spec.tls`: certificates from Secrets and ConfigMaps.

use artifactapi_model::repository::{ClientCertificate, UpstreamTls};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    References,
    error::Errors,
    references::{EntryError, Secret},
    remotes::{ObjectReference, Tls},
};

const CA_KEY: &str = "ca.crt";

/// Where a Remote's references lead: its own namespace, and nowhere else (RS-39).
pub(super) struct Lookup<'a> {
    pub(super) references: &'a References,
    pub(super) namespace: &'a str,
}

impl<'a> Lookup<'a> {
    /// The Secret that the reference at `path` names.
    pub(super) fn secret(&self, path: &str, to: &ObjectReference, errors: &mut Errors) -> Option<&'a Secret> {
        let found = self.references.secret(self.namespace, &to.name);
        if found.is_none() {
            let message = format!("there is no Secret {:?} in namespace {:?}", to.name, self.namespace);
            errors.push(format!("{path}.name"), "secretMissing", message);
        }
        found
    }
}

/// Reads `spec.tls`.
pub(super) fn read(tls: Option<&Tls>, lookup: &Lookup<'_>, errors: &mut Errors) -> UpstreamTls {
    let Some(Tls { ca_secret_ref, ca_config_map_ref, cert_secret_ref }) = tls else {
        return UpstreamTls::default();
    };
    if ca_secret_ref.is_some() && ca_config_map_ref.is_some() {
        let message = "give the CA by caSecretRef or by caConfigMapRef, not by both";
        errors.push("spec.tls.caConfigMapRef", "oneCA", message);
    }
    let from_secret = ca_secret_ref.as_ref().and_then(|to| {
        let path = "spec.tls.caSecretRef";
        let secret = lookup.secret(path, to, errors)?;
        let text = errors.keep(path, "secretKey", with_name(secret.text(CA_KEY), "Secret", to))?;
        certificates(path, CA_KEY, text, errors)
    });
    let from_config_map = ca_config_map_ref.as_ref().and_then(|to| ca_of_config_map(to, lookup, errors));
    UpstreamTls {
        ca_pem: from_secret.or(from_config_map),
        client: cert_secret_ref.as_ref().and_then(|to| client_certificate(to, lookup, errors)),
    }
}

fn ca_of_config_map(to: &ObjectReference, lookup: &Lookup<'_>, errors: &mut Errors) -> Option<String> {
    let path = "spec.tls.caConfigMapRef";
    let Some(config_map) = lookup.references.config_map(lookup.namespace, &to.name) else {
        let message = format!("there is no ConfigMap {:?} in namespace {:?}", to.name, lookup.namespace);
        errors.push(format!("{path}.name"), "configMapMissing", message);
        return None;
    };
    let text = config_map.data.get(CA_KEY).ok_or(EntryError::Missing(CA_KEY));
    let text = errors.keep(path, "configMapKey", with_name(text, "ConfigMap", to))?;
    certificates(path, CA_KEY, text, errors)
}

fn client_certificate(
    to: &ObjectReference,
    lookup: &Lookup<'_>,
    errors: &mut Errors,
) -> Option<ClientCertificate> {
    let path = "spec.tls.certSecretRef";
    let secret = lookup.secret(path, to, errors)?;
    let chain = errors.keep(path, "secretKey", with_name(secret.text("tls.crt"), "Secret", to));
    let key = errors.keep(path, "secretKey", with_name(secret.text("tls.key"), "Secret", to));
    let (chain, key) = chain.zip(key)?;
    let chain_pem = certificates(path, "tls.crt", chain, errors)?;
    if PrivateKeyDer::from_pem_slice(key.as_bytes()).is_err() {
        errors.push(path, "pem", "tls.key holds no private key in PEM form");
        return None;
    }
    Some(ClientCertificate { chain_pem, key_pem: key.to_owned().into() })
}

/// `text` when it holds one certificate or more, all of them readable PEM.
fn certificates(path: &str, key: &str, text: &str, errors: &mut Errors) -> Option<String> {
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        if certificate.is_err() {
            errors.push(path, "pem", format!("certificate {} of {key} is damaged", found + 1));
            return None;
        }
        found += 1;
    }
    if found == 0 {
        errors.push(path, "pem", format!("{key} holds no certificate in PEM form"));
        return None;
    }
    Some(text.to_owned())
}

/// Puts the object's name in front of what is wrong with its entry.
pub(super) fn with_name<T>(
    entry: Result<T, EntryError>,
    kind: &str,
    to: &ObjectReference,
) -> Result<T, String> {
    entry.map_err(|error| format!("{kind} {:?} {error}", to.name))
}
