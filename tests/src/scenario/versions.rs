//! Clients through a Virtual whose members' indexes are united (`resolution: union`). The first member has a version
//! of its own and one that both have, the second another one of its own:
//!
//! - `every`: each version can be installed, and the one that both have is the first member's; again with both
//!   upstreams off;
//! - `hidden`: a version that a member's `blocklist` names is neither seen nor installed; where the other member has it
//!   too, it is that one's;
//! - `owner`: the same where the first member owns the name (`resolution: firstMatch`): what is left of its versions is
//!   seen and installed, and nothing of the other member; where the newest one is hidden, a client that is told none gets
//!   the one before it.

use async_trait::async_trait;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Program, Report, Site, Story, World, tail, tell, told_once};
use crate::{
    Missing, Proxy, RemoteManifest, Upstream, manifest,
    proxy::{self, Options},
    upstream::Authority,
};

/// The Virtual.
const VIRTUAL: &str = "v";
/// The members, which mark what is theirs.
const MEMBERS: [&str; 2] = ["one", "two"];
/// Versions: the first member's alone, both members', the second's alone.
const VERSIONS: [&str; 3] = ["1.0.0", "2.0.0", "3.0.0"];
const STAGES: [&str; 3] = ["every", "hidden", "owner"];

/// A client that can be told which version to install.
#[async_trait]
pub trait Versioned: Program + 'static {
    /// Fills `place` on the upstreams with `versions` by `mark`.
    async fn stock(&self, world: &World, place: &str, mark: &str, versions: &[&str]) -> Result<(), Missing>;

    /// Installs `version`: what was installed.
    async fn install(&self, site: &Site, version: &str) -> Result<Vec<u8>, String>;

    /// What has to be installed when `version` is `mark`'s.
    async fn expected(&self, mark: &str, version: &str) -> Result<Vec<u8>, Missing>;

    /// All versions that the client sees, in any order; `None` when it has no command that says so.
    async fn seen(&self, site: &Site) -> Result<Option<Vec<String>>, String> {
        let _ = site;
        Ok(None)
    }

    /// The version that the client takes when it is told none; `None` when it was not asked.
    async fn newest(&self, site: &Site) -> Result<Option<String>, String> {
        let _ = site;
        Ok(None)
    }

    /// A pattern for a blocklist that names `version`.
    fn pattern(&self, version: &str) -> String;
}

/// The client's stages as tests.
pub fn versions(client: impl Versioned, report: &Report) -> Vec<Trial> {
    let report = report.clone();
    let name = |stage: &&str| format!("{}::{}::union::{stage}", client.package_type(), client.name());
    let tests = STAGES.iter().map(name).enumerate().collect();
    told_once(tests, move || tell(STAGES.len(), live(&client, &report)))
}

async fn live(client: &dyn Versioned, report: &Report) -> Story {
    proxy::binary().map_err(Missing)?;
    let version = client.version().await?;
    report.took_part(client.program(), client.package_type(), &version);
    let upstream = if client.needs_default_port() {
        let unavailable = || Missing("port 80 of loopback is not ours to take".to_owned());
        Upstream::start_on_port_80().await.ok_or_else(unavailable)?
    } else {
        Upstream::start().await
    };
    let world = World { upstream, files: Upstream::start().await };
    for (mark, theirs) in MEMBERS.iter().zip([&VERSIONS[..2], &VERSIONS[1..]]) {
        client.stock(&world, &format!("{mark}/"), mark, theirs).await?;
    }
    let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
    let authority = Authority::new();
    std::fs::write(home.path().join("ca.pem"), authority.ca_pem()).map_err(|e| Missing(e.to_string()))?;
    let bench = Bench { client, world, home, authority };
    Ok(vec![bench.every().await?, bench.hidden().await?, bench.owner().await?])
}

struct Bench<'a> {
    client: &'a dyn Versioned,
    world: World,
    home: TempDir,
    authority: Authority,
}

