//! The ecosystems' own clients as child processes, cut off from this machine's configuration.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// Longest run of one client.
const PATIENCE: Duration = Duration::from_secs(180);
/// What a client may know of this machine: where programs are.
const KEPT: [&str; 3] = ["PATH", "PYENV_ROOT", "LANG"];

/// Why something cannot run here: a sentence that names what is missing.
#[derive(Clone, Debug)]
pub struct Missing(pub String);

/// The path of a program.
///
/// # Errors
/// [`Missing`] when no directory of `PATH` has it.
pub fn find(program: &str) -> Result<PathBuf, Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| Missing(format!("{program} is not installed")))
}

/// One run of a program in a directory that is also its home.
pub struct Run {
    command: Command,
    shown: String,
}

/// What a program wrote.
#[derive(Clone, Debug)]
pub struct Output {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Run {
    /// `program` in `dir`, without this machine's environment.
    pub fn new(program: &str, dir: &Path) -> Self {
        let mut run = Self::with_environment(program, dir);
        run.command.env_clear().envs(KEPT.into_iter().filter_map(|name| Some((name, env::var_os(name)?))));
        run.command.env("HOME", dir).env("TMPDIR", env::temp_dir());
        run
    }

    /// `program` in `dir` with this machine's own configuration: for making fixtures.
    pub fn with_environment(program: &str, dir: &Path) -> Self {
        let mut command = Command::new(program);
        command.current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
        Run { command, shown: program.to_owned() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.shown = format!("{} {}", self.shown, arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// What it wrote, when it fails or does not end in time.
    pub async fn ok(self) -> Result<Output, String> {
        let (succeeded, output) = self.run().await?;
        if succeeded { Ok(output) } else { Err(format!("{}\n{}", output.out, output.err)) }
    }

    /// Runs it to an end that must be a failure.
    ///
    /// # Errors
    /// When it succeeds.
    pub async fn fails(self) -> Result<Output, String> {
        let shown = self.shown.clone();
        let (succeeded, output) = self.run().await?;
        if succeeded { Err(format!("{shown} should have failed: {output:?}")) } else { Ok(output) }
    }

    async fn run(mut self) -> Result<(bool, Output), String> {
        let shown = self.shown;
        let ended = timeout(PATIENCE, self.command.output()).await;
        let ended = ended.map_err(|_| format!("{shown} did not end in {PATIENCE:?}"))?;
        let ended = ended.map_err(|e| format!("{shown}: {e}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&ended.stdout), text(&ended.stderr));
        let err = if ended.status.success() { err } else { format!("{shown} ({})\n{err}", ended.status) };
        Ok((ended.status.success(), Output { out, err }))
    }
}
