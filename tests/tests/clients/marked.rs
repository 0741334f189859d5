//! Clients that install one of several versions: pip, puppet, terraform.

use std::fs;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Run, client, fingerprint,
    fixtures::{marked, terraform},
    scenario::{Site, Versioned, World},
};
use async_trait::async_trait;

use crate::systems::{Face, terraform_in};

/// pip: `download` and `index versions`. The first member has JSON pages, the second HTML.
pub(crate) struct Pip;

#[async_trait]
impl Versioned for Pip {
    fn name(&self) -> &'static str {
        "pip"
    }

    fn program(&self) -> &'static str {
        "pip"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Pypi
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("pip", &["--version"]).await
    }

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

/// puppet's module tool.
pub(crate) struct Puppet;

#[async_trait]
impl Versioned for Puppet {
    fn name(&self) -> &'static str {
        "puppet"
    }

    fn program(&self) -> &'static str {
        "puppet"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Puppet
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("puppet", &["--version"]).await
    }

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
pub(crate) struct Terraform(pub(crate) Face);

#[async_trait]
impl Versioned for Terraform {
    fn name(&self) -> &'static str {
        match self.0 {
            Face::Registry => "terraform_registry",
            Face::Mirror => "terraform_mirror",
        }
    }

    fn program(&self) -> &'static str {
        "terraform"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Terraform
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("terraform", &["version"]).await
    }

    fn needs_tls(&self) -> bool {
        self.0 == Face::Mirror
    }

    fn needs_default_port(&self) -> bool {
        self.0 == Face::Mirror
    }

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
