//! The built proxy as a process of its own: temporary directories, a free port, logs kept, ended by its own
//! process id.

use std::{
    fs,
    path::{Path, PathBuf},
};

use reqwest::Client;
use rustix::process::Signal;
use tempfile::TempDir;

pub use crate::process::{Told, binary, command, free_ports, operator_binary};
use crate::{
    http::use_ring,
    process::{Process, command_with},
    upstream::tls::{Authority, Identity},
};

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
        let process = Process::new(home.path().join("log"));
        let mut proxy = Proxy { home, options: self, port: 0, metrics_port: 0, process };
        for dir in [proxy.manifests(), proxy.data()] {
            fs::create_dir_all(dir).expect("an empty directory");
        }
        if let Some(identity) = &proxy.options.identity {
            fs::write(proxy.home.path().join("tls.crt"), &identity.chain_pem).expect("space");
            fs::write(proxy.home.path().join("tls.key"), &identity.key_pem).expect("space");
        }
        proxy.apply(&proxy.options.manifests);
        for _ in 0..TRIES {
            [proxy.port, proxy.metrics_port] = free_ports();
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
    process: Process,
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
        let data = self.data();
        let Proxy { home, options, port, metrics_port, process } = self;
        let home = home.path();
        process.spawn(home, |command| {
            command
                .arg("standalone")
                .arg("--manifests")
                .arg(home.join("manifests"))
                .arg("--data")
                .arg(data)
                .arg("--listen")
                .arg(format!("127.0.0.1:{port}"))
                .env("ARTIFACTAPI_METRICS_ADDR", format!("127.0.0.1:{metrics_port}"))
                .envs(options.environment.iter().map(|(name, value)| (name, value)));
            if options.identity.is_some() {
                command.env("ARTIFACTAPI_TLS_CERT", home.join("tls.crt"));
                command.env("ARTIFACTAPI_TLS_KEY", home.join("tls.key"));
            }
        });
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
        self.process.is_ready(&client, &url).await
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
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
        self.process.logs()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Asks it to end.
    ///
    /// # Panics
    /// When it does not run.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end; the exit code, `None` when a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self) -> Option<i32> {
        self.process.ended().await
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
        self.process.kill().await;
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

    /// Runs `artifactapi` with `arguments` and an environment of its own, on its data.
    pub async fn tool(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Told {
        let data = self.data();
        let data = data.to_string_lossy();
        let arguments = arguments.iter().copied().chain(["--data", &data]);
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(own).collect();
        command_with(arguments, &environment).await
    }

    /// Runs `artifactapi fsck` on its data.
    pub async fn fsck(&self, repair: bool) -> Told {
        let data = self.data();
        let data = data.to_string_lossy();
        command(["fsck", "--data", &data].into_iter().chain(repair.then_some("--repair"))).await
    }
}