impl Bench<'_> {
    /// A proxy in front of both members, with more fields of the spec of each.
    async fn proxy(&self, resolution: &str, specs: [Value; 2]) -> Proxy {
        let package_type = self.client.package_type();
        let member = |(mark, spec): (&&str, &Value)| {
            let base = format!("{}{mark}/", self.world.upstream.url());
            RemoteManifest::at(mark, package_type, &base).set_all(spec).document()
        };
        let mut documents: Vec<_> = MEMBERS.iter().zip(&specs).map(member).collect();
        let spec = json!({ "resolution": resolution });
        documents.push(manifest::united(VIRTUAL, package_type, &MEMBERS, &spec));
        let mut options = Options::new(manifest::join(&documents));
        if self.client.needs_tls() {
            options = options.tls(&self.authority);
        }
        options.start().await
    }

    /// An empty directory for a client of `proxy`.
    fn site(&self, proxy: &Proxy, name: &str) -> Result<Site, String> {
        let dir = self.home.path().join(name);
        std::fs::create_dir(&dir).map_err(|e| e.to_string())?;
        Ok(Site {
            dir,
            base: format!("{}/api/v1/virtual/{VIRTUAL}/", proxy.url()),
            host: proxy.host(),
            prefix: "",
            ca: self.client.needs_tls().then(|| self.home.path().join("ca.pem")),
            origin: self.world.upstream.host(),
        })
    }

    /// Installs each version and holds it against its owner's.
    async fn owners(&self, proxy: &Proxy, stage: &str, owners: &[(&str, &str)]) -> Result<(), String> {
        for (version, mark) in owners {
            let got = self.client.install(&self.site(proxy, &format!("{stage}-{version}"))?, version).await?;
            let want = self.client.expected(mark, version).await.map_err(|Missing(what)| what)?;
            if got != want {
                let whose = String::from_utf8_lossy(&got).into_owned();
                return Err(format!("{version} is not the one of member {mark}: {whose:.200}"));
            }
        }
        let mut wanted: Vec<_> = owners.iter().map(|(version, _)| (*version).to_owned()).collect();
        match self.client.seen(&self.site(proxy, &format!("{stage}-seen"))?).await? {
            Some(mut seen) => {
                seen.sort();
                wanted.sort();
                if seen == wanted { Ok(()) } else { Err(format!("it sees {seen:?} and not {wanted:?}")) }
            }
            None => Ok(()),
        }
    }

    async fn every(&self) -> Result<Result<(), String>, Missing> {
        let proxy = self.proxy("union", [json!({}), json!({})]).await;
        let owners = [(VERSIONS[0], "one"), (VERSIONS[1], "one"), (VERSIONS[2], "two")];
        let told = async {
            self.owners(&proxy, "cold", &owners).await?;
            for upstream in [&self.world.upstream, &self.world.files] {
                upstream.off().await;
            }
            let told = self.owners(&proxy, "off", &owners).await;
            for upstream in [&self.world.upstream, &self.world.files] {
                upstream.on().await;
            }
            told
        };
        Ok(told.await.map_err(|error| with_log(&proxy, &error)))
    }

    fn hiding(&self, version: &str) -> Value {
        json!({ "blocklist": [self.client.pattern(version)] })
    }

    /// What cannot be installed.
    async fn gone(&self, proxy: &Proxy, stage: &str, version: &str) -> Result<(), String> {
        match self.client.install(&self.site(proxy, &format!("{stage}-gone-{version}"))?, version).await {
            Ok(_) => Err(format!("{version} was installed although nobody who may have it shows it")),
            Err(_) => Ok(()),
        }
    }

    async fn hidden(&self) -> Result<Result<(), String>, Missing> {
        let proxy = self.proxy("union", [self.hiding(VERSIONS[1]), self.hiding(VERSIONS[2])]).await;
        let told = async {
            let owners = [(VERSIONS[0], "one"), (VERSIONS[1], "two")];
            self.owners(&proxy, "hidden", &owners).await?;
            self.gone(&proxy, "hidden", VERSIONS[2]).await
        };
        Ok(told.await.map_err(|error| with_log(&proxy, &error)))
    }

    async fn owner(&self) -> Result<Result<(), String>, Missing> {
        let proxy = self.proxy("firstMatch", [self.hiding(VERSIONS[0]), json!({})]).await;
        let told = async {
            self.owners(&proxy, "owner", &[(VERSIONS[1], "one")]).await?;
            self.gone(&proxy, "owner", VERSIONS[0]).await?;
            self.gone(&proxy, "owner", VERSIONS[2]).await
        };
        if let Err(error) = told.await {
            return Ok(Err(with_log(&proxy, &error)));
        }
        let proxy = self.proxy("firstMatch", [self.hiding(VERSIONS[1]), json!({})]).await;
        let told = async {
            match self.client.newest(&self.site(&proxy, "owner-newest")?).await? {
                Some(version) if version != VERSIONS[0] => Err(format!("it takes {version} for the newest")),
                _ => Ok(()),
            }
        };
        Ok(told.await.map_err(|error| with_log(&proxy, &error)))
    }
}

fn with_log(proxy: &Proxy, error: &str) -> String {
    format!("{error}\n--- the proxy's log:\n{}", tail(&proxy.logs()))
}
