//! Clients that need no daemon.

use std::fs;

use artifactapi_tests::{
    Run,
    fixtures::{helm as charts, oci},
};

use super::{Ending, Site, Subject, done};

/// skopeo: copies an index, reads it back, copies it to another image (mounting), deletes.
pub(crate) async fn skopeo(subject: &mut Subject) -> Ending {
    let site = Site::new(subject, "skopeo", &["--version"]).await?;
    done(skopeo_at(&site).await, subject);
    site.assert_same_blobs("back");
    Ok(())
}

async fn skopeo_at(site: &Site) -> Result<(), String> {
    let skopeo = |args: &[&str]| Run::new("skopeo", site.dir()).args(["--insecure-policy"]).args(args);
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let copy = ["copy", "--all", "--preserve-digests", tls[0], tls[1]];
    let layout = format!("oci:multi:{}", oci::TAG);
    let there = format!("docker://{}", site.reference("1.0"));
    let mounted = format!("docker://{}-mounted:1.0", site.image);
    skopeo(&copy).args([&layout, &there]).ok().await?;
    skopeo(&copy).args([&there, &mounted]).ok().await?;
    skopeo(&copy).args([&mounted, &format!("oci:back:{}", oci::TAG)]).ok().await?;
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &there]).ok().await?.out;
    if oci::digest(raw.as_bytes()) != site.index {
        return Err(format!("another index than was pushed: {raw}"));
    }
    skopeo(&["delete", "--tls-verify=false", &there]).ok().await?;
    skopeo(&["inspect", "--tls-verify=false", "--raw", &there]).fails().await?;
    skopeo(&["inspect", "--tls-verify=false", "--raw", &mounted]).ok().await.map(drop)
}

/// crane: pushes an index, copies it (mounting), tags, appends a layer, lists, pulls, deletes.
pub(crate) async fn crane(subject: &mut Subject) -> Ending {
    let site = Site::new(subject, "crane", &["version"]).await?;
    done(crane_at(&site).await, subject);
    site.assert_same_blobs("back");
    Ok(())
}

async fn crane_at(site: &Site) -> Result<(), String> {
    let crane = |args: &[&str]| Run::new("crane", site.dir()).args(["--insecure"]).args(args);
    let there = site.reference("1.0");
    let other = format!("{}-copied:1.0", site.image);
    crane(&["push", "multi", &there]).ok().await?;
    crane(&["copy", &there, &other]).ok().await?;
    crane(&["tag", &there, "latest"]).ok().await?;
    let digest = crane(&["digest", &site.reference("latest")]).ok().await?.out;
    if digest.trim() != site.index {
        return Err(format!("{digest} instead of {}", site.index));
    }
    let tar = oci::layer_tar().await.map_err(|missing| missing.0)?;
    fs::write(site.path("layer.tar"), tar).map_err(|e| e.to_string())?;
    crane(&["append", "-f", "layer.tar", "-t", &site.reference("appended"), "--oci-empty-base"]).ok().await?;
    crane(&["validate", "--remote", &site.reference("appended")]).ok().await?;
    let tags = crane(&["ls", &site.image]).ok().await?.out;
    if tags.split_whitespace().collect::<Vec<_>>() != ["1.0", "appended", "latest"] {
        return Err(format!("other tags: {tags}"));
    }
    crane(&["delete", &format!("{}@{}", site.image, site.index)]).ok().await?;
    crane(&["digest", &there]).fails().await?;
    crane(&["pull", "--format", "oci", &other, "back"]).ok().await.map(drop)
}

/// regctl: pushes in chunks, attaches an artifact and finds it among the referrers, copies both back, deletes a tag.
pub(crate) async fn regctl(subject: &mut Subject) -> Ending {
    let site = Site::new(subject, "regctl", &["version", "--format", "{{.VCSTag}}"]).await?;
    done(regctl_at(&site, matches!(subject, Subject::Peer(_))).await, subject);
    Ok(())
}

async fn regctl_at(site: &Site, by_tag: bool) -> Result<(), String> {
    let regctl = |args: &[&str]| Run::new("regctl", site.dir()).args(args);
    let small = ["--blob-chunk", "200000", "--blob-max", "200000"];
    regctl(&["registry", "set", "--skip-check", "--tls", "disabled"])
        .args(small)
        .args([&site.host])
        .ok()
        .await?;
    let there = site.reference("1.0");
    regctl(&["image", "copy", &format!("ocidir://multi:{}", oci::TAG), &there]).ok().await?;
    let digest = regctl(&["image", "digest", &there]).ok().await?.out;
    if digest.trim() != site.index {
        return Err(format!("{digest} instead of {}", site.index));
    }
    fs::write(site.path("note"), "a note").map_err(|e| e.to_string())?;
    let put = ["artifact", "put", "--artifact-type", "application/vnd.example.note", "--file", "note"];
    regctl(&put).args(["--subject", &there]).ok().await?;
    let list = regctl(&["artifact", "list", "--format", "body", &there]).ok().await?.out;
    if !list.contains("application/vnd.example.note") {
        return Err(format!("the artifact is not among the referrers: {list}"));
    }
    let note = regctl(&["artifact", "get", "--subject", &there]).ok().await?.out;
    if note.trim() != "a note" {
        return Err(format!("another artifact: {note}"));
    }
    regctl(&["image", "copy", "--referrers", &there, "ocidir://back:1.0"]).ok().await?;
    let back = fs::read_dir(site.path("back/blobs/sha256")).map_err(|e| e.to_string())?.count();
    let pushed = fs::read_dir(site.path("multi/blobs/sha256")).map_err(|e| e.to_string())?.count();
    // With the artifact: its manifest, its body, an empty config, and where referrers are kept by tag, their list.
    if back < pushed + 3 {
        return Err(format!("{back} blobs came back of {pushed} and an artifact"));
    }
    let tags = regctl(&["tag", "ls", &site.image]).ok().await?.out;
    let count = tags.split_whitespace().count();
    if !by_tag && count != 1 {
        return Err(format!("referrers are kept as tags: {tags}"));
    }
    regctl(&["tag", "delete", &there]).ok().await?;
    regctl(&["image", "digest", &there]).fails().await.map(drop)
}

