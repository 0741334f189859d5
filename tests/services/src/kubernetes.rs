//! A Kubernetes API server on an etcd of its own: no nodes, no controllers, everything else as it is.

mod identity;

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Missing, Process,
    process::Pace,
    programs::{find, tools, versions},
};

/// The API server makes many objects of its own before it is ready, minutes long where others take the processors; each
/// look at it is a `kubectl`, which takes some of them too. A node of `hack/cluster` waits as long.
const PACE: Pace = Pace { patience: Duration::from_secs(240), period: Duration::from_millis(250) };

/// Settings of etcd for data that nobody will miss.
const ETCD: [&str; 4] =
    ["--snapshot-count=5000", "--auto-compaction-retention=0", "--log-level=error", "--logger=zap"];

/// Who did what to the objects people make: all of it counts for tests that allow no write too many.
const AUDIT_POLICY: &str = r#"apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver"]
- level: None
  nonResourceURLs: ["*"]
- level: Metadata
"#;

/// A running API server. It knows the users it was started with, and service accounts by the tokens it gives out.
///
/// No controller runs beside it: objects of a deleted owner stay, and a deleted namespace stays `Terminating`.
pub struct Kubernetes {
    /// What holds the objects.
    pub etcd: Process,
    /// The API server.
    pub api: Process,
    access: Access,
}

/// The ways to an API server, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Access {
    home: PathBuf,
    port: u16,
    kubectl: PathBuf,
}

impl Deref for Kubernetes {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl Kubernetes {
    /// Starts one that knows [`Access::ADMIN`] and `users`, who may do nothing until a role says so.
    ///
    /// # Errors
    /// When a part of it is not installed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(users: &[&str]) -> Result<Self, Missing> {
        let built = versions(&tools(), "kubernetes-");
        let (server, kubectl) = (find("kube-apiserver", &built)?, find("kubectl", &built)?);
        let etcd = start_etcd()?;
        let home = TempDir::new().expect("a temporary directory");
        identity::write(home.path());
        let admin = format!("{},{1},{1},system:masters\n", Access::token(Access::ADMIN), Access::ADMIN);
        let others = users.iter().map(|user| format!("{},{user},{user}\n", Access::token(user)));
        fs::write(home.path().join("tokens.csv"), admin + &others.collect::<String>()).expect("space");
        fs::write(home.path().join("audit.yaml"), AUDIT_POLICY).expect("space");
        let storage = etcd.port();
        let make = move |home: &Path, port: u16| command(&server, home, port, storage);
        let mut access = Access { home: home.path().to_owned(), port: 0, kubectl };
        let asked = access.clone();
        let ready = move |port: u16| {
            if !listens(port) {
                return false;
            }
            let access = Access { port, ..asked.clone() };
            access.kubeconfig(Access::ADMIN);
            access.run(&["get", "--raw", "/readyz", "--request-timeout=5s"], "").is_ok()
        };
        let api = Process::start_at(PACE, "kube-apiserver", home, make, ready);
        access.port = api.port();
        Ok(Kubernetes { etcd, api, access })
    }
}

impl Access {
    /// The user who may do everything.
    pub const ADMIN: &'static str = "admin";

    /// `https://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate that the API server's own is signed with.
    ///
    /// # Panics
    /// When somebody has removed it.
    pub fn ca_pem(&self) -> String {
        fs::read_to_string(self.home.join("ca.crt")).expect("written at the start")
    }

    /// The bearer token of a user it was started with.
    pub fn token(user: &str) -> String {
        format!("{user}-token")
    }

    /// A kubeconfig for one of its users; their default namespace is `default`.
    ///
    /// # Panics
    /// When there is no space.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.kubeconfig_with(user, &Self::token(user))
    }

    /// A kubeconfig for whoever holds `token`, such as a service account; `name` only names the file.
    ///
    /// # Panics
    /// When there is no space.
    pub fn kubeconfig_with(&self, name: &str, token: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}]
users: [{{name: '{name}', user: {{token: '{token}'}}}}]
contexts: [{{name: test, context: {{cluster: test, user: '{name}'}}}}]
current-context: test
",
            self.url(),
            self.home.join("ca.crt").display()
        );
        let path = self.config(name);
        // Whoever reads the old one meanwhile reads all of it.
        let draft = path.with_extension("draft");
        fs::write(&draft, text).expect("space");
        fs::rename(draft, &path).expect("the same file system");
        path
    }

    fn config(&self, name: &str) -> PathBuf {
        self.home.join(format!("{name}.kubeconfig"))
    }

    /// `kubectl` as [`Access::ADMIN`], without this machine's configuration. Give it arguments.
    pub fn kubectl(&self) -> Command {
        self.kubectl_as(Self::ADMIN)
    }

    /// `kubectl` as a user it was started with, or one whose kubeconfig was made under this name.
    pub fn kubectl_as(&self, user: &str) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env_remove("KUBECONFIG").env("HOME", &self.home).arg("--kubeconfig").arg(self.config(user));
        command
    }

    /// Runs `kubectl` as [`Access::ADMIN`] with `input` on its standard input; what it printed.
    ///
    /// # Errors
    /// What it wrote to standard error, when it fails.
    ///
    /// # Panics
    /// When it cannot run.
    pub fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.kubectl();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("an executable kubectl");
        // It may end without reading.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().expect("its own child");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) }
    }

    /// Every request for objects that has ended, one JSON document of `audit.k8s.io/v1` a line, without bodies.
    pub fn audit(&self) -> String {
        fs::read_to_string(self.home.join("audit.log")).unwrap_or_default()
    }
}

/// An API server on `port` whose etcd is on `storage`.
fn command(server: &Path, home: &Path, port: u16, storage: u16) -> Command {
    let file = |flag: &str, name: &str| format!("--{flag}={}", home.join(name).display());
    let mut command = Command::new(server);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{storage}"))
        .arg(format!("--secure-port={port}"))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .args(["--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/24"])
        .args(["--authorization-mode=Node,RBAC", "--service-account-issuer=https://kubernetes.default.svc"])
        .arg(file("service-account-signing-key-file", "accounts.key"))
        .arg(file("service-account-key-file", "accounts.pub"))
        .arg(file("token-auth-file", "tokens.csv"))
        .arg(file("tls-cert-file", "tls.crt"))
        .arg(file("tls-private-key-file", "tls.key"))
        .arg(file("cert-dir", "certificates"))
        .arg(file("audit-policy-file", "audit.yaml"))
        .arg(file("audit-log-path", "audit.log"));
    command
}

fn start_etcd() -> Result<Process, Missing> {
    let etcd = find("etcd", &[])?;
    // In memory where there is a directory for that: it syncs every write, and no machine is lost here.
    let home = crate::scratch();
    let make = move |home: &Path, port: u16| {
        let client = format!("http://127.0.0.1:{port}");
        let mut command = Command::new(&etcd);
        command
            .arg("--data-dir")
            .arg(home.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            // It has no peers, and takes what port it gets for them.
            .args(["--listen-peer-urls", "http://127.0.0.1:0"])
            .args(ETCD);
        command
    };
    Ok(Process::start("etcd", home, make, listens))
}

/// Whether somebody takes connections on this port.
fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
