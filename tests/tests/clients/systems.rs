//! Clients that install systems: dnf, puppet, terraform.

use std::fs;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Missing, Run, client, fingerprint,
    fixtures::{puppet, rpm, terraform},
    scenario::{Client, Program, Site, World},
};
use async_trait::async_trait;

/// dnf, with a repository's metadata in one compression.
pub(crate) struct Dnf(pub(crate) rpm::Compression);

#[async_trait]
impl Program for Dnf {
    fn name(&self) -> &'static str {
        match self.0 {
            rpm::Compression::Gzip => "dnf_gz",
            rpm::Compression::Zstd => "dnf_zst",
            rpm::Compression::PlainNames => "dnf_plain_names",
        }
    }

    fn program(&self) -> &'static str {
        "dnf"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Rpm
    }

    async fn version(&self) -> Result<String, Missing> {
        let version = client::version("dnf", &["--version"]).await?;
        if rustix::process::geteuid().is_root() {
            Ok(version)
        } else {
            Err(Missing("dnf installs only for root".to_owned()))
        }
    }
}

#[async_trait]
impl Client for Dnf {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        world.upstream.put_tree(&rpm::repository(self.0).await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let source = format!("--repofrompath=t,{}", site.base);
        dnf(site, ["--setopt=reposdir=/dev/null".to_owned(), source, "--nogpgcheck".to_owned()]).await
    }
}

/// dnf through a Virtual, whose metadata has to carry our signature.
pub(crate) struct SignedDnf;

#[async_trait]
impl Program for SignedDnf {
    fn name(&self) -> &'static str {
        "dnf_signed"
    }

    fn program(&self) -> &'static str {
        "dnf"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Rpm
    }

    async fn version(&self) -> Result<String, Missing> {
        Dnf(rpm::Compression::Gzip).version().await
    }
}

#[async_trait]
impl Client for SignedDnf {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        Dnf(rpm::Compression::Gzip).stock(world).await
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let repository = format!(
            "[t]\nname=t\nbaseurl={base}\ngpgcheck=0\nrepo_gpgcheck=1\ngpgkey={base}-/keys/rpm.asc\n",
            base = site.base
        );
        let repositories = site.dir.join("repos");
        fs::create_dir(&repositories).map_err(|e| e.to_string())?;
        fs::write(repositories.join("t.repo"), repository).map_err(|e| e.to_string())?;
        dnf(site, [format!("--setopt=reposdir={}", repositories.display())]).await
    }
}

/// Makes the cache, downloads and installs from the repository `t`, which `source` names.
async fn dnf(site: &Site, source: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let path = |name: &str| site.dir.join(name).display().to_string();
    fs::write(site.dir.join("dnf.conf"), "[main]\n").map_err(|e| e.to_string())?;
    fs::create_dir(site.dir.join("log")).map_err(|e| e.to_string())?;
    let mut cut_off = vec![
        format!("--config={}", path("dnf.conf")),
        format!("--installroot={}", path("root")),
        "--releasever=1".to_owned(),
        "--setopt=varsdir=/dev/null".to_owned(),
        "--setopt=pluginpath=/dev/null".to_owned(),
        format!("--setopt=cachedir={}", path("cache")),
        format!("--setopt=logdir={}", path("log")),
        "--repo=t".to_owned(),
        "--assumeyes".to_owned(),
    ];
    cut_off.extend(source);
    let dnf = |args: &[&str]| Run::new("dnf", &site.dir).args(&cut_off).args(args);
    dnf(&["makecache"]).ok().await?;
    let download = ["install", "--downloadonly", "--downloaddir", &path("got"), rpm::TOP];
    dnf(&download).ok().await?;
    // Packages of the download are not at hand for what follows.
    fs::remove_dir_all(site.dir.join("cache")).map_err(|e| e.to_string())?;
    dnf(&["install", rpm::TOP]).ok().await?;
    let below = |dir: &str| fingerprint::of_dir(&site.dir.join(dir), |_| false).map_err(|e| e.to_string());
    let mut left = below("got")?;
    left.extend(below("root/usr/share")?);
    let all = ["-qa", "--qf", "%{nevra} %{sha256header}\n"];
    let listed = Run::new("rpm", &site.dir).args(["--root", &path("root")]).args(all).ok().await?.out;
    left.push(listed);
    Ok(left)
}

/// puppet's module tool, with a dependency.
pub(crate) struct Puppet;

#[async_trait]
impl Program for Puppet {
    fn name(&self) -> &'static str {
        "puppet"
    }

    fn package_type(&self) -> PackageType {
        PackageType::Puppet
    }

    async fn version(&self) -> Result<String, Missing> {
        client::version("puppet", &["--version"]).await
    }
}

