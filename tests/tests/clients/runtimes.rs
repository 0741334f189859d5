//! What `artifactapi setup` prints for runtimes of containers, given to those that can be had here: an image that an
//! upstream registry alone has comes through the proxy, and comes again when that registry is gone.

use std::fs;

use artifactapi_model::PackageType;
use artifactapi_services::Dockerd;
use artifactapi_tests::{Missing, Proxy, RemoteManifest, Run, Upstream, client, fixtures::oci, proxy};
use libtest_mimic::{Completion, Trial};
use serde_json::json;
use tempfile::TempDir;

/// The Remote.
const HUB: &str = "hub";
/// What it stands in for.
const REGISTRY: &str = "registry.test";
const PLATFORM: [&str; 4] = ["--override-os", "linux", "--override-arch", "amd64"];

/// dockerd with its `daemon.json`; skopeo and podman with the `registries.conf` that CRI-O has: it is read by the same
/// library.
pub(crate) fn trials() -> Vec<Trial> {
    type Test = fn(&World) -> Result<(), Missing>;
    let tests: [(&str, Test); 3] = [("dockerd", dockerd), ("skopeo", skopeo), ("podman", podman)];
    let trial = |(name, test): (&'static str, Test)| {
        Trial::ignorable_test(format!("setup::{name}_pulls_by_what_is_printed"), move || {
            if let Err(why) = proxy::binary() {
                return Ok(Completion::ignored_with(why));
            }
            let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let ended = threads.block_on(World::new()).and_then(|world| {
                let _entered = threads.enter();
                test(&world)
            });
            Ok(match ended {
                Ok(()) => Completion::Completed,
                Err(Missing(what)) => Completion::ignored_with(what),
            })
        })
    };
    tests.into_iter().map(trial).collect()
}

struct World {
    home: TempDir,
    upstream: Upstream,
    proxy: Proxy,
    image: oci::Image,
}

impl World {
    async fn new() -> Result<Self, Missing> {
        let image = oci::image().await?;
        let upstream = Upstream::start().await;
        image.stock(&upstream, oci::IMAGE, &[oci::TAG]);
        let remote = RemoteManifest::new(HUB, PackageType::Docker, &upstream)
            .set("docker", json!({ "mirrorFor": [REGISTRY], "rootMirror": true }));
        let proxy = Proxy::start(remote.document()).await;
        let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
        Ok(World { home, upstream, proxy, image })
    }

    /// Runs to its end; what was printed.
    fn must(&self, run: Run) -> String {
        let told = tokio::runtime::Handle::current().block_on(run.ok());
        told.unwrap_or_else(|why| panic!("{why}\n--- the proxy's log:\n{}", self.proxy.logs())).out
    }

    /// What `artifactapi setup` prints.
    fn printed(&self, arguments: &[&str]) -> String {
        let program = proxy::binary().expect("looked for before the trial");
        let run = Run::new(&program.to_string_lossy(), self.home.path());
        self.must(run.args(["setup"]).args(arguments).args(["--url", &self.proxy.url()]))
    }

    /// The file of CRI-O; its path.
    fn registries(&self) -> String {
        let text = self.printed(&["crio", "--mirror", &format!("{REGISTRY}={HUB}")]);
        let path = self.home.path().join("registries.conf");
        fs::write(&path, text).expect("space");
        path.to_string_lossy().into_owned()
    }

    /// The registry was asked, and is so no more.
    fn cut_off(&self) {
        assert!(self.upstream.requests().len() >= 3, "a manifest and blobs: {:?}", self.upstream.requests());
        tokio::runtime::Handle::current().block_on(self.upstream.off());
    }
}

fn dockerd(world: &World) -> Result<(), Missing> {
    client::find("docker")?;
    let daemon = Dockerd::start_with(&world.printed(&["docker"]));
    let daemon = daemon.map_err(|missing| Missing(format!("{} is not installed", missing.0)))?;
    let docker =
        |args: &[&str]| Run::new("docker", world.home.path()).args(args).env("DOCKER_HOST", daemon.host());
    let name = format!("{}:{}", oci::IMAGE, oci::TAG);
    for is_first in [true, false] {
        world.must(docker(&["pull", &name]));
        let id = world.must(docker(&["image", "inspect", "--format", "{{.Id}}", &name]));
        assert_eq!(id.trim(), oci::digest(&world.image.config), "the image that the registry has");
        world.must(docker(&["rmi", "--force", &name]));
        if is_first {
            world.cut_off();
        }
    }
    Ok(())
}

fn skopeo(world: &World) -> Result<(), Missing> {
    client::find("skopeo")?;
    let (registries, from) = (world.registries(), format!("docker://{REGISTRY}/{}:{}", oci::IMAGE, oci::TAG));
    for directory in ["first", "second"] {
        let copy = ["--registries-conf", &registries, "--insecure-policy", "copy", &from];
        let to = format!("dir:{directory}");
        world.must(Run::new("skopeo", world.home.path()).args(PLATFORM).args(copy).args([to]));
        let manifest =
            fs::read(world.home.path().join(directory).join("manifest.json")).expect("it was copied");
        assert_eq!(manifest, world.image.manifest, "the image that the registry has");
        if directory == "first" {
            world.cut_off();
        }
    }
    Ok(())
}

fn podman(world: &World) -> Result<(), Missing> {
    client::find("podman")?;
    let (registries, name) = (world.registries(), format!("{REGISTRY}/{}:{}", oci::IMAGE, oci::TAG));
    let path = |name: &str| world.home.path().join(name).to_string_lossy().into_owned();
    let store = ["--root", &path("store"), "--runroot", &path("run"), "--storage-driver", "vfs"];
    let podman = |args: &[&str]| {
        let run = Run::new("podman", world.home.path()).args(store).args(args);
        run.env("CONTAINERS_REGISTRIES_CONF", &registries)
    };
    for is_first in [true, false] {
        let platform = ["--os", "linux", "--arch", "amd64"];
        let id = world.must(podman(&[&["pull", "--quiet"], &platform[..], &[&name]].concat()));
        assert_eq!(format!("sha256:{}", id.trim()), oci::digest(&world.image.config), "the registry's image");
        world.must(podman(&["rmi", "--all", "--force"]));
        if is_first {
            world.cut_off();
        }
    }
    Ok(())
}
