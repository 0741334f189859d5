//! One client's story in four stages: directly from the upstream (which proves the fixture), cold through the
//! proxy, warm (not one further request may reach the upstream), and warm with the upstream switched off and
//! the proxy restarted. Each stage is a test of its own; all must leave the same files behind.

mod united;
mod versions;

use std::{
    collections::{BTreeSet, HashSet},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

pub use self::{
    united::united,
    versions::{Versioned, versions},
};
use artifactapi_model::PackageType;
use async_trait::async_trait;
use futures_util::{FutureExt as _, future::BoxFuture};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Missing, Proxy, RemoteManifest, Upstream, proxy, upstream::Authority};

/// Name of the Remote in every scenario.
pub const REMOTE: &str = "r";
/// The stages, in their order.
pub const STAGES: [&str; 4] = ["direct", "cold", "warm", "upstream_off"];

/// The upstreams of one scenario.
pub struct World {
    /// What `baseURL` names.
    pub upstream: Upstream,
    /// Another host, which indexes may name.
    pub files: Upstream,
}

impl World {
    /// How many requests each has seen.
    fn counted(&self) -> [usize; 2] {
        [self.upstream.requests().len(), self.files.requests().len()]
    }
}

/// Where a client installs from and to, in one stage.
pub struct Site {
    /// An empty directory, also the client's home.
    pub dir: PathBuf,
    /// Base URL of the repository, with a slash at its end.
    pub base: String,
    /// `host:port` of the server.
    pub host: String,
    /// What stands before image names at the server: empty, or the Remote's name and a slash.
    pub prefix: &'static str,
    /// A PEM file with the server's authority, when it speaks TLS.
    pub ca: Option<PathBuf>,
    /// The upstream's own `host:port`, which is part of some ecosystems' names.
    pub origin: String,
}

/// The program of a client of one ecosystem.
#[async_trait]
pub trait Program: Send + Sync {
    /// Its name in test names.
    fn name(&self) -> &'static str;

    /// The program, for the report.
    fn program(&self) -> &'static str {
        self.name()
    }

    /// What it installs.
    fn package_type(&self) -> PackageType;

    /// Its version, for the report.
    async fn version(&self) -> Result<String, Missing>;

    /// Whether it only speaks to servers with TLS.
    fn needs_tls(&self) -> bool {
        false
    }

    /// Whether it only names registries without a port.
    fn needs_default_port(&self) -> bool {
        false
    }
}

/// A client of one ecosystem.
#[async_trait]
pub trait Client: Program {
    /// Fills the upstreams.
    async fn stock(&self, world: &World) -> Result<(), Missing>;

    /// Fields of the Remote's spec besides the common ones.
    fn spec(&self, world: &World) -> Value {
        let _ = world;
        json!({})
    }

    /// Whether it can install from the upstream itself.
    fn can_go_direct(&self) -> bool {
        true
    }

    /// Installs; says what was left behind, the same in every stage.
    async fn install(&self, site: &Site) -> Result<Vec<String>, String>;
}

/// Which clients took part, with their versions.
#[derive(Clone, Default)]
pub struct Report(Arc<Mutex<BTreeSet<String>>>);

impl Report {
    fn took_part(&self, program: &str, package_type: PackageType, version: &str) {
        let line = format!("client: {program} {version} ({package_type})");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(line);
    }

    /// One line for each client, each once.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

type Story = Result<Vec<Result<(), String>>, Missing>;

/// Lives through all stages.
type Live = for<'a> fn(&'a dyn Client, &'a Report) -> BoxFuture<'a, Story>;

/// The client's stages as tests.
pub fn trials(client: impl Client + 'static, report: &Report) -> Vec<Trial> {
    staged(client, "", &STAGES, report, |client, report| Box::pin(live(client, report)))
}

/// `stages` of a client's story as tests, called `{type}::{client}::{story}{stage}`.
fn staged(
    client: impl Client + 'static,
    story_name: &str,
    stages: &[&str],
    report: &Report,
    live: Live,
) -> Vec<Trial> {
    let (count, report) = (stages.len(), report.clone());
    let separator = if story_name.is_empty() { "" } else { "::" };
    let label = format!("{}::{}::{story_name}{separator}", client.package_type(), client.name());
    let shown = stages.iter().enumerate().filter(|(_, stage)| **stage != "direct" || client.can_go_direct());
    let shown: Vec<_> = shown.map(|(index, stage)| (index, format!("{label}{stage}"))).collect();
    told_once(shown, move || tell(count, live(&client, &report)))
}

/// Tests by their place in a story, which is told when the first one runs.
fn told_once(tests: Vec<(usize, String)>, story: impl Fn() -> Story + Send + Sync + 'static) -> Vec<Trial> {
    let (told, story) = (Arc::new(OnceLock::new()), Arc::new(story));
    let trial = |(index, name): (usize, String)| {
        let (told, story) = (told.clone(), story.clone());
        Trial::ignorable_test(name, move || match told.get_or_init(|| story()) {
            Err(Missing(what)) => Ok(Completion::ignored_with(what)),
            Ok(stages) => stages[index].clone().map(|()| Completion::Completed).map_err(Failed::from),
        })
    };
    tests.into_iter().map(trial).collect()
}

/// Lives through a story of so many `stages`.
fn tell(stages: usize, live: impl Future<Output = Story>) -> Story {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Missing(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        match AssertUnwindSafe(live).catch_unwind().await {
            Ok(story) => story,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                Ok(vec![Err(text.to_owned()); stages])
            }
        }
    })
}

