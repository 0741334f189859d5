//! The built binary as a process of its own: its log kept, signalled and ended by its own process id.

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
use tokio::process::{Child, Command};

use crate::wait;

/// Longest time from start to readiness, and from SIGTERM to the end without transfers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The built proxy: `ARTIFACTAPI_BIN`, or the one beside this test's own executable.
///
/// # Errors
/// A sentence that says what to do.
pub fn binary() -> Result<PathBuf, String> {
    built("artifactapi", "ARTIFACTAPI_BIN", "artifactapi-server")
}

/// The built operator: `ARTIFACTAPI_OPERATOR_BIN`, or the one beside this test's own executable.
///
/// # Errors
/// A sentence that says what to do.
pub fn operator_binary() -> Result<PathBuf, String> {
    built("artifactapi-operator", "ARTIFACTAPI_OPERATOR_BIN", "artifactapi-operator")
}

fn built(program: &str, variable: &str, package: &str) -> Result<PathBuf, String> {
    let found = match env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let here = env::current_exe().map_err(|e| e.to_string())?;
            let profile = here.parent().and_then(Path::parent).ok_or("this test has no target directory")?;
            profile.join(program)
        }
    };
    if found.is_file() {
        return Ok(found);
    }
    let place = found.display();
    Err(format!("{program} is not at {place}: build it (cargo build --package {package}) or set {variable}"))
}

/// A server that can be started again and again; it is killed when it is dropped.
pub(crate) struct Process {
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// One that is not started yet and will write to `log`.
    pub(crate) fn new(log: PathBuf) -> Self {
        Process { log, child: None }
    }

    /// Starts the proxy, cut off from this machine's configuration, with what `prepare` adds.
    pub(crate) fn spawn(&mut self, home: &Path, prepare: impl FnOnce(&mut Command)) {
        self.spawn_program(&binary().expect("a built proxy"), home, prepare);
    }

    /// The same with another program.
    pub(crate) fn spawn_program(&mut self, program: &Path, home: &Path, prepare: impl FnOnce(&mut Command)) {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(env::vars_os().filter(|(name, _)| name == "PATH" || name == "RUST_LOG"))
            .env("HOME", home)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .kill_on_drop(true);
        prepare(&mut command);
        self.child = Some(command.spawn().expect("an executable program"));
    }

    /// Waits until `client` gets 200 from `url`; false when the process ended first, or time did.
    pub(crate) async fn is_ready(&mut self, client: &Client, url: &str) -> bool {
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            if self.has_ended() {
                return false;
            }
            if client.get(url).send().await.is_ok_and(|answer| answer.status() == 200) {
                return true;
            }
            wait::breathe().await;
        }
        false
    }

    /// Whether it is gone, or was never there.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)))
    }

    /// Everything it has written to stdout and stderr.
    pub(crate) fn logs(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("a running proxy")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it is ours");
    }

    /// Waits for its end; the exit code, `None` when a signal ended it.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let process = self.child.as_mut().expect("a started proxy");
        let ended = tokio::time::timeout(PATIENCE * 2, process.wait()).await;
        ended.expect("the proxy should have ended").expect("its own child").code()
    }

    /// Kills it without warning.
    pub(crate) async fn kill(&mut self) {
        self.child.as_mut().expect("a started proxy").kill().await.expect("it is ours");
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
    command_with(arguments, &[]).await
}

/// The same with an environment.
///
/// # Panics
/// When there is no binary, or it does not end.
pub(crate) async fn command_with(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    environment: &[(String, String)],
) -> Told {
    let mut command = Command::new(binary().expect("a built proxy"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.expect("the command should have ended").expect("it starts");
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    Told { code: output.status.code(), text }
}

/// Ports that nobody listens on at this moment.
///
/// # Panics
/// When loopback has none left.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until each is known, so that they differ.
    let held = [(); N].map(|()| StdListener::bind(("127.0.0.1", 0)).expect("a free port on loopback"));
    held.map(|listener| listener.local_addr().expect("a bound address").port())
}
