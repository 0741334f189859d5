//! The image that `hack/image` makes: what is in it, and that it runs.

use std::{fs, path::Path, process::Command};

use artifactapi_tests::{client, kubernetes::roles::checkout, proxy::binary};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Bench, Ending};

/// The user that the chart runs it as, too.
const USER: &str = "65532:65532";

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("an executable program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

pub(crate) fn contents(_: &Bench) -> Ending {
    client::find("objcopy")?;
    let home = TempDir::new().expect("a directory");
    let place = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    let (layout, root) = (place("layout"), place("root"));
    for directory in [&layout, &root] {
        fs::create_dir(directory).expect("space");
    }
    let program = format!("proxy={}", binary().expect("built").display());
    let script = checkout("hack/image");
    let arguments = ["--output", &place("out"), "--tag", "test", "--prefix", "registry.test/team", &program];
    let told = run(&script.to_string_lossy(), &arguments);
    assert!(told.starts_with("registry.test/team/artifactapi:test\n"), "{told}");
    for size in ["compressed", "on disk"] {
        assert!(told.contains(size), "{told}");
    }
    run("tar", &["-xf", &place("out/artifactapi.tar"), "-C", &layout]);
    // The old form and the new one name the same.
    let layout = Path::new(&layout);
    let old = &json(&layout.join("manifest.json"))[0];
    assert_eq!(old["RepoTags"][0], "registry.test/team/artifactapi:test");
    let blob = |digest: &Value| {
        let digest = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
        format!("blobs/sha256/{digest}")
    };
    let manifest = json(&layout.join(blob(&json(&layout.join("index.json"))["manifests"][0]["digest"])));
    assert_eq!(old["Config"], blob(&manifest["config"]["digest"]));
    assert_eq!(old["Layers"][0], blob(&manifest["layers"][0]["digest"]));
    let config = &json(&layout.join(blob(&manifest["config"]["digest"])))["config"];
    assert_eq!(config["User"], USER, "not root");
    assert_eq!(config["Entrypoint"][0], "/usr/bin/artifactapi");
    run(
        "tar",
        &["-xzf", &layout.join(blob(&manifest["layers"][0]["digest"])).to_string_lossy(), "-C", &root],
    );
    for file in [
        "etc/ssl/certs/ca-certificates.crt",
        "etc/passwd",
        "usr/bin/artifactapi",
        "data",
        "cache",
        "manifests",
    ] {
        assert!(Path::new(&root).join(file).exists(), "{file}");
    }
    if rustix::process::geteuid().is_root() {
        let user = format!("--userspec={USER}");
        let told = run("chroot", &[&user, &root, "/usr/bin/artifactapi", "--version"]);
        assert!(told.starts_with("artifactapi "), "it needs nothing but what is in there: {told}");
    }
    Ok(())
}
