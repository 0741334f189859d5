//! Clients that install one of several versions: pip, npm, go, puppet, terraform.

use std::fs;

use artifactapi_tests::{
    Missing, Run, fingerprint,
    fixtures::{marked, terraform},
    scenario::{Site, Versioned, World},
};
use async_trait::async_trait;
use serde_json::Value;

use crate::{
    languages::{Go, Npm, Pip, go},
    systems::{Puppet, Terraform, terraform_in},
};

/// pip: `download` and `index versions`. The first member has JSON pages, the second HTML.
#[async_trait]
impl Versioned for Pip {
    async fn stock(&self, world: &World, place: &str, mark: &str, versions: &[&str]) -> Result<(), Missing> {
        marked::stock_wheels(&world.upstream, &world.files, place, mark, versions, mark == "one");
        Ok(())
    }

    async fn install(&self, site: &Site, version: &str) -> Result<Vec<u8>, String> {
        let (index, wanted) = (format!("{}simple/", site.base), format!("{}=={version}", marked::PROJECT));
        let flags = ["download", "--no-cache-dir", "--no-deps", "--disable-pip-version-check", "-d", "got"];
        let run = Run::new("pip", &site.dir).args(flags).args(["--index-url", &index, &wanted]);
        run.env("PIP_RETRIES", "0").ok().await?;
        fs::read(site.dir.join("got").join(marked::wheel_name(version))).map_err(|e| e.to_string())
    }

    async fn expected(&self, mark: &str, version: &str) -> Result<Vec<u8>, Missing> {
        Ok(marked::wheel(mark, version).to_vec())
    }

    async fn seen(&self, site: &Site) -> Result<Option<Vec<String>>, String> {
        let index = format!("{}simple/", site.base);
        let versions = ["index", "versions", marked::PROJECT, "--index-url", &index];
        let shown = Run::new("pip", &site.dir).args(versions).ok().await?.out;
        let line = shown.lines().find_map(|line| line.strip_prefix("Available versions: "));
        let line = line.ok_or_else(|| format!("pip lists no versions: {shown}"))?;
        Ok(Some(line.split(", ").map(str::to_owned).collect()))
    }

    fn pattern(&self, version: &str) -> String {
        format!("marked_thing-{version}-")
    }
}

/// What npm is told every time.
const NPM: [&str; 5] = ["--no-audit", "--no-fund", "--no-update-notifier", "--cache", "c"];

/// npm: `install` and `view`.
#[async_trait]
impl Versioned for Npm {
    async fn stock(&self, world: &World, place: &str, mark: &str, versions: &[&str]) -> Result<(), Missing> {
        marked::stock_tools(&world.upstream, place, mark, versions).await
    }

    async fn install(&self, site: &Site, version: &str) -> Result<Vec<u8>, String> {
        let wanted = format!("{}@{version}", marked::TOOL);
        let run = Run::new("npm", &site.dir).args(["install", "--prefix", ".", "--registry", &site.base]);
        run.args(NPM).args(["--fetch-retries", "0", &wanted]).ok().await?;
        fs::read(site.dir.join("node_modules").join(marked::TOOL).join(marked::TELLING))
            .map_err(|e| e.to_string())
    }

    async fn expected(&self, mark: &str, version: &str) -> Result<Vec<u8>, Missing> {
        Ok(marked::telling(mark, version).into_bytes())
    }

    async fn seen(&self, site: &Site) -> Result<Option<Vec<String>>, String> {
        let view = ["view", marked::TOOL, "versions", "--json", "--registry", &site.base];
        let shown = Run::new("npm", &site.dir).args(view).args(NPM).ok().await?.out;
        let versions: Value = serde_json::from_str(&shown).map_err(|e| format!("{e}: {shown}"))?;
        // One version alone is shown without a list.
        let all = versions.as_array().cloned().unwrap_or_else(|| vec![versions]);
        Ok(Some(all.iter().filter_map(Value::as_str).map(str::to_owned).collect()))
    }

    async fn newest(&self, site: &Site) -> Result<Option<String>, String> {
        let registry = ["--registry", &site.base];
        let tags = Run::new("npm", &site.dir).args(["dist-tag", "ls", marked::TOOL]).args(registry).args(NPM);
        let none = tags.fails().await?;
        if !none.err.contains("No dist-tags found") {
            return Err(format!("npm sees a tag that leads nowhere: {} {}", none.out, none.err));
        }
        let run = Run::new("npm", &site.dir).args(["install", "--prefix", ".", marked::TOOL]).args(registry);
        run.args(NPM).args(["--fetch-retries", "0"]).ok().await?;
        let manifest = site.dir.join("node_modules").join(marked::TOOL).join("package.json");
        let manifest = fs::read(manifest).map_err(|e| e.to_string())?;
        let manifest: Value = serde_json::from_slice(&manifest).map_err(|e| e.to_string())?;
        Ok(manifest["version"].as_str().map(str::to_owned))
    }

