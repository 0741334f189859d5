//! The same clients through a Virtual over two Remotes, the second of which is the Remote of the other stories:
//!
//! - `second`: only the second member has what is installed; then the same again, which asks nobody; then again
//!   with both upstreams off;
//! - `both`: both have it, and the first one's is installed: the second is asked for nothing but an index;
//! - `reserved`: every name belongs to the first member, which has nothing: nothing can be installed, and the second
//!   is asked for nothing but an index (RS-49);
//! - `down`: the first member never answered: nothing can be installed, since nobody knows what is its own;
//! - `hidden`: a policy of the second member hides the files that only it has: nothing can be installed, and it is not
//!   asked for them;
//! - `changed`: the second member gets what is installed only after it was asked for in vain: it can be installed when
//!   what is known of the member is too old.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use artifactapi_model::PackageType;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{Client, REMOTE, Report, Site, World, asked, staged, tail, visit};
use crate::{
    Missing, Proxy, RemoteManifest, Upstream, manifest,
    proxy::{self, Options},
    upstream::Authority,
    wait,
};

/// The first member.
const FIRST: &str = "first";
/// The Virtual, and what stands before its images' names.
const VIRTUAL: &str = "v";
const PREFIX: &str = "v/";
/// The stages, in their order.
const STAGES: [&str; 6] = ["second", "both", "reserved", "down", "hidden", "changed"];
/// How long what is known of a member counts, where it changes.
const TTL: &str = "1s";
/// Longest time until a change is seen: its age, a rebuild, and the runs of a client that came too early.
const SEEN: Duration = Duration::from_secs(60);

/// The client's stages as tests.
pub fn united(client: impl Client + 'static, report: &Report) -> Vec<Trial> {
    staged(client, "virtual", &STAGES, report, |client, report| Box::pin(live(client, report)))
}

/// What both members are, and where the client has been.
struct Bench<'a> {
    client: &'a dyn Client,
    home: TempDir,
    authority: Authority,
    /// What was installed, the same each time.
    installed: Option<Vec<String>>,
}

/// One proxy in front of both members.
struct Stand {
    first: World,
    second: World,
    proxy: Proxy,
}

async fn live(client: &dyn Client, report: &Report) -> super::Story {
    proxy::binary().map_err(Missing)?;
    let version = client.version().await?;
    report.took_part(client.program(), client.package_type(), &version);
    let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
    let authority = Authority::new();
    std::fs::write(home.path().join("ca.pem"), authority.ca_pem()).map_err(|e| Missing(e.to_string()))?;
    let mut bench = Bench { client, home, authority, installed: None };
    Ok(vec![
        bench.second().await?,
        bench.both().await?,
        bench.refused("reserved", true).await?,
        bench.refused("down", false).await?,
        bench.hidden().await?,
        bench.changed().await?,
    ])
}

/// A member whose host is the one that is part of some names.
async fn origin(client: &dyn Client) -> Result<World, Missing> {
    let upstream = if client.needs_default_port() {
        let unavailable = || Missing("port 80 of loopback is not ours to take".to_owned());
        Upstream::start_on_port_80().await.ok_or_else(unavailable)?
    } else {
        Upstream::start().await
    };
    Ok(World { upstream, files: Upstream::start().await })
}

/// The same with everything.
async fn stocked(client: &dyn Client) -> Result<World, Missing> {
    let world = origin(client).await?;
    client.stock(&world).await?;
    Ok(world)
}

/// A member with nothing.
async fn empty() -> World {
    World { upstream: Upstream::start().await, files: Upstream::start().await }
}

