//! One real Kubernetes node, as `hack/cluster` makes it.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::{
    Missing,
    programs::{find, tools, versions},
};

/// The first two numbers of its addresses: others than those of a person's own node on this machine.
const NET: [u8; 2] = [10, 214];

/// A running node with nothing on it. It ends, with everything on it, when it is dropped.
pub struct Node {
    command: PathBuf,
    home: PathBuf,
    /// Held, so that two runs of the tests take turns.
    _turn: File,
}

impl Node {
    /// Starts one by `command`, which is `hack/cluster`, once no other run of the tests has one.
    ///
    /// # Errors
    /// When this is not Linux or not root, or a part of it is not installed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(command: &Path) -> Result<Self, Missing> {
        if !cfg!(target_os = "linux") {
            return Err(Missing::LINUX);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Missing::ROOT);
        }
        let built = versions(&tools(), "kubernetes-");
        for program in ["kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager"] {
            find(program, &built)?;
        }
        find("coredns", &versions(&tools(), "coredns-"))?;
        find("kube-network-policies", &versions(&tools(), "kube-network-policies-"))?;
        find("containerd", &[])?;
        let home = tools().with_file_name("cluster-of-tests");
        let turn = File::create(home.with_extension("lock")).expect("space");
        turn.lock().expect("a lock on a file of its own");
        let node = Node { command: command.to_owned(), home, _turn: turn };
        // A run that was killed has left its own.
        node.must(&["down"]);
        node.must(&["up"]);
        Ok(node)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.command);
        command.args(arguments).stdin(Stdio::null());
        command.env("ARTIFACTAPI_CLUSTER_DIR", &self.home);
        command.env("ARTIFACTAPI_CLUSTER_NET", format!("{}.{}", NET[0], NET[1]));
        // How long a pod takes to be replaced is a matter of ours, not of what else writes to this machine's disk.
        command.env("ARTIFACTAPI_CLUSTER_MEMORY", "1");
        command
    }

    /// Runs `hack/cluster` with `arguments` on this node; what it printed.
    ///
    /// # Errors
    /// What it wrote, when it fails.
    ///
    /// # Panics
    /// When it cannot run.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.command(arguments).output().expect("hack/cluster");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if status.success() {
            Ok(text(&stdout))
        } else {
            Err(format!("hack/cluster {}: {}{}", arguments.join(" "), text(&stdout), text(&stderr)))
        }
    }

    fn must(&self, arguments: &[&str]) -> String {
        self.run(arguments).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The machine's address, as pods and the node reach it.
    pub fn machine(&self) -> Ipv4Addr {
        Ipv4Addr::new(NET[0], NET[1], 2, 1)
    }

    /// The node's address, at which node ports are.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(NET[0], NET[1], 2, 2)
    }

    /// Everything that pods, services, the node and the machine have as addresses.
    pub fn network(&self) -> String {
        format!("{}.{}.0.0/16", NET[0], NET[1])
    }

    /// Why nobody enforces network policies on it, where nobody can.
    pub fn unenforced(&self) -> Option<String> {
        fs::read_to_string(self.home.join("unenforced")).ok()
    }

    /// The kubeconfig of a user who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    /// Gives containerd this `hosts.toml` for a registry (`host:port`), or for `_default`.
    ///
    /// # Panics
    /// When there is no space.
    pub fn set_hosts(&self, registry: &str, hosts: &str) {
        let directory = self.home.join("etc/certs.d").join(registry);
        fs::create_dir_all(&directory).expect("space");
        fs::write(directory.join("hosts.toml"), hosts).expect("space");
    }

    /// What pods asked of the API server: one JSON document of `audit.k8s.io/v1` a line, without bodies.
    pub fn audit(&self) -> String {
        fs::read_to_string(self.home.join("log/audit.log")).unwrap_or_default()
    }

    /// The last lines of the log of one of its parts.
    pub fn log(&self, part: &str) -> String {
        let text = fs::read_to_string(self.home.join(format!("log/{part}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(why) = self.run(&["down"]) {
            eprintln!("the node is not gone: {why}");
        }
    }
}
