//! One process of an installation.

use std::path::{Path, PathBuf};

use reqwest::Client;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{http::use_ring, process::Process};

/// A proxy or an operator that can be started, stopped, paused and started again; killed when dropped.
pub struct Server {
    called: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    ready: String,
    home: TempDir,
    process: Process,
}

impl Server {
    /// `program`, ready when `ready` answers 200.
    ///
    /// # Panics
    /// When there is no space for its directory.
    pub fn new(called: &'static str, program: PathBuf, ready: String) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let process = Process::new(home.path().join("log"));
        Server { called, program, arguments: Vec::new(), environment: Vec::new(), ready, home, process }
    }

    /// Replaces its arguments.
    pub fn arguments(&mut self, arguments: &[&str]) -> &mut Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Sets an environment variable for the next start.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.unset(name).environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sets several.
    pub fn set_all(&mut self, variables: impl IntoIterator<Item = (String, String)>) -> &mut Self {
        for (name, value) in variables {
            self.set(&name, value);
        }
        self
    }

    /// Takes an environment variable away for the next start.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.environment.retain(|(key, _)| key != name);
        self
    }

    /// Its directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) {
        use_ring();
        let Server { program, arguments, environment, home, process, .. } = self;
        process.spawn_program(program, home.path(), |command| {
            command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        });
    }

    /// Starts it and waits until it is ready; `false` when it ended before.
    pub async fn try_start(&mut self) -> bool {
        self.spawn();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        self.process.is_ready(&client, &self.ready).await
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; shows what it said.
    pub async fn start(&mut self) {
        assert!(self.try_start().await, "the {} did not start:\n{}", self.called, self.logs());
    }

    /// URL of another page beside the one that says whether it is ready.
    pub fn page(&self, name: &str) -> String {
        let (root, _) = self.ready.rsplit_once('/').unwrap_or((&self.ready, ""));
        format!("{root}/{name}")
    }

    /// Everything it has written to stdout and stderr.
    pub fn logs(&self) -> String {
        self.process.logs()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run, as all that follow.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to end and waits until it has; it must say that all is well.
    pub async fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.ended().await, Some(0), "an orderly end of the {}:\n{}", self.called, self.logs());
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
    pub async fn ended(&mut self) -> Option<i32> {
        self.process.ended().await
    }
}
