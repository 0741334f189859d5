//! Clients of a daemon: docker, and ctr with the containerd that dockerd starts.

use std::fs;

use artifactapi_services::Dockerd;
use artifactapi_tests::{Missing, Run, fixtures::oci};

use super::{Ending, Site, Subject, done};

fn daemon() -> Result<Dockerd, Missing> {
    tokio::task::block_in_place(Dockerd::start)
        .map_err(|missing| Missing(format!("{} is not installed", missing.0)))
}

/// docker: an image and a list of it, pushed, forgotten and pulled.
pub(crate) async fn docker(subject: &mut Subject) -> Ending {
    let daemon = daemon()?;
    let site = Site::new(subject, "docker", &["--version"]).await?;
    let result = docker_at(&site, &daemon).await;
    done(result.map_err(|text| format!("{text}\n{}", daemon.0.log())), subject);
    tokio::task::block_in_place(|| drop(daemon));
    Ok(())
}

async fn docker_at(site: &Site, daemon: &Dockerd) -> Result<(), String> {
    let host = daemon.host();
    let docker = |args: &[&str]| Run::new("docker", site.dir()).args(args).env("DOCKER_HOST", &host);
    let tar = oci::layer_tar().await.map_err(|missing| missing.0)?;
    fs::write(site.path("layer.tar"), tar).map_err(|e| e.to_string())?;
    let (there, list) = (site.reference("1.0"), site.reference("list"));
    docker(&["import", "layer.tar", &there]).ok().await?;
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &there]).ok().await?.out;
    let pushed = docker(&["push", &there]).ok().await?.out;
    let digest = word_after(&pushed, "digest:")?;
    docker(&["manifest", "create", "--insecure", &list, &there]).ok().await?;
    docker(&["manifest", "push", "--insecure", &list]).ok().await?;
    for reference in [&there, &format!("{}@{digest}", site.image), &list] {
        docker(&["rmi", "--force", id.trim()]).ok().await?;
        let pulled = docker(&["pull", reference]).ok().await?.out;
        let again = docker(&["image", "inspect", "--format", "{{.Id}}", reference]).ok().await?.out;
        if again != id || reference != &list && word_after(&pulled, "Digest:")? != digest {
            return Err(format!("another image at {reference}: {again} instead of {id}: {pulled}"));
        }
    }
    Ok(())
}

/// The word after `label` in `text`.
fn word_after(text: &str, label: &str) -> Result<String, String> {
    let mut words = text.split_whitespace().skip_while(|word| *word != label).skip(1);
    words.next().map(str::to_owned).ok_or_else(|| format!("no {label} in {text}"))
}

/// ctr: an index out of a layout, pushed, forgotten and pulled.
pub(crate) async fn ctr(subject: &mut Subject) -> Ending {
    let daemon = daemon()?;
    let site = Site::new(subject, "ctr", &["--version"]).await?;
    done(ctr_at(&site, &daemon).await, subject);
    tokio::task::block_in_place(|| drop(daemon));
    Ok(())
}

async fn ctr_at(site: &Site, daemon: &Dockerd) -> Result<(), String> {
    let socket = daemon.containerd().to_string_lossy().into_owned();
    let ctr = |args: &[&str]| {
        Run::new("ctr", site.dir()).args(["--address", &socket, "--namespace", "bench", "images"]).args(args)
    };
    Run::new("tar", &site.path("multi")).args(["-cf", "../multi.tar", "."]).ok().await?;
    let there = site.reference("1.0");
    ctr(&["import", "--all-platforms", "--no-unpack", "--index-name", &there, "multi.tar"]).ok().await?;
    let names = ctr(&["ls", "-q"]).ok().await?.out;
    let pushed = listed(&ctr(&["ls"]).ok().await?.out, &there)?;
    // The layout's own index is imported too, under the name it is given, and the image under its tag.
    ctr(&["push", "--plain-http", &there]).ok().await?;
    for name in names.split_whitespace() {
        ctr(&["rm", "--sync", name]).ok().await?;
    }
    ctr(&["pull", "--plain-http", "--all-platforms", "--snapshotter", "native", &there]).ok().await?;
    let pulled = listed(&ctr(&["ls"]).ok().await?.out, &there)?;
    if pulled == pushed { Ok(()) } else { Err(format!("{pulled} instead of {pushed}")) }
}

/// The digest in the line that begins with `name`.
fn listed(lines: &str, name: &str) -> Result<String, String> {
    let line = lines.lines().find(|line| line.split_whitespace().next() == Some(name));
    let word = line.and_then(|line| line.split_whitespace().find(|word| word.starts_with("sha256:")));
    word.map(str::to_owned).ok_or_else(|| format!("{name} is not listed: {lines}"))
}