/// buildah: an image from scratch and a list of it, pushed and pulled.
pub(crate) async fn buildah(subject: &mut Subject) -> Ending {
    let site = Site::new(subject, "buildah", &["--version"]).await?;
    done(buildah_at(&site).await, subject);
    Ok(())
}

async fn buildah_at(site: &Site) -> Result<(), String> {
    let store = ["--root", "store", "--runroot", "run", "--storage-driver", "vfs"];
    let store = store
        .map(|word| if word == "store" || word == "run" { absolute(site, word) } else { word.to_owned() });
    let buildah = |args: &[&str]| Run::new("buildah", site.dir()).args(&store).args(args);
    fs::write(site.path("file"), vec![7; 300_000]).map_err(|e| e.to_string())?;
    let there = site.reference("1.0");
    let container = buildah(&["from", "scratch"]).ok().await?.out;
    buildah(&["copy", container.trim(), "file", "/file"]).ok().await?;
    buildah(&["commit", "--quiet", container.trim(), &there]).ok().await?;
    let to = format!("docker://{there}");
    buildah(&["push", "--tls-verify=false", "--digestfile", "digest", &there, &to]).ok().await?;
    let list = site.reference("list");
    buildah(&["manifest", "create", &list, &there]).ok().await?;
    let to = format!("docker://{list}");
    buildah(&["manifest", "push", "--all", "--tls-verify=false", "--digestfile", "list", &list, &to])
        .ok()
        .await?;
    buildah(&["rm", container.trim()]).ok().await?;
    buildah(&["rmi", "--all", "--force"]).ok().await?;
    let by_digest = format!("{}@{}", site.image, site.text("digest"));
    for reference in [&by_digest, &list] {
        buildah(&["pull", "--quiet", "--tls-verify=false", &format!("docker://{reference}")]).ok().await?;
    }
    let digest = site.text("list");
    if digest.starts_with("sha256:") { Ok(()) } else { Err(format!("no digest of a list: {digest}")) }
}

/// podman: an image out of a layout, pushed and pulled.
pub(crate) async fn podman(subject: &mut Subject) -> Ending {
    let site = Site::new(subject, "podman", &["--version"]).await?;
    done(podman_at(&site).await, subject);
    Ok(())
}

async fn podman_at(site: &Site) -> Result<(), String> {
    let (root, run) = (absolute(site, "store"), absolute(site, "run"));
    let store =
        ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    let more = ["--events-backend", "none"];
    let podman = |args: &[&str]| Run::new("podman", site.dir()).args(store).args(more).args(args);
    let there = site.reference("1.0");
    let pulled = podman(&["pull", "--quiet", &format!("oci:multi:{}", oci::TAG)]).ok().await?.out;
    podman(&["tag", pulled.trim(), &there]).ok().await?;
    podman(&["push", "--quiet", "--tls-verify=false", "--digestfile", "digest", &there]).ok().await?;
    podman(&["rmi", "--all", "--force"]).ok().await?;
    podman(&["pull", "--quiet", "--tls-verify=false", &there]).ok().await?;
    let digest = podman(&["image", "inspect", "--format", "{{.Digest}}", &there]).ok().await?.out;
    let again = podman(&["image", "inspect", "--format", "{{.Id}}", &there]).ok().await?.out;
    if digest.trim() != site.text("digest") || again.trim() != pulled.trim() {
        return Err(format!("{digest} of {again} was pulled, {} of {pulled} pushed", site.text("digest")));
    }
    Ok(())
}

fn absolute(site: &Site, name: &str) -> String {
    site.path(name).to_string_lossy().into_owned()
}

/// Helm: a chart and its signature, pushed and pulled.
pub(crate) async fn helm(subject: &mut Subject) -> Ending {
    let chart = charts::chart().await?;
    let site = Site::new(subject, "helm", &["version", "--short"]).await?;
    done(helm_at(&site, &chart).await, subject);
    Ok(())
}

async fn helm_at(site: &Site, chart: &charts::Chart) -> Result<(), String> {
    let helm = |args: &[&str]| Run::new("helm", site.dir()).args(args);
    fs::write(site.path(&chart.file), &chart.archive).map_err(|e| e.to_string())?;
    // What lies beside a chart under this name is pushed with it.
    let provenance = format!("{}.prov", chart.file);
    fs::write(site.path(&provenance), &chart.provenance).map_err(|e| e.to_string())?;
    fs::create_dir(site.path("back")).map_err(|e| e.to_string())?;
    let base = format!("oci://{}", site.image);
    helm(&["push", &chart.file, &base, "--plain-http"]).ok().await?;
    let name = format!("{base}/{}", charts::CHART);
    helm(&["pull", &name, "--version", charts::VERSION, "--plain-http", "--prov", "-d", "back"]).ok().await?;
    for (file, pushed) in [(&chart.file, &chart.archive), (&provenance, &chart.provenance)] {
        let back = fs::read(site.path("back").join(file)).map_err(|e| format!("{file}: {e}"))?;
        if back != *pushed {
            return Err(format!("{} other bytes of {file} came back", back.len()));
        }
    }
    Ok(())
}