    fn pattern(&self, version: &str) -> String {
        format!("{}-{version}\\.tgz$", marked::TOOL)
    }
}

/// go: `mod download` and `list -m -versions`.
#[async_trait]
impl Versioned for Go {
    async fn stock(&self, world: &World, place: &str, mark: &str, versions: &[&str]) -> Result<(), Missing> {
        marked::stock_go_modules(&world.upstream, place, mark, versions);
        Ok(())
    }

    async fn install(&self, site: &Site, version: &str) -> Result<Vec<u8>, String> {
        let module = format!("{}@{}", marked::GO_MODULE, marked::go_version(version));
        let run = Run::new("go", &site.dir).args(["mod", "download", &module]);
        go(run, site).env("GONOSUMDB", "*").ok().await?;
        fs::read(site.dir.join("mod").join(module).join(marked::TELLING)).map_err(|e| e.to_string())
    }

    async fn expected(&self, mark: &str, version: &str) -> Result<Vec<u8>, Missing> {
        Ok(marked::telling(mark, version).into_bytes())
    }

    async fn seen(&self, site: &Site) -> Result<Option<Vec<String>>, String> {
        fs::write(site.dir.join("go.mod"), "module example.test/work\n").map_err(|e| e.to_string())?;
        let run = Run::new("go", &site.dir).args(["list", "-m", "-versions", marked::GO_MODULE]);
        let shown = go(run, site).env("GONOSUMDB", "*").ok().await?.out;
        // `v1.N.0` after the module's name.
        let versions = shown.split_whitespace().skip(1).filter_map(|version| version.split('.').nth(1));
        Ok(Some(versions.map(|number| format!("{number}.0.0")).collect()))
    }

    async fn newest(&self, site: &Site) -> Result<Option<String>, String> {
        fs::write(site.dir.join("go.mod"), "module example.test/work\n").map_err(|e| e.to_string())?;
        let latest = format!("{}@latest", marked::GO_MODULE);
        let run = Run::new("go", &site.dir).args(["list", "-m", "-f", "{{.Version}}", &latest]);
        let shown = go(run, site).env("GONOSUMDB", "*").ok().await?.out;
        Ok(shown.trim().split('.').nth(1).map(|number| format!("{number}.0.0")))
    }

    fn pattern(&self, version: &str) -> String {
        format!("/@v/{}\\.", marked::go_version(version).replace('.', "\\."))
    }
}

/// puppet's module tool.
#[async_trait]
impl Versioned for Puppet {
    async fn stock(&self, world: &World, place: &str, mark: &str, versions: &[&str]) -> Result<(), Missing> {
        marked::stock_modules(&world.upstream, place, mark, versions).await
    }

    async fn install(&self, site: &Site, version: &str) -> Result<Vec<u8>, String> {
        let forge = site.base.trim_end_matches('/');
        let dirs = ["--target-dir", "modules", "--confdir", "conf", "--vardir", "var"];
        let install =
            ["module", "install", marked::MODULE, "--version", version, "--module_repository", forge];
        Run::new("puppet", &site.dir).args(install).args(dirs).ok().await?;
        fs::read(site.dir.join("modules/marked/manifests/init.pp")).map_err(|e| e.to_string())
    }

    async fn expected(&self, mark: &str, version: &str) -> Result<Vec<u8>, Missing> {
        Ok(marked::manifest(mark, version).into_bytes())
    }

    fn pattern(&self, version: &str) -> String {
        format!("{}-{version}", marked::MODULE)
    }
}

/// terraform: `init`. Both members are on one host, as the mirror face needs it.
#[async_trait]
impl Versioned for Terraform {
    async fn stock(&self, world: &World, place: &str, mark: &str, versions: &[&str]) -> Result<(), Missing> {
        let mut releases = Vec::new();
        for version in versions {
            releases.push(terraform::provider_of(mark, version).await?);
        }
        terraform::stock(&world.upstream, &world.files, place, &releases);
        Ok(())
    }

    async fn install(&self, site: &Site, version: &str) -> Result<Vec<u8>, String> {
        self.0.prepare(site, "init", version)?;
        terraform_in(site, "init").args(["init", "-no-color"]).ok().await?;
        let program = terraform::program_name(version);
        let installed = fingerprint::of_dir(&site.dir.join("init/.terraform"), |_| false);
        let installed = installed.map_err(|e| e.to_string())?;
        let path = installed
            .iter()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(path, _)| path.ends_with(&program));
        let (path, _) = path.ok_or_else(|| format!("no {program} in {installed:#?}"))?;
        fs::read(site.dir.join("init/.terraform").join(path)).map_err(|e| e.to_string())
    }

    async fn expected(&self, mark: &str, _version: &str) -> Result<Vec<u8>, Missing> {
        Ok(terraform::program(mark).into_bytes())
    }

    fn pattern(&self, version: &str) -> String {
        format!("{}/{}/{version}/download/", terraform::NAMESPACE, terraform::TYPE)
    }
}
