//! apk, and what stands in for it where it cannot be had: the steps of its source with openssl for signatures.

use std::{fs, io::Read as _};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Run, client, fingerprint,
    fixtures::alpine,
    http,
    scenario::{Client, Program, Site, World},
};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::bufread::GzDecoder;
use sha1::{Digest as _, Sha1};

/// Size of a block of a tar file.
const BLOCK: usize = 512;

async fn stock(world: &World) -> Result<(), Missing> {
    world.upstream.put_tree(&alpine::repository().await?);
    Ok(())
}

/// The real client.
pub(crate) struct Apk;

#[async_trait]
impl Program for Apk {
    fn name(&self) -> &'static str {
        "apk"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Alpine
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("apk", &["--version"]).await
    }
}

#[async_trait]
impl Client for Apk {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        stock(world).await
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let keys = site.dir.join("keys");
        fs::create_dir(&keys).map_err(|e| e.to_string())?;
        fs::write(keys.join(alpine::KEY), fetch(site, alpine::KEY).await?).map_err(|e| e.to_string())?;
        let (root, keys) = (site.dir.join("root").display().to_string(), keys.display().to_string());
        let place = ["--root", &root, "--arch", alpine::ARCH, "--keys-dir", &keys, "-X", &site.base];
        let apk = |args: &[&str]| Run::new("apk", &site.dir).args(place).args(args);
        apk(&["--initdb", "--no-scripts", "add", alpine::PACKAGE]).ok().await?;
        fingerprint::of_dir(&site.dir.join("root/usr"), |_| false).map_err(|e| e.to_string())
    }
}

/// The stand-in: verifies the index, then every package that it names.
pub(crate) struct Substitute {
    /// Whether the index is merged, and signed with our own key by SHA-256.
    pub(crate) is_merged: bool,
}

#[async_trait]
impl Program for Substitute {
    fn name(&self) -> &'static str {
        "apk_substitute"
    }

    fn program(&self) -> &'static str {
        "openssl for apk"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Alpine
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("openssl", &["version"]).await
    }
}

#[async_trait]
impl Client for Substitute {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        stock(world).await
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let index = fetch(site, &format!("{}/APKINDEX.tar.gz", alpine::ARCH)).await?;
        let parts = members(&index)?;
        let [signature, signed] = &parts[..] else { return Err("an index has two members".to_owned()) };
        let key = if self.is_merged { our_key(site).await? } else { Key::upstream() };
        verify(site, &key, &signature.content, &signed.packed).await?;
        let records = entry(&signed.content, "APKINDEX").ok_or("the index holds no records")?;
        let records = String::from_utf8(records.to_vec()).map_err(|e| e.to_string())?;
        let mut left = Vec::new();
        if !self.is_merged {
            left.push(format!("index {}", fingerprint::of_bytes(&index)));
        }
        for record in records.split("\n\n").filter(|record| !record.trim().is_empty()) {
            left.push(package(site, record).await?);
        }
        if left.is_empty() { Err("the index names no package".to_owned()) } else { Ok(left) }
    }
}

async fn fetch(site: &Site, path: &str) -> Result<Vec<u8>, String> {
    let fetched = http::get(&format!("{}{path}", site.base)).await;
    if fetched.is_ok() { Ok(fetched.body.to_vec()) } else { Err(format!("{path}: {fetched:?}")) }
}

/// Fetches what `record` describes and holds it against size, identity and hash.
async fn package(site: &Site, record: &str) -> Result<String, String> {
    let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let field = |name: &str| field(name).ok_or_else(|| format!("no {name}: in {record}"));
    let file = format!("{}-{}.apk", field("P")?, field("V")?);
    let bytes = fetch(site, &format!("{}/{file}", alpine::ARCH)).await?;
    if field("S")? != bytes.len().to_string() {
        return Err(format!("{file} has {} bytes, not {}", bytes.len(), field("S")?));
    }
    let parts = members(&bytes)?;
    let [signature, control, data] = &parts[..] else { return Err(format!("{file} has not three members")) };
    verify(site, &Key::upstream(), &signature.content, &control.packed).await?;
    let identity = format!("Q1{}", STANDARD.encode(Sha1::digest(&control.packed)));
    if field("C")? != identity {
        return Err(format!("{file} is {identity}, not {}", field("C")?));
    }
    let info = entry(&control.content, ".PKGINFO").ok_or("no .PKGINFO")?;
    let hash = format!("datahash = {}", fingerprint::of_bytes(&data.packed));
    if !String::from_utf8_lossy(info).lines().any(|line| line == hash) {
        return Err(format!("{file} has other data than {hash}"));
    }
    Ok(format!("{file} {}", fingerprint::of_bytes(&bytes)))
}

/// A gzip member as it travels, and unpacked.
struct Member {
    packed: Vec<u8>,
    content: Vec<u8>,
}

/// The gzip members of `bytes`, to the last byte.
fn members(mut bytes: &[u8]) -> Result<Vec<Member>, String> {
    let mut members = Vec::new();
    while !bytes.is_empty() {
        let (mut decoder, mut content) = (GzDecoder::new(bytes), Vec::new());
        decoder.read_to_end(&mut content).map_err(|e| e.to_string())?;
        let rest = decoder.into_inner();
        members.push(Member { packed: bytes[..bytes.len() - rest.len()].to_vec(), content });
        bytes = rest;
    }
    Ok(members)
}

/// The file of a tar whose name begins with `name`.
fn entry<'t>(mut tar: &'t [u8], name: &str) -> Option<&'t [u8]> {
    while tar.len() > BLOCK && tar[0] != 0 {
        let (head, rest) = tar.split_at(BLOCK);
        let digits = String::from_utf8_lossy(&head[124..135]).into_owned();
        let size = usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).ok()?;
        if head.starts_with(name.as_bytes()) {
            return rest.get(..size);
        }
        tar = rest.get(size.next_multiple_of(BLOCK)..)?;
    }
    None
}

/// A public key: where the site has it, what signatures by it are called, and over which hash they are.
struct Key {
    path: String,
    signature: String,
    hash: &'static str,
}

impl Key {
    fn upstream() -> Self {
        let signature = format!(".SIGN.RSA.{}", alpine::KEY);
        Key { path: alpine::KEY.to_owned(), signature, hash: "-sha1" }
    }
}

/// The key of a merged repository, under the name that apk would look for.
async fn our_key(site: &Site) -> Result<Key, String> {
    let path = "-/keys/apk.rsa.pub".to_owned();
    let answer = http::get(&format!("{}{path}", site.base)).await;
    let name = answer.header("content-disposition").split('"').nth(1).unwrap_or_default();
    Ok(Key { path, signature: format!(".SIGN.RSA256.{name}"), hash: "-sha256" })
}

/// Has openssl verify the RSA signature in `member` over `signed`, with `key`.
async fn verify(site: &Site, key: &Key, member: &[u8], signed: &[u8]) -> Result<(), String> {
    let name = &key.signature;
    let signature = entry(member, name).ok_or_else(|| format!("no {name} in the first member"))?;
    let (hash, key) = (key.hash, fetch(site, &key.path).await?);
    for (file, bytes) in [("key", &key[..]), ("signature", signature), ("signed", signed)] {
        fs::write(site.dir.join(file), bytes).map_err(|e| e.to_string())?;
    }
    let args = ["dgst", hash, "-verify", "key", "-signature", "signature", "signed"];
    Run::new("openssl", &site.dir).args(args).ok().await.map(drop)
}