#[async_trait]
impl Client for Puppet {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        puppet::stock(&world.upstream, &puppet::releases().await?);
        Ok(())
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        let forge = site.base.trim_end_matches('/');
        let dirs = ["--target-dir", "modules", "--confdir", "conf", "--vardir", "var"];
        let install = ["module", "install", puppet::TOP, "--module_repository", forge];
        Run::new("puppet", &site.dir).args(install).args(dirs).ok().await?;
        fingerprint::of_dir(&site.dir.join("modules"), |_| false).map_err(|e| e.to_string())
    }
}

/// Which of our two faces terraform speaks to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// The provider registry protocol.
    Registry,
    /// The network mirror protocol.
    Mirror,
}

/// terraform: `init`, and `providers lock`.
pub(crate) struct Terraform(pub(crate) Face);

impl Face {
    /// The CLI configuration, and the host in the provider's address.
    pub(crate) fn configuration(self, site: &Site) -> (String, String) {
        match self {
            Face::Registry => {
                let services = format!("{{ \"providers.v1\" = \"{}{}\" }}", site.base, terraform::BASE);
                (format!("host \"reg.test\" {{\n  services = {services}\n}}\n"), "reg.test".to_owned())
            }
            Face::Mirror => {
                let origin = site.origin.trim_end_matches(":80");
                let mirror = format!("network_mirror {{\n    url = \"{}\"\n  }}", site.base);
                (format!("provider_installation {{\n  {mirror}\n}}\n"), origin.to_owned())
            }
        }
    }
}

impl Face {
    /// Makes a directory `dir` that wants the provider in `version`.
    pub(crate) fn prepare(self, site: &Site, dir: &str, version: &str) -> Result<(), String> {
        let (configuration, host) = self.configuration(site);
        let source = format!("{host}/{}/{}", terraform::NAMESPACE, terraform::TYPE);
        let provider = format!("{{ source = \"{source}\", version = \"{version}\" }}");
        let name = terraform::TYPE;
        let wanted = format!("terraform {{\n  required_providers {{\n    {name} = {provider}\n  }}\n}}\n");
        fs::write(site.dir.join("rc"), configuration).map_err(|e| e.to_string())?;
        fs::create_dir(site.dir.join(dir)).map_err(|e| e.to_string())?;
        fs::write(site.dir.join(dir).join("main.tf"), &wanted).map_err(|e| e.to_string())
    }
}

/// terraform in the prepared directory `dir`.
pub(crate) fn terraform_in(site: &Site, dir: &str) -> Run {
    let run = Run::new("terraform", &site.dir.join(dir)).env("CHECKPOINT_DISABLE", "1");
    let run = run.env("TF_CLI_CONFIG_FILE", site.dir.join("rc"));
    site.ca.iter().fold(run, |run, ca| run.env("SSL_CERT_FILE", ca))
}

#[async_trait]
impl Program for Terraform {
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

    /// The client refuses a mirror without TLS.
    fn needs_tls(&self) -> bool {
        self.0 == Face::Mirror
    }

    /// Asked for a provider of `host:port`, the client takes the mirror's path for a URL's scheme and fails.
    fn needs_default_port(&self) -> bool {
        self.0 == Face::Mirror
    }
}

#[async_trait]
impl Client for Terraform {
    async fn stock(&self, world: &World) -> Result<(), Missing> {
        terraform::provider().await?.stock(&world.upstream, &world.files);
        Ok(())
    }

    /// A registry has no mirror's face.
    fn can_go_direct(&self) -> bool {
        self.0 == Face::Registry
    }

    async fn install(&self, site: &Site) -> Result<Vec<String>, String> {
        for dir in ["init", "lock"] {
            self.0.prepare(site, dir, terraform::VERSION)?;
        }
        let terraform = |dir: &str, args: &[&str]| terraform_in(site, dir).args(args);
        terraform("init", &["init", "-no-color"]).ok().await?;
        let (os, arch) = terraform::platform();
        let mut lock = vec!["providers".to_owned(), "lock".to_owned(), format!("-platform={os}_{arch}")];
        if self.0 == Face::Mirror {
            lock.push(format!("-net-mirror={}", site.base));
        }
        let lock: Vec<_> = lock.iter().map(String::as_str).collect();
        terraform("lock", &lock).ok().await?;
        fingerprint::of_dir(&site.dir, |name| name == "rc").map_err(|e| e.to_string())
    }
}
