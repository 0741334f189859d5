//! Clients that fetch files: curl (generic) and helm.

use std::fs;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Run, client, fingerprint,
    fixtures::helm,
    scenario::{Client, Program, Site, World},
};
use async_trait::async_trait;

/// curl, with a whole body, a range and a resumed download.
pub(crate) struct Curl;

const FILE: &str = "releases/v1/tool-1.0.tar.gz";

#[async_trait]
impl Program for Curl {
    fn name(&self) -> &'static str {
        "curl"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Generic
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("curl", &["--version"]).await
    }
}

#[async_trait]
impl Client for Curl {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        world.upstream.put(FILE, body);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let url = format!("{}{FILE}", site.base);
        let curl = |extra: &[&str]| Run::new("curl", &site.dir).args(["-fsS", &url]).args(extra);
        curl(&["-o", "whole"]).ok().await?;
        curl(&["-o", "piece", "-r", "1000000-1999999"]).ok().await?;
        curl(&["-o", "resumed", "-r", "0-999999"]).ok().await?;
        curl(&["-o", "resumed", "-C", "-"]).ok().await?;
        fingerprint::of_dir(&site.dir, |_| false).map_err(|e| e.to_string())
    }
}

/// helm, by repository index, with the provenance and verified by it.
pub(crate) struct Helm;

#[async_trait]
impl Program for Helm {
    fn name(&self) -> &'static str {
        "helm"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Helm
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("helm", &["version", "--short"]).await
    }
}

#[async_trait]
impl Client for Helm {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        helm::chart().await?.stock(&world.upstream, &world.files);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let helm = |args: &[&str]| Run::new("helm", &site.dir).args(args);
        helm(&["repo", "add", "r", site.base.trim_end_matches('/')]).ok().await?;
        helm(&["repo", "update"]).ok().await?;
        let chart = format!("r/{}", helm::CHART);
        for dir in ["proven", "verified"] {
            fs::create_dir(site.dir.join(dir)).map_err(|e| e.to_string())?;
        }
        let pull = ["pull", &chart, "--version", helm::VERSION];
        helm(&pull).args(["--prov", "--destination", "proven"]).ok().await?;
        let keys = helm::chart().await.map_err(|Missing(what)| what)?.keyring;
        fs::write(site.dir.join("keys.gpg"), keys).map_err(|e| e.to_string())?;
        let verify = ["--verify", "--keyring", "keys.gpg", "--destination", "verified"];
        helm(&pull).args(verify).ok().await?;
        let kept = |name: &str| name.starts_with("proven") || name.starts_with("verified");
        fingerprint::of_dir(&site.dir, |name| !kept(name)).map_err(|e| e.to_string())
    }
}
