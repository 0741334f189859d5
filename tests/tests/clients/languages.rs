//! Clients of programming languages: pip, npm, go.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Run, client, fingerprint,
    fixtures::{goproxy, npm, pypi},
    scenario::{Client, Site, World},
};
use async_trait::async_trait;

/// pip, with a dependency and files on another host.
pub(crate) struct Pip;

#[async_trait]
impl Client for Pip {
    fn name(&self) -> &'static str {
        "pip"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Pypi
    }

    async fn version(&self) -> Result<String, Missing> {
        client::find("pip").map(|path| path.display().to_string())
    }

    async fn stock(&self, world: &World) -> Result<(), Missing> {
        pypi::stock(&world.upstream, &world.files, &pypi::wheels().await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let index = format!("{}simple/", site.base);
        let flags =
            ["download", "--no-cache-dir", "--disable-pip-version-check", "--index-url", &index, "-d", "got"];
        Run::new("pip", &site.dir).args(flags).args([pypi::PROJECT]).ok().await?;
        fingerprint::of_dir(&site.dir.join("got"), |_| false).map_err(|e| e.to_string())
    }
}

/// npm, with a scope and a dependency.
pub(crate) struct Npm;

#[async_trait]
impl Client for Npm {
    fn name(&self) -> &'static str {
        "npm"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Npm
    }

    async fn version(&self) -> Result<String, Missing> {
        client::find("npm").map(|path| path.display().to_string())
    }

    async fn stock(&self, world: &World) -> Result<(), Missing> {
        npm::stock(&world.upstream, &npm::packages().await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let flags =
            ["install", "--no-audit", "--no-fund", "--no-update-notifier", "--cache", "c", "--prefix", "."];
        Run::new("npm", &site.dir).args(flags).args(["--registry", &site.base, npm::SCOPED]).ok().await?;
        let ignore = |name: &str| name.starts_with('.');
        fingerprint::of_dir(&site.dir.join("node_modules"), ignore).map_err(|e| e.to_string())
    }
}

/// go, without a checksum database.
pub(crate) struct Go;

#[async_trait]
impl Client for Go {
    fn name(&self) -> &'static str {
        "go"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Goproxy
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("go", &["version"]).await
    }

    async fn stock(&self, world: &World) -> Result<(), Missing> {
        goproxy::stock(&world.upstream, &goproxy::tree().await?);
        Ok(())
    }

    /// go escapes `!` in URLs, which the scripted upstream does not undo.
    fn can_go_direct(&self) -> bool {
        false
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let module = format!("{}@{}", goproxy::TOML, goproxy::TOML_VERSION);
        let run = Run::new("go", &site.dir).args(["mod", "download", &module]);
        let run = run
            .env("GOPROXY", site.base.trim_end_matches('/'))
            .env("GONOSUMDB", "*")
            .env("GONOSUMCHECK", "1");
        let run = run
            .env("GOFLAGS", "-modcacherw")
            .env("GOMODCACHE", site.dir.join("mod"))
            .env("GOTOOLCHAIN", "local");
        run.ok().await?;
        let download = site.dir.join("mod/cache/download");
        fingerprint::of_dir(&download, |name| name.ends_with(".lock") || name.contains("sumdb"))
            .map_err(|e| e.to_string())
    }
}