async fn live(client: &dyn Client, report: &Report) -> Story {
    proxy::binary().map_err(Missing)?;
    let version = client.version().await?;
    let upstream = if client.needs_default_port() {
        let unavailable = || Missing("port 80 of loopback is not ours to take".to_owned());
        Upstream::start_on_port_80().await.ok_or_else(unavailable)?
    } else {
        Upstream::start().await
    };
    let world = World { upstream, files: Upstream::start().await };
    client.stock(&world).await?;
    report.took_part(client.program(), client.package_type(), &version);
    let manifest =
        RemoteManifest::new(REMOTE, client.package_type(), &world.upstream).set_all(&client.spec(&world));
    let authority = Authority::new();
    let mut options = proxy::Options::new(manifest.document());
    if client.needs_tls() {
        options = options.tls(&authority);
    }
    let mut proxy = options.start().await;
    let mut told = Vec::new();
    let mut first: Option<Vec<String>> = None;
    let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, authority.ca_pem()).map_err(|e| Missing(e.to_string()))?;
    for stage in STAGES {
        if stage == "direct" && !client.can_go_direct() {
            told.push(Ok(()));
            continue;
        }
        if stage == "upstream_off" {
            world.upstream.off().await;
            world.files.off().await;
            proxy.restart().await;
        }
        let dir = home.path().join(stage);
        let site = site(stage, &dir, &world, &proxy, client.needs_tls().then_some(&ca));
        let before = world.counted();
        let result = visit(client, &site, &mut first).await;
        let result = result.and_then(|()| judge(stage, &asked(&world, before)));
        told.push(result.map_err(|error| format!("{error}\n--- the proxy's log:\n{}", tail(&proxy.logs()))));
    }
    Ok(told)
}

fn site(stage: &str, dir: &Path, world: &World, proxy: &Proxy, ca: Option<&PathBuf>) -> Site {
    let origin = world.upstream.host();
    let (dir, ca) = (dir.to_owned(), ca.cloned());
    if stage == "direct" {
        return Site { dir, base: world.upstream.url(), host: origin.clone(), prefix: "", ca, origin };
    }
    Site { dir, base: proxy.remote(REMOTE), host: proxy.host(), prefix: "r/", ca, origin }
}

async fn visit(client: &dyn Client, site: &Site, first: &mut Option<Vec<String>>) -> Result<(), String> {
    std::fs::create_dir_all(&site.dir).map_err(|e| e.to_string())?;
    let left = client.install(site).await?;
    if left.is_empty() {
        return Err("the client left nothing behind".to_owned());
    }
    let expected = first.get_or_insert_with(|| left.clone());
    if *expected == left {
        Ok(())
    } else {
        Err(format!("other files than before: {left:#?}, not {expected:#?}"))
    }
}

/// What was asked after the first `before` requests to each upstream.
fn asked(world: &World, before: [usize; 2]) -> Vec<String> {
    let both = [("", &world.upstream), ("files ", &world.files)].into_iter().zip(before);
    let since = |((place, upstream), before): ((&str, &Upstream), usize)| {
        let since = upstream.requests().split_off(before);
        since.into_iter().map(|r| format!("{place}{} {}", r.method, r.target)).collect::<Vec<_>>()
    };
    both.flat_map(since).collect()
}

/// A warm stage asks the upstream nothing; a cold one asks for nothing twice.
fn judge(stage: &str, asked: &[String]) -> Result<(), String> {
    let mut seen = HashSet::new();
    let twice = asked.iter().find(|request| !seen.insert(*request));
    match (stage, twice) {
        ("cold", _) if asked.is_empty() => Err("the upstream was not asked: this was not cold".to_owned()),
        ("cold", Some(request)) => Err(format!("the upstream was asked twice: {request}")),
        ("warm" | "upstream_off", _) if !asked.is_empty() => {
            Err(format!("the upstream was asked {} times: {asked:#?}", asked.len()))
        }
        _ => Ok(()),
    }
}

fn tail(log: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
