//! The built proxy as a process of its own: temporary directories, a free port, logs kept, ended by its own
//! process id.

use std::{
    env,
    ffi::OsStr,
    fs,
    net::TcpListener as StdListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    http::use_ring,
    upstream::tls::{Authority, Identity},
    wait,
};

/// Longest time from start to readiness, and from SIGTERM to the end without transfers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Starts tried when somebody else takes the port first.
const TRIES: usize = 3;

/// What a proxy is started with.
#[derive(Default)]
pub struct Options {
    manifests: String,
    identity: Option<Identity>,
    ca_pem: Option<String>,
    environment: Vec<(String, String)>,
    data: Option<PathBuf>,
}

impl Options {
    /// With these manifests, one file of documents.
    pub fn new(manifests: impl Into<String>) -> Self {
        Options { manifests: manifests.into(), ..Options::default() }
    }

    /// Speaks TLS with a certificate of `authority` for loopback.
    #[must_use]
    pub fn tls(mut self, authority: &Authority) -> Self {
        self.identity = Some(authority.issue(&["127.0.0.1", "localhost"]));
        self.ca_pem = Some(authority.ca_pem());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Keeps its data in `directory`, which is not removed.
    #[must_use]
    pub fn data(mut self, directory: &Path) -> Self {
        self.data = Some(directory.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; shows its log.
    pub async fn start(self) -> Proxy {
        let home = TempDir::new().expect("a temporary directory");
        let mut proxy = Proxy { home, options: self, port: 0, metrics_port: 0, process: None };
        for dir in [proxy.manifests(), proxy.data()] {
            fs::create_dir_all(dir).expect("an empty directory");
        }
        if let Some(identity) = &proxy.options.identity {
            fs::write(proxy.home.path().join("tls.crt"), &identity.chain_pem).expect("space");
            fs::write(proxy.home.path().join("tls.key"), &identity.key_pem).expect("space");
        }
        proxy.apply(&proxy.options.manifests);
        for _ in 0..TRIES {
            (proxy.port, proxy.metrics_port) = free_ports();
            proxy.spawn();
            if proxy.is_ready().await {
                return proxy;
            }
        }
        panic!("the proxy did not start:\n{}", proxy.logs());
    }
}

/// A running proxy; it is killed when it is dropped.
pub struct Proxy {
    home: TempDir,
    options: Options,
    port: u16,
    metrics_port: u16,
    process: Option<Child>,
}

/// The built binary: `ARTIFACTAPI_BIN`, or the one beside this test's own executable.
///
/// # Errors
/// A sentence that says what to do.
pub fn binary() -> Result<PathBuf, String> {
    let found = match env::var_os("ARTIFACTAPI_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let here = env::current_exe().map_err(|e| e.to_string())?;
            let profile = here.parent().and_then(Path::parent).ok_or("this test has no target directory")?;
            profile.join("artifactapi")
        }
    };
    if found.is_file() {
        return Ok(found);
    }
    Err(format!("no proxy at {}: build it (cargo build) or set ARTIFACTAPI_BIN", found.display()))
}

impl Proxy {
    /// Starts one with these manifests.
    ///
    /// # Panics
    /// See [`Options::start`].
    pub async fn start(manifests: impl Into<String>) -> Proxy {
        Options::new(manifests).start().await
    }

    fn spawn(&mut self) {
        let home = self.home.path();
        let log =
            fs::OpenOptions::new().create(true).append(true).open(home.join("log")).expect("a log file");
        let mut command = Command::new(binary().expect("a built proxy"));
        command
            .arg("standalone")
            .arg("--manifests")
            .arg(home.join("manifests"))
            .arg("--data")
            .arg(self.data())
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.port))
            .env_clear()
            .envs(env::vars_os().filter(|(name, _)| name == "PATH" || name == "RUST_LOG"))
            .env("HOME", home)
            .env("ARTIFACTAPI_METRICS_ADDR", format!("127.0.0.1:{}", self.metrics_port))
            .envs(self.options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .kill_on_drop(true);
        if self.options.identity.is_some() {
            command.env("ARTIFACTAPI_TLS_CERT", home.join("tls.crt"));
            command.env("ARTIFACTAPI_TLS_KEY", home.join("tls.key"));
        }
        self.process = Some(command.spawn().expect("the proxy starts"));
    }

    /// Waits for `/readyz`; false when the process ended first.
    async fn is_ready(&mut self) -> bool {
        use_ring();
        let mut client = Client::builder().no_proxy();
        if let Some(pem) = &self.options.ca_pem {
            let root = reqwest::Certificate::from_pem(pem.as_bytes()).expect("an authority's certificate");
            client = client.tls_certs_only([root]);
        }
        let client = client.build().expect("a client");
        let url = format!("{}/readyz", self.url());
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            if self.has_ended() {
                return false;
            }
            if client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
                return true;
            }
            wait::breathe().await;
        }
        false
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)))
    }

    /// Root URL without a slash at its end.
    pub fn url(&self) -> String {
        let scheme = if self.options.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Base URL of a Remote, with a slash at its end.
    pub fn remote(&self, name: &str) -> String {
        format!("{}/api/v1/remote/{name}/", self.url())
    }

    /// URL of the metrics page.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.metrics_port)
    }

    /// Where bytes and rows are.
    pub fn data(&self) -> PathBuf {
        self.options.data.clone().unwrap_or_else(|| self.home.path().join("data"))
    }

    /// Where its certificate and key are, when it speaks TLS.
    pub fn tls_files(&self) -> (PathBuf, PathBuf) {
        (self.home.path().join("tls.crt"), self.home.path().join("tls.key"))
    }

    /// Where manifests are.
    pub fn manifests(&self) -> PathBuf {
        self.home.path().join("manifests")
    }

    /// Replaces all manifests by `documents`, in one step.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn apply(&self, documents: &str) {
        let draft = self.home.path().join("draft");
        fs::write(&draft, documents).expect("space");
        fs::rename(draft, self.manifests().join("test.yaml")).expect("the same file system");
    }

    /// Everything it has written to stdout and stderr.
    pub fn logs(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().and_then(Child::id).expect("a running proxy")
    }

    /// Asks it to end.
    ///
    /// # Panics
    /// When it does not run.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).expect("it is ours");
    }

    /// Waits for its end; the exit code, `None` when a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self) -> Option<i32> {
        let process = self.process.as_mut().expect("a started proxy");
        let ended = tokio::time::timeout(PATIENCE * 2, process.wait()).await;
        ended.expect("the proxy should have ended").expect("its own child").code()
    }

    /// Ends it in order and starts it again on the same data, port and manifests.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn restart(&mut self) {
        self.terminate();
        self.ended().await;
        self.respawn().await;
    }

    /// Kills it without warning and starts it again.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn crash(&mut self) {
        let process = self.process.as_mut().expect("a started proxy");
        process.kill().await.expect("it is ours");
        self.respawn().await;
    }

    /// Ends it in order and leaves it so.
    ///
    /// # Panics
    /// When its exit code is not 0.
    pub async fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.ended().await, Some(0), "an orderly end:\n{}", self.logs());
    }

    /// Sets an environment variable for the next start, or takes it away.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.options.environment.retain(|(key, _)| key != name);
        self.options.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Starts it again after its end; `false` when it ended before it was ready.
    pub async fn try_start(&mut self) -> bool {
        self.spawn();
        self.is_ready().await
    }

    /// Starts it again after its end, on the same data, ports and manifests.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn respawn(&mut self) {
        assert!(self.try_start().await, "the proxy did not come back:\n{}", self.logs());
    }

    /// Runs `artifactapi fsck` on its data.
    pub async fn fsck(&self, repair: bool) -> Told {
        let data = self.data();
        let data = data.to_string_lossy();
        command(["fsck", "--data", &data].into_iter().chain(repair.then_some("--repair"))).await
    }
}

/// What a subcommand said and how it ended.
#[derive(Clone, Debug)]
pub struct Told {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output and standard error, one after the other.
    pub text: String,
}

/// Runs the built binary with `arguments` to its end.
///
/// # Panics
/// When there is no binary, or it does not end.
pub async fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Told {
    let mut command = Command::new(binary().expect("a built proxy"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.expect("the command should have ended").expect("it starts");
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    Told { code: output.status.code(), text }
}

/// Two ports that nobody listens on at this moment.
fn free_ports() -> (u16, u16) {
    let listen = || StdListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
    let port = |listener: &StdListener| listener.local_addr().expect("a bound address").port();
    let (one, two) = (listen(), listen());
    (port(&one), port(&two))
}
