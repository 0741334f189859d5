//! Clients of container registries: skopeo and crane.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Run, client, fingerprint,
    fixtures::oci,
    scenario::{Client, Program, Site, World},
};
use async_trait::async_trait;

/// `host/name` of the image at `site`.
fn image_at(site: &Site) -> String {
    format!("{}/{}{}", site.host, site.prefix, oci::IMAGE)
}

/// Both tags, which name the same index.
const TAGS: [&str; 2] = [oci::TAG, "latest"];

async fn stock(world: &World) -> Result<(), Missing> {
    oci::image().await?.stock(&world.upstream, oci::IMAGE, &TAGS);
    Ok(())
}

/// What of `said` does not name the place it came from.
fn listed(site: &Site, said: &str) -> String {
    said.replace(&image_at(site), "IMAGE")
}

/// skopeo: by tag, by digest, the manifest alone, the list of tags.
pub(crate) struct Skopeo;

#[async_trait]
impl Program for Skopeo {
    fn name(&self) -> &'static str {
        "skopeo"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Docker
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("skopeo", &["--version"]).await
    }
}

#[async_trait]
impl Client for Skopeo {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        stock(world).await
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let image = format!("docker://{}", image_at(site));
        let expected = oci::image().await.map_err(|Missing(what)| what)?;
        let platform = ["--insecure-policy", "--override-os", "linux", "--override-arch", "amd64"];
        let skopeo = |args: &[&str]| Run::new("skopeo", &site.dir).args(platform).args(args);
        let copy = ["copy", "--src-tls-verify=false"];
        let by_tag = format!("{image}:{}", oci::TAG);
        let by_digest = format!("{image}@{}", oci::digest(&expected.manifest));
        skopeo(&copy).args(["--all", &by_tag, "dir:all"]).ok().await?;
        skopeo(&copy).args([&by_tag, "dir:tag"]).ok().await?;
        skopeo(&copy).args([&by_digest, "dir:digest"]).ok().await?;
        let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &by_tag]).ok().await?.out;
        if raw.as_bytes() != &expected.index[..] {
            return Err(format!("another index than was pushed: {raw}"));
        }
        let tags = skopeo(&["list-tags", "--tls-verify=false", &image]).ok().await?.out;
        let mut left = fingerprint::of_dir(&site.dir, |_| false).map_err(|e| e.to_string())?;
        left.push(listed(site, &tags));
        Ok(left)
    }
}

/// crane: pull with all layers, the manifest, the list of tags.
pub(crate) struct Crane;

#[async_trait]
impl Program for Crane {
    fn name(&self) -> &'static str {
        "crane"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Docker
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("crane", &["version"]).await
    }
}

#[async_trait]
impl Client for Crane {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        stock(world).await
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let image = image_at(site);
        let tagged = format!("{image}:{}", oci::TAG);
        let crane = |args: &[&str]| Run::new("crane", &site.dir).args(["--insecure"]).args(args);
        crane(&["pull", "--format", "oci", &tagged, "layout"]).ok().await?;
        crane(&["pull", "--platform", "linux/amd64", &tagged, "image.tar"]).ok().await?;
        Run::new("tar", &site.dir).args(["-xf", "image.tar", "--one-top-level=image"]).ok().await?;
        let manifest = crane(&["manifest", &tagged]).ok().await?.out;
        let tags = crane(&["ls", &image]).ok().await?.out;
        // The archive's own manifest repeats where the image came from.
        let ignore = |name: &str| name == "image.tar" || name == "image/manifest.json";
        let mut left = fingerprint::of_dir(&site.dir, ignore).map_err(|e| e.to_string())?;
        left.extend([manifest, listed(site, &tags)]);
        Ok(left)
    }
}