impl Bench<'_> {
    async fn stand(&self, first: World, second: World, spec: &Value) -> Stand {
        self.stand_with(first, second, spec, &json!({})).await
    }

    /// `remotes` has more fields for both members.
    async fn stand_with(&self, first: World, second: World, spec: &Value, remotes: &Value) -> Stand {
        let member = |name: &str, world: &World| {
            let remote = RemoteManifest::new(name, self.client.package_type(), &world.upstream);
            remote.set_all(&self.client.spec(world)).set_all(remotes).document()
        };
        let united = manifest::united(VIRTUAL, self.client.package_type(), &[FIRST, REMOTE], spec);
        let documents = [member(FIRST, &first), member(REMOTE, &second), united];
        let mut options = Options::new(manifest::join(&documents));
        if self.client.needs_tls() {
            options = options.tls(&self.authority);
        }
        Stand { first, second, proxy: options.start().await }
    }

    fn site(&self, stand: &Stand, stage: &str) -> Site {
        let ca = self.client.needs_tls().then(|| self.home.path().join("ca.pem"));
        let base = format!("{}/api/v1/virtual/{VIRTUAL}/", stand.proxy.url());
        let origin = stand.second.upstream.host();
        let host = stand.proxy.host();
        Site { dir: self.home.path().join(stage), base, host, prefix: PREFIX, ca, origin }
    }

    async fn install(&mut self, stand: &Stand, stage: &str) -> Result<Vec<String>, String> {
        let before = [&stand.first, &stand.second].map(World::counted);
        let site = self.site(stand, stage);
        visit(self.client, &site, &mut self.installed).await?;
        let mut seen = asked(&stand.first, before[0]);
        seen.extend(asked(&stand.second, before[1]));
        Ok(seen)
    }

    async fn second(&mut self) -> Result<Result<(), String>, Missing> {
        let (first, second) = (empty().await, stocked(self.client).await?);
        let stand = self.stand(first, second, &json!({})).await;
        let told = async {
            self.install(&stand, "cold").await?;
            let seen = self.install(&stand, "warm").await?;
            if !seen.is_empty() {
                return Err(format!("a warm Virtual asked its upstreams {} times: {seen:#?}", seen.len()));
            }
            for world in [&stand.first, &stand.second] {
                world.upstream.off().await;
                world.files.off().await;
            }
            self.install(&stand, "off").await.map(|_| ())
        };
        Ok(told.await.map_err(|error| with_log(&stand.proxy, &error)))
    }

    async fn both(&mut self) -> Result<Result<(), String>, Missing> {
        // Whoever has the port of the origin's name is the one whose packages are wanted.
        let (first, second) = (stocked(self.client).await?, empty().await);
        self.client.stock(&second).await?;
        let origin = first.upstream.host();
        let stand = self.stand(first, second, &json!({})).await;
        let site = Site { origin, ..self.site(&stand, "both") };
        let told = match visit(self.client, &site, &mut self.installed).await {
            Ok(()) => only_indexes(self.client.package_type(), &stand.second),
            Err(error) => Err(error),
        };
        Ok(told.map_err(|error| with_log(&stand.proxy, &error)))
    }

    /// A stage in which nothing can be installed and the second member is not asked for it.
    async fn refused(&mut self, stage: &str, is_up: bool) -> Result<Result<(), String>, Missing> {
        let (first, second) = (empty().await, stocked(self.client).await?);
        if !is_up {
            first.upstream.off().await;
        }
        let reserved = json!({ "reserved": [{ "member": FIRST, "patterns": [".*"] }] });
        let spec = if is_up { reserved } else { json!({}) };
        let stand = self.stand(first, second, &spec).await;
        let site = self.site(&stand, stage);
        impatient(&site.dir).map_err(|e| Missing(e.to_string()))?;
        let told = match self.client.install(&site).await {
            // Names that carry their host are no business of a member with another host.
            Ok(_) if !is_up && self.client.needs_default_port() => Ok(()),
            Ok(left) => Err(format!("it was installed all the same: {left:#?}")),
            Err(_) => only_indexes(self.client.package_type(), &stand.second),
        };
        Ok(told.map_err(|error| with_log(&stand.proxy, &error)))
    }

    async fn hidden(&mut self) -> Result<Result<(), String>, Missing> {
        let (first, second) = (empty().await, stocked(self.client).await?);
        let parts = parts_of_files(self.client.package_type());
        let blocklist: Vec<_> = parts.iter().map(|part| part.replace('.', "[.]")).collect();
        let stand = self.stand_with(first, second, &json!({}), &json!({ "blocklist": blocklist })).await;
        let site = self.site(&stand, "hidden");
        impatient(&site.dir).map_err(|e| Missing(e.to_string()))?;
        let told = match self.client.install(&site).await {
            Ok(left) => Err(format!("it was installed all the same: {left:#?}")),
            Err(_) => {
                // The document about an archive is what the index of Terraform's mirror protocol is made from.
                let is_document = |part: &str| part == "/download/";
                let is_file =
                    |request: &String| parts.iter().any(|part| !is_document(part) && request.contains(part));
                let files: Vec<_> = asked(&stand.second, [0, 0]).into_iter().filter(is_file).collect();
                if files.is_empty() { Ok(()) } else { Err(format!("it was asked for {files:#?}")) }
            }
        };
        Ok(told.map_err(|error| with_log(&stand.proxy, &error)))
    }

    async fn changed(&mut self) -> Result<Result<(), String>, Missing> {
        let (first, second) = (empty().await, origin(self.client).await?);
        let ages = json!({ "mutableTTL": TTL, "negativeTTL": TTL });
        let stand = self.stand_with(first, second, &json!({}), &ages).await;
        let before = self.site(&stand, "before");
        impatient(&before.dir).map_err(|e| Missing(e.to_string()))?;
        if let Ok(left) = self.client.install(&before).await {
            return Ok(Err(format!("nobody has it, and it was installed: {left:#?}")));
        }
        self.client.stock(&stand.second).await?;
        let stocked_at = Instant::now();
        for number in 0.. {
            let site = self.site(&stand, &format!("after-{number}"));
            match visit(self.client, &site, &mut self.installed).await {
                Ok(()) => break,
                Err(error) if stocked_at.elapsed() > SEEN => {
                    return Ok(Err(with_log(&stand.proxy, &error)));
                }
                Err(_) => wait::breathe().await,
            }
        }
        Ok(Ok(()))
    }
}

