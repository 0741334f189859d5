//! Clients of programming languages: pip, npm, go.

use std::{fs, path::Path};

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Run, client, fingerprint,
    fixtures::{goproxy, npm, pypi},
    scenario::{Client, Program, Site, World},
};
use async_trait::async_trait;

/// pip, with a dependency and files on another host, and by pinned hashes.
pub(crate) struct Pip;

#[async_trait]
impl Program for Pip {
    fn name(&self) -> &'static str {
        "pip"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Pypi
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("pip", &["--version"]).await
    }
}

#[async_trait]
impl Client for Pip {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        pypi::stock(&world.upstream, &world.files, &pypi::wheels().await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let index = format!("{}simple/", site.base);
        let flags =
            ["download", "--no-cache-dir", "--disable-pip-version-check", "--index-url", &index, "-d", "got"];
        Run::new("pip", &site.dir).args(flags).args([pypi::PROJECT]).ok().await?;
        let pins = pypi::requirements(&pypi::wheels().await.map_err(|Missing(what)| what)?);
        fs::write(site.dir.join("pins"), pins).map_err(|e| e.to_string())?;
        let flags = [&flags[..5], &["-d", "pinned", "--require-hashes", "-r", "pins"]].concat();
        Run::new("pip", &site.dir).args(flags).ok().await?;
        let kept = |name: &str| name.starts_with("got") || name.starts_with("pinned");
        fingerprint::of_dir(&site.dir, |name| !kept(name)).map_err(|e| e.to_string())
    }
}

/// uv, with the same.
pub(crate) struct Uv;

#[async_trait]
impl Program for Uv {
    fn name(&self) -> &'static str {
        "uv"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Pypi
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("uv", &["--version"]).await
    }
}

#[async_trait]
impl Client for Uv {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        pypi::stock(&world.upstream, &world.files, &pypi::wheels().await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let python = client::find("python3").map_err(|Missing(what)| what)?.display().to_string();
        let index = format!("{}simple/", site.base);
        let flags = ["--no-cache", "--no-config", "--target", "got", "--python", &python];
        let install = ["pip", "install", pypi::PROJECT, "--index-url", &index];
        let run = Run::new("uv", &site.dir).args(install).args(flags);
        run.env("UV_PYTHON_DOWNLOADS", "never").ok().await?;
        fingerprint::of_dir(&site.dir.join("got"), |name| name == ".lock").map_err(|e| e.to_string())
    }
}

/// npm, with a scope and a dependency: by name, by a lock file, and what it shows of a package.
pub(crate) struct Npm;

#[async_trait]
impl Program for Npm {
    fn name(&self) -> &'static str {
        "npm"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Npm
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("npm", &["--version"]).await
    }
}

#[async_trait]
impl Client for Npm {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        npm::stock(&world.upstream, &npm::packages().await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let flags =
            ["install", "--no-audit", "--no-fund", "--no-update-notifier", "--cache", "c", "--prefix", "."];
        Run::new("npm", &site.dir).args(flags).args(["--registry", &site.base, npm::SCOPED]).ok().await?;
        let locked = site.dir.join("locked");
        fs::create_dir(&locked).map_err(|e| e.to_string())?;
        let (manifest, lock) = npm::locked(&npm::packages().await.map_err(|Missing(what)| what)?);
        fs::write(locked.join("package.json"), manifest.to_string()).map_err(|e| e.to_string())?;
        fs::write(locked.join("package-lock.json"), lock.to_string()).map_err(|e| e.to_string())?;
        let flags = ["--no-audit", "--no-fund", "--no-update-notifier", "--registry", &site.base];
        Run::new("npm", &locked).args(["ci", "--cache", "c"]).args(flags).ok().await?;
        let fields = ["name", "version", "versions", "dist-tags", "dependencies", "dist.integrity"];
        let view = Run::new("npm", &site.dir).args(["view", npm::SCOPED, "--json", "--cache", "v"]);
        let shown = view.args(flags).args(fields).ok().await?.out;
        let modules = |dir: &Path| {
            let ignore = |name: &str| name.starts_with('.');
            fingerprint::of_dir(&dir.join("node_modules"), ignore).map_err(|e| e.to_string())
        };
        let (mut left, again) = (modules(&site.dir)?, modules(&locked)?);
        if left != again {
            return Err(format!("the lock file led to other files: {again:#?}, not {left:#?}"));
        }
        left.push(shown);
        Ok(left)
    }
}

/// `run` of the go command with nothing but the repository to ask.
pub(crate) fn go(run: Run, site: &Site) -> Run {
    let run = run.env("GOPROXY", site.base.trim_end_matches('/')).env("GOFLAGS", "-modcacherw");
    let run = run.env("GOMODCACHE", site.dir.join("mod")).env("GOPATH", site.dir.join("gopath"));
    run.env("GOTOOLCHAIN", "local")
}

/// go with the public checksum database, which it reaches through the repository: it verifies signed tree heads,
/// proofs and hashes with its own key.
pub(crate) struct GoVerified;

#[async_trait]
impl Program for GoVerified {
    fn name(&self) -> &'static str {
        "go_sumdb"
    }

    fn program(&self) -> &'static str {
        "go"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Goproxy
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("go", &["version"]).await
    }
}

#[async_trait]
impl Client for GoVerified {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        let tree = goproxy::tree().await?;
        if goproxy::sumdb(&tree).is_none() {
            return Err(Missing("no answers of a checksum database could be had for the fixture".to_owned()));
        }
        goproxy::stock(&world.upstream, &tree);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let run = |args: &[&str]| go(Run::new("go", &site.dir).args(args), site);
        fs::write(site.dir.join("go.mod"), "module example.test/work\n").map_err(|e| e.to_string())?;
        // The answers were recorded in this order.
        let module = format!("{}@{}", goproxy::TOML, goproxy::TOML_VERSION);
        run(&["mod", "download", &module]).ok().await?;
        let versions = run(&["list", "-m", "-versions", goproxy::TOML]).ok().await?.out;
        if fs::read_dir(site.dir.join("gopath/pkg/sumdb")).map_or(true, |mut dirs| dirs.next().is_none()) {
            return Err("the checksum database was not asked".to_owned());
        }
        let download = site.dir.join("mod/cache/download");
        let left = fingerprint::of_dir(&download, |name| name.ends_with(".lock"));
        let mut left = left.map_err(|e| e.to_string())?;
        left.push(versions);
        Ok(left)
    }
}

/// go, without a checksum database.
pub(crate) struct Go;

#[async_trait]
impl Program for Go {
    fn name(&self) -> &'static str {
        "go"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Goproxy
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("go", &["version"]).await
    }
}

#[async_trait]
impl Client for Go {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        goproxy::stock(&world.upstream, &goproxy::tree().await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let module = format!("{}@{}", goproxy::TOML, goproxy::TOML_VERSION);
        let run = Run::new("go", &site.dir).args(["mod", "download", &module]);
        go(run, site).env("GONOSUMDB", "*").ok().await?;
        let download = site.dir.join("mod/cache/download");
        fingerprint::of_dir(&download, |name| name.ends_with(".lock") || name.contains("sumdb"))
            .map_err(|e| e.to_string())
    }
}
