//! What clients make of the signatures: apk verifies as openssl does, dnf as gpg does, and rpm imports the key.

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use super::*;

const DOCUMENT: &[u8] = b"an index\n";
const CHANGED: &[u8] = b"an Index\n";

/// Whether `program` is there; else says which test is skipped, or fails where tools are required.
fn is_there(program: &str, test: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return true;
    }
    let required = env::var_os("ARTIFACTAPI_REQUIRE_SERVICES").is_some();
    assert!(!required, "{program} is not installed, and {test} needs it");
    eprintln!("SKIPPED {test}: {program} is not installed");
    false
}

fn run(directory: &Path, line: &str) -> Output {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir(directory).env("GNUPGHOME", directory).env("LC_ALL", "C");
    command.output().unwrap()
}

/// What `line` says when it succeeds.
fn says(directory: &Path, line: &str) -> String {
    let output = run(directory, line);
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{line}: {said}");
    said
}

/// A directory with the public keys, the document, another, and the signatures of the first.
async fn signed() -> tempfile::TempDir {
    let keys = replica(&Arc::new(MemoryMetadata::default()));
    let (public, signer) = (keys.public_keys().await.unwrap(), keys.signer().await.unwrap());
    let directory = tempfile::tempdir().unwrap();
    let armored = signer.openpgp(DOCUMENT).unwrap().unwrap();
    let rsa = signer.rsa_sha256(&Digest::of(DOCUMENT)).unwrap();
    let files: [(&str, &[u8]); 6] = [
        ("document", DOCUMENT),
        ("changed", CHANGED),
        ("rsa.pub", public.rsa_pem.as_bytes()),
        ("rsa.sig", &rsa),
        ("key.asc", public.openpgp.as_bytes()),
        ("document.asc", armored.as_bytes()),
    ];
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

#[tokio::test]
async fn openssl_verifies_the_rsa_signature() {
    if !is_there("openssl", "openssl_verifies_the_rsa_signature") {
        return;
    }
    let directory = signed().await;
    let verify = "openssl dgst -sha256 -verify rsa.pub -signature rsa.sig";
    assert!(says(directory.path(), &format!("{verify} document")).contains("Verified OK"));
    assert!(!run(directory.path(), &format!("{verify} changed")).status.success());
}

#[tokio::test]
async fn gpg_verifies_the_openpgp_signature() {
    if !is_there("gpg", "gpg_verifies_the_openpgp_signature") {
        return;
    }
    let directory = signed().await;
    let gpg = |line: &str| says(directory.path(), &format!("gpg --batch --no-autostart {line}"));
    let imported = gpg("--import key.asc");
    assert!(imported.contains("ArtifactAPI <signing@artifactapi.invalid>"), "{imported}");
    let listed = gpg("--with-colons --list-keys");
    let fields: Vec<&str> =
        listed.lines().find(|line| line.starts_with("pub:")).unwrap().split(':').collect();
    assert_eq!((fields[3], fields[6]), ("1", ""), "RSA that never expires: {listed}");
    assert!(fields[11].contains('s') && !fields[11].contains('e'), "it signs: {listed}");
    let verified = gpg("--status-fd 1 --verify document.asc document");
    assert!(verified.contains("GOODSIG") && verified.contains("VALIDSIG"), "{verified}");
    let changed = "gpg --batch --no-autostart --verify document.asc changed";
    assert!(!run(directory.path(), changed).status.success());
}

#[tokio::test]
async fn rpm_takes_the_openpgp_key() {
    if !is_there("rpmkeys", "rpm_takes_the_openpgp_key") {
        return;
    }
    let directory = signed().await;
    let rpm = |line: &str| says(directory.path(), &format!("{line} --dbpath {}", directory.path().display()));
    rpm("rpmkeys --import key.asc");
    let installed = rpm("rpm -qa gpg-pubkey* --qf %{SUMMARY}");
    assert!(installed.contains("ArtifactAPI"), "{installed}");
}

#[tokio::test]
async fn keys_in_service_have_4096_bits() {
    if !is_there("openssl", "keys_in_service_have_4096_bits") {
        return;
    }
    let keys = SigningKeys::shared(Arc::new(MemoryMetadata::default()), sealer(KEY));
    let public = keys.public_keys().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("rsa.pub"), public.rsa_pem).unwrap();
    let told = says(directory.path(), "openssl pkey -pubin -in rsa.pub -noout -text");
    assert!(told.contains("(4096 bit)"), "{told}");
}
