//! One replica: a process of `artifactapi serve`, and its links.

use std::path::PathBuf;

use reqwest::Client;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Link,
    http::use_ring,
    process::{Process, free_ports},
};

/// Ways from a replica to each service.
pub(super) struct Links {
    pub(super) postgres: Link,
    pub(super) redis: Link,
    pub(super) s3: Link,
}

/// A replica of a cluster; it is killed when it is dropped.
pub struct Replica {
    number: usize,
    home: TempDir,
    links: Links,
    /// For clients, for metrics, for twins.
    ports: [u16; 3],
    environment: Vec<(String, String)>,
    process: Process,
}

impl Replica {
    pub(super) fn new(number: usize, links: Links) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let process = Process::new(home.path().join("log"));
        Replica { number, home, links, ports: free_ports(), environment: Vec::new(), process }
    }

    pub(super) fn add_env(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        self.environment.extend(variables);
    }

    pub(super) fn take_new_ports(&mut self) {
        self.ports = free_ports();
    }

    /// Its number, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// `host:port` for clients.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Root URL without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Base URL of a Remote at this replica, with a slash at its end.
    pub fn remote(&self, name: &str) -> String {
        format!("{}/api/v1/remote/{name}/", self.url())
    }

    /// URL of its metrics page.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.ports[1])
    }

    /// Its way to PostgreSQL.
    pub fn postgres(&self) -> &Link {
        &self.links.postgres
    }

    /// Its way to Redis.
    pub fn redis(&self) -> &Link {
        &self.links.redis
    }

    /// Its way to the object store.
    pub fn s3(&self) -> &Link {
        &self.links.s3
    }

    /// Where its own cache is.
    pub fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// Everything it has written to stdout and stderr.
    pub fn logs(&self) -> String {
        self.process.logs()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Sets an environment variable for the next start, or takes it away: `ARTIFACTAPI_FAILPOINT`, for example.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.environment.retain(|(key, _)| key != name);
        self.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Starts it without waiting.
    ///
    /// # Panics
    /// When there is no binary.
    pub fn spawn(&mut self) {
        let cache = self.cache();
        let Replica { home, environment, ports, process, .. } = self;
        process.spawn(home.path(), |command| {
            command
                .arg("serve")
                .env("LISTEN_ADDR", format!("127.0.0.1:{}", ports[0]))
                .env("ARTIFACTAPI_METRICS_ADDR", format!("127.0.0.1:{}", ports[1]))
                .env("ARTIFACTAPI_PEER_ADDR", format!("127.0.0.1:{}", ports[2]))
                .env("ARTIFACTAPI_CACHE_DIR", cache)
                .envs(environment.iter().map(|(name, value)| (name, value)));
        });
    }

    /// Starts it and waits until it is ready; `false` when it ended before.
    ///
    /// # Panics
    /// When there is no binary.
    pub async fn try_start(&mut self) -> bool {
        use_ring();
        self.spawn();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        let url = format!("{}/readyz", self.url());
        self.process.is_ready(&client, &url).await
    }

    /// Starts it again after its end, on the same ports and its own cache.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn start_again(&mut self) {
        assert!(self.try_start().await, "replica {} did not come back:\n{}", self.number, self.logs());
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Lets it stand still (SIGSTOP).
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Kills it without warning (SIGKILL).
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Waits for its end; the exit code, `None` when a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self) -> Option<i32> {
        self.process.ended().await
    }
}