/// What stands in the paths of files, and not in those of indexes.
fn parts_of_files(package_type: PackageType) -> &'static [&'static str] {
    match package_type {
        PackageType::Generic => &[".tar.gz"],
        PackageType::Docker => &["manifests", "blobs"],
        PackageType::Helm | PackageType::Npm => &[".tgz"],
        PackageType::Pypi => &[".whl", ".tar.gz"],
        PackageType::Rpm => &[".rpm"],
        PackageType::Alpine => &[".apk"],
        PackageType::Puppet => &[".tar.gz"],
        PackageType::Terraform => &["/download/", ".zip"],
        PackageType::Goproxy => &[".zip", ".mod", ".info"],
    }
}

/// Configuration of clients that would try again for a minute.
fn impatient(home: &Path) -> std::io::Result<()> {
    let write = |name: &str, text: &str| -> std::io::Result<()> {
        let path: PathBuf = home.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(home))?;
        std::fs::write(path, text)
    };
    write(".npmrc", "fetch-retries=0\n")?;
    write(".config/pip/pip.conf", "[global]\nretries = 0\n")
}

/// Indexes are merged for all names at once; everything else of the second member would be one name's.
fn only_indexes(package_type: PackageType, second: &World) -> Result<(), String> {
    let is_index = |request: &str| {
        let target = request.rsplit(' ').next().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        match package_type {
            PackageType::Helm => path.ends_with("index.yaml"),
            PackageType::Alpine => path.ends_with("APKINDEX.tar.gz"),
            PackageType::Rpm => path.starts_with("repodata/"),
            _ => false,
        }
    };
    let more: Vec<_> = asked(second, [0, 0]).into_iter().filter(|request| !is_index(request)).collect();
    if more.is_empty() { Ok(()) } else { Err(format!("the second member was asked for {more:#?}")) }
}

fn with_log(proxy: &Proxy, error: &str) -> String {
    format!("{error}\n--- the proxy's log:\n{}", tail(&proxy.logs()))
}
