//! The daemon of Docker, on a socket and in directories of its own, without networks.

use std::{fs, os::unix::net::UnixStream, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::{Missing, Process, programs::find};

/// A running dockerd, which has a containerd of its own.
pub struct Dockerd(pub Process);

impl Dockerd {
    /// Starts one.
    ///
    /// # Errors
    /// When it is not installed, or this is not root.
    pub fn start() -> Result<Self, Missing> {
        Self::start_with("{}")
    }

    /// Starts one with this `daemon.json`.
    ///
    /// # Errors
    /// When it is not installed, or this is not root.
    ///
    /// # Panics
    /// When there is no space.
    pub fn start_with(settings: &str) -> Result<Self, Missing> {
        let program = find("dockerd", &[PathBuf::from("/usr/sbin")])?;
        find("containerd", &[])?;
        if !rustix::process::geteuid().is_root() {
            return Err(Missing::ROOT);
        }
        let home = TempDir::new().expect("a temporary directory");
        let socket = home.path().join("docker.sock");
        fs::write(home.path().join("daemon.json"), settings).expect("space");
        let make = move |home: &std::path::Path, _: u16| {
            let mut command = Command::new(&program);
            command.arg("--host").arg(format!("unix://{}", home.join("docker.sock").display()));
            command.arg("--data-root").arg(home.join("data")).arg("--exec-root").arg(home.join("exec"));
            command.arg("--config-file").arg(home.join("daemon.json"));
            command.arg("--pidfile").arg(home.join("pid"));
            command.args(["--storage-driver=vfs", "--bridge=none", "--iptables=false", "--ip6tables=false"]);
            command.args(["--ip-forward=false", "--ip-masq=false"]);
            command
        };
        Ok(Dockerd(Process::start("dockerd", home, make, move |_| UnixStream::connect(&socket).is_ok())))
    }

    /// What `DOCKER_HOST` has to be.
    pub fn host(&self) -> String {
        format!("unix://{}", self.0.home().join("docker.sock").display())
    }

    /// The socket of its containerd.
    pub fn containerd(&self) -> PathBuf {
        self.0.home().join("exec/containerd/containerd.sock")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // In order: by force it would leave its containerd behind.
        self.0.stop();
    }
}
