//! TLS towards the server.

use std::{fs, os::unix::fs::MetadataExt as _};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

/// An authority, in PEM, with a certificate of its making for `name` and that one's key.
fn authority(name: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    (issuer.pem(), leaf.pem(), key.serialize_pem())
}

/// Gives the server a certificate and key and starts it again with TLS.
fn encrypt(server: &mut Server, certificate: &str, key: &str) {
    let data = server.postgres.process.home().join("data");
    let owner = fs::metadata(&data).unwrap();
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = data.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    server.postgres.sql(Postgres::DATABASE, "ALTER SYSTEM SET ssl = on");
    server.postgres.process.stop();
    server.postgres.process.start_again();
}

#[tokio::test]
async fn a_certificate_is_held_against_its_authority_and_the_name_asked_for() {
    let Some(mut server) = Server::start("a_certificate_is_held_against_its_authority") else { return };
    let (ca, certificate, key) = authority("127.0.0.1");
    encrypt(&mut server, &certificate, &key);
    let clear = server.database();
    PostgresMetadata::migrate(&clear).await.unwrap();
    let with = |host: &str, tls| PostgresSettings { host: host.into(), tls, ..clear.clone() };
    let verify = |ca: &str| PostgresTls::Verify { ca: Some(ca.into()) };
    let is_encrypted = "SELECT ssl::INT::TEXT FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for (settings, want) in [
        (clear.clone(), "0"),
        (with("127.0.0.1", PostgresTls::Require), "1"),
        (with("127.0.0.1", verify(&ca)), "1"),
        (with("localhost", PostgresTls::Require), "1"),
    ] {
        let store = open(settings).await;
        let rows = store.read(Operation::Ping, is_encrypted, &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, &str>(0), want, "{:?}", store.settings);
    }
    let (other, _, _) = authority("127.0.0.1");
    for settings in [
        with("127.0.0.1", verify(&other)),
        with("localhost", verify(&ca)),
        with("127.0.0.1", PostgresTls::Verify { ca: None }),
        with("127.0.0.1", verify("no PEM")),
    ] {
        let error = PostgresMetadata::open(settings.clone(), Arc::default()).await.err();
        let error = error.expect("it is not to be trusted").to_string();
        assert!(error.contains("ertificate"), "{error}");
    }
}
