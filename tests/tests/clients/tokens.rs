//! Package clients before a Remote that is not open to everyone: with a robot's token they install, shown in the way of
//! each; without one, or with another, they do not, also when everything is cached.

use std::{fs, future::Future, path::Path, pin::Pin};

use artifactapi_model::account::RobotToken;
use artifactapi_tests::{
    Missing, RemoteManifest, Run, Upstream, fingerprint,
    fixtures::{helm, npm, pypi},
    proxy,
    scenario::{Client, REMOTE, World},
};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    archives::Helm,
    languages::{Npm, Pip},
};

/// What one installation needs to know.
struct Visit<'a> {
    /// An empty directory, also the client's home.
    dir: &'a Path,
    /// Base URL of the repository, with a slash at its end.
    base: &'a str,
    /// Robot's token.
    token: Option<&'a str>,
}

type Installed<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// One way in which a client shows a token.
struct Way {
    client: fn() -> Box<dyn Client>,
    name: &'static str,
    install: for<'a> fn(&'a Visit<'a>) -> Installed<'a>,
    /// A file that is there afterwards begins like this.
    leaves: &'static str,
    /// What it says when it may not.
    says: &'static str,
}

const WAYS: [Way; 4] = [
    Way {
        client: || Box::new(Pip),
        name: "in_the_url",
        install: |visit| Box::pin(pip_by_url(visit)),
        leaves: "got/python_dateutil",
        // Why, it says only when it is asked.
        says: "No matching distribution found",
    },
    Way {
        client: || Box::new(Pip),
        name: "in_netrc",
        install: |visit| Box::pin(pip_by_netrc(visit)),
        leaves: "got/python_dateutil",
        // Why, it says only when it is asked.
        says: "No matching distribution found",
    },
    Way {
        client: || Box::new(Npm),
        name: "as_auth_token",
        install: |visit| Box::pin(npm_by_auth_token(visit)),
        leaves: "node_modules/@acme/widget/",
        says: "401",
    },
    Way {
        client: || Box::new(Helm),
        name: "as_password",
        install: |visit| Box::pin(helm_by_password(visit)),
        leaves: "widget-0.1.0.tgz",
        says: "401",
    },
];

/// What a client with a terminal would be asked for is refused instead.
const PIP: [&str; 6] =
    ["download", "--no-input", "--no-cache-dir", "--disable-pip-version-check", "-d", "got"];

async fn pip_by_url(visit: &Visit<'_>) -> Result<(), String> {
    let index = match visit.token {
        Some(token) => visit.base.replacen("http://", &format!("http://ci:{token}@"), 1),
        None => visit.base.to_owned(),
    };
    let index = format!("{index}simple/");
    Run::new("pip", visit.dir).args(PIP).args(["--index-url", &index, pypi::PROJECT]).ok().await.map(drop)
}

async fn pip_by_netrc(visit: &Visit<'_>) -> Result<(), String> {
    if let Some(token) = visit.token {
        let line = format!("machine 127.0.0.1 login ci password {token}\n");
        fs::write(visit.dir.join(".netrc"), line).map_err(|e| e.to_string())?;
    }
    let index = format!("{}simple/", visit.base);
    Run::new("pip", visit.dir).args(PIP).args(["--index-url", &index, pypi::PROJECT]).ok().await.map(drop)
}

async fn npm_by_auth_token(visit: &Visit<'_>) -> Result<(), String> {
    if let Some(token) = visit.token {
        let place = visit.base.trim_start_matches("http:");
        let line = format!("{place}:_authToken={token}\n");
        fs::write(visit.dir.join(".npmrc"), line).map_err(|e| e.to_string())?;
    }
    let flags = ["install", "--no-audit", "--no-fund", "--no-update-notifier", "--cache", "c"];
    let run = Run::new("npm", visit.dir).args(flags);
    run.args(["--prefix", ".", "--registry", visit.base, npm::SCOPED]).ok().await.map(drop)
}

async fn helm_by_password(visit: &Visit<'_>) -> Result<(), String> {
    let helm = |args: &[&str]| Run::new("helm", visit.dir).args(args);
    let add = helm(&["repo", "add", "r", visit.base.trim_end_matches('/')]);
    let add = match visit.token {
        Some(token) => add.args(["--username", "ci", "--password", token]),
        None => add,
    };
    add.ok().await?;
    let chart = format!("r/{}", helm::CHART);
    helm(&["pull", &chart, "--version", helm::VERSION]).ok().await.map(drop)
}

/// Each way as a test.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    WAYS.iter().map(|way| {
        let client = (way.client)();
        let name = format!("{}::{}::with_a_token_{}", client.package_type(), client.name(), way.name);
        Trial::ignorable_test(name, move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            match runtime.block_on(story(way)) {
                Ok(Ok(())) => Ok(Completion::Completed),
                Ok(Err(text)) => Err(Failed::from(text)),
                Err(Missing(what)) => Ok(Completion::ignored_with(what)),
            }
        })
    })
}

async fn story(way: &Way) -> Result<Result<(), String>, Missing> {
    proxy::binary().map_err(Missing)?;
    let client = (way.client)();
    client.version().await?;
    let world = World { upstream: Upstream::start().await, files: Upstream::start().await };
    client.stock(&world).await?;
    let access = json!({ "read": "authenticated" });
    let manifest = RemoteManifest::new(REMOTE, client.package_type(), &world.upstream)
        .set_all(&client.spec(&world))
        .set("access", access);
    let proxy = proxy::Options::new(manifest.document()).start().await;
    let told = proxy.tool(&["token", "create", "ci", "--allow", "r=pull", "--json"], &[]).await;
    let told: Value = serde_json::from_str(&told.text).map_err(|_| Missing(told.text))?;
    let good = told["token"].as_str().unwrap_or_default();
    let foreign = RobotToken::generate().map_err(|e| Missing(e.to_string()))?;
    // Everything is cached when the third has ended.
    let visits = [None, Some(foreign.expose()), Some(good), None, Some("no token")];
    let before = world.upstream.requests().len();
    for (number, token) in visits.into_iter().enumerate() {
        let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
        let base = proxy.remote(REMOTE);
        let installed = (way.install)(&Visit { dir: home.path(), base: &base, token }).await;
        let left = fingerprint::of_dir(home.path(), |_| false).map_err(|e| Missing(e.to_string()))?;
        let is_there = left.iter().any(|line| line.contains(way.leaves));
        let may = token == Some(good);
        if installed.is_ok() != may || is_there != may {
            return Ok(Err(format!("visit {number}: {installed:?}, {left:#?}\n{}", proxy.logs())));
        }
        if number == 1 && world.upstream.requests().len() > before {
            return Ok(Err("the upstream was asked for somebody who may not read".to_owned()));
        }
        if let Err(said) = installed
            && !said.contains(way.says)
        {
            return Ok(Err(format!("visit {number} fails for another reason: {said}")));
        }
    }
    Ok(Ok(()))
}
