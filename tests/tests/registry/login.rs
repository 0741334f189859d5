//! Clients that log in with a robot's token push to a Local that is nobody else's; without one, or with one that may
//! only pull, they do not.

use std::{fs, path::Path};

use artifactapi_services::Dockerd;
use artifactapi_tests::{Missing, Proxy, Run, client, fixtures::oci, manifest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Ending, subject::LOCAL};

/// The Local, and two robots.
fn documents() -> String {
    let document = |kind: &str, name: &str, spec: Value| {
        let manifest = json!({
            "apiVersion": "artifactapi.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        format!("{manifest}\n")
    };
    let robot = |actions: &[&str]| json!({ "grants": [{ "repositories": [LOCAL], "actions": actions }] });
    manifest::join(&[
        document("Local", LOCAL, json!({ "type": "docker", "access": { "read": "authenticated" } })),
        document("Robot", "writer", robot(&["pull", "push"])),
        document("Robot", "reader", robot(&["pull"])),
    ])
}

/// A client in its three steps.
struct Client {
    program: &'static str,
    /// How it logs in to `HOST` with `TOKEN`.
    login: &'static [&'static str],
    /// How it pushes the layout `multi` to `IMAGE`.
    push: &'static [&'static str],
    /// How it pulls `IMAGE`.
    pull: &'static [&'static str],
}

const CLIENTS: [Client; 4] = [
    Client {
        program: "crane",
        login: &["auth", "login", "HOST", "-u", "robot", "-p", "TOKEN"],
        push: &["--insecure", "push", "multi", "IMAGE"],
        pull: &["--insecure", "pull", "--format", "oci", "IMAGE", "back"],
    },
    Client {
        program: "skopeo",
        login: &["login", "--tls-verify=false", "-u", "robot", "-p", "TOKEN", "--authfile", "auth", "HOST"],
        push: &[
            "--insecure-policy",
            "copy",
            "--all",
            "--dest-tls-verify=false",
            "--authfile",
            "auth",
            "oci:multi:1.0",
            "docker://IMAGE",
        ],
        pull: &[
            "--insecure-policy",
            "copy",
            "--all",
            "--src-tls-verify=false",
            "--authfile",
            "auth",
            "docker://IMAGE",
            "oci:back:1.0",
        ],
    },
    Client {
        program: "regctl",
        login: &["registry", "login", "HOST", "--skip-check", "-u", "robot", "-p", "TOKEN"],
        push: &["--host", "reg=HOST,tls=disabled", "image", "copy", "ocidir://multi:1.0", "IMAGE"],
        pull: &["--host", "reg=HOST,tls=disabled", "image", "copy", "IMAGE", "ocidir://back:1.0"],
    },
    Client {
        program: "docker",
        login: &["login", "HOST", "-u", "robot", "-p", "TOKEN"],
        push: &["push", "IMAGE"],
        pull: &["pull", "IMAGE"],
    },
];

struct Site<'a> {
    proxy: &'a Proxy,
    daemon: Option<&'a Dockerd>,
    image: String,
}

impl Site<'_> {
    /// One step of `client` in `dir`, which is its home.
    fn step(&self, client: &Client, words: &[&str], dir: &Path, token: &str) -> Run {
        let fill = |word: &&str| {
            let word = word.replace("HOST", &self.proxy.host()).replace("TOKEN", token);
            word.replace("IMAGE", &self.image)
        };
        let run = Run::new(client.program, dir).args(words.iter().map(fill));
        match self.daemon {
            Some(daemon) => run.env("DOCKER_HOST", daemon.host()),
            None => run,
        }
    }
}

async fn token(proxy: &Proxy, robot: &str) -> String {
    let told = proxy.tool(&["token", "create", robot, "--json"], &[]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    let told: Value = serde_json::from_str(&told.text).expect("JSON");
    told["token"].as_str().expect("a token").to_owned()
}

/// An empty home with the layout in it.
async fn home() -> Result<TempDir, Missing> {
    let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
    oci::layout(&home.path().join("multi")).await?;
    Ok(home)
}

/// See the module.
pub(crate) async fn with_tokens() -> Ending {
    let proxy = Proxy::start(documents()).await;
    let (writer, reader) = (token(&proxy, "writer").await, token(&proxy, "reader").await);
    let daemon = tokio::task::block_in_place(Dockerd::start).ok();
    let mut took_part = Vec::new();
    for client in &CLIENTS {
        let of_daemon = client.program == "docker";
        if client::find(client.program).is_err() || of_daemon && daemon.is_none() {
            println!("\nSKIPPED login with {}: it is not installed", client.program);
            continue;
        }
        let daemon = daemon.as_ref().filter(|_| of_daemon);
        let image = format!("{}/{LOCAL}/login/{}:1.0", proxy.host(), client.program);
        let site = Site { proxy: &proxy, daemon, image };
        if let Err(text) = story(&site, client, &writer, &reader).await {
            panic!("{}: {text}\n{}", client.program, proxy.logs());
        }
        took_part.push(client.program);
    }
    tokio::task::block_in_place(|| drop(daemon));
    println!("\nfigure: {} push with a robot's token and not without", took_part.join(", "));
    if took_part.is_empty() { Err(Missing("no client is installed".to_owned())) } else { Ok(()) }
}

async fn story(site: &Site<'_>, client: &Client, writer: &str, reader: &str) -> Result<(), String> {
    let home_of = async || home().await.map_err(|missing| missing.0);
    let (stranger, pulls, pushes) = (home_of().await?, home_of().await?, home_of().await?);
    if site.daemon.is_some() {
        let tar = oci::layer_tar().await.map_err(|missing| missing.0)?;
        fs::write(stranger.path().join("layer.tar"), tar).map_err(|e| e.to_string())?;
        site.step(client, &["import", "layer.tar", "IMAGE"], stranger.path(), "").ok().await?;
    }
    site.step(client, client.push, stranger.path(), "").fails().await?;
    site.step(client, client.login, pulls.path(), reader).ok().await?;
    site.step(client, client.push, pulls.path(), "").fails().await?;
    site.step(client, client.login, pushes.path(), writer).ok().await?;
    site.step(client, client.push, pushes.path(), "").ok().await?;
    site.step(client, client.pull, pulls.path(), "").ok().await?;
    site.step(client, client.pull, stranger.path(), "").fails().await.map(drop)
}
