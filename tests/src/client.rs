//! The ecosystems' own clients as child processes, cut off from this machine's configuration.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// Longest run of one client, unless it says itself how long it waits.
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

/// The version that `program` says it has when it is run with `args`: the first word with a digit and a dot.
///
/// # Errors
/// [`Missing`] when it is not installed, cannot run, or says no version.
pub async fn version(program: &str, args: &[&str]) -> Result<String, Missing> {
    find(program)?;
    let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
    let said = Run::new(program, home.path()).args(args).ok().await.map_err(Missing)?.out;
    version_in(&said).ok_or_else(|| Missing(format!("{program} says no version: {said}")))
}

fn version_in(said: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    let words =
        said.split_whitespace().map(|word| word.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
    words.map(|word| word.trim_end_matches(',')).find(is_version).map(str::to_owned)
}

/// One run of a program in a directory that is also its home.
pub struct Run {
    command: Command,
    shown: String,
    limit: Duration,
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
        Run { command, shown: program.to_owned(), limit: PATIENCE }
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

    /// Lets it run so long.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
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
        let (shown, limit) = (self.shown, self.limit);
        let ended = timeout(limit, self.command.output()).await;
        let ended = ended.map_err(|_| format!("{shown} did not end in {limit:?}"))?;
        let ended = ended.map_err(|e| format!("{shown}: {e}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&ended.stdout), text(&ended.stderr));
        let err = if ended.status.success() { err } else { format!("{shown} ({})\n{err}", ended.status) };
        Ok((ended.status.success(), Output { out, err }))
    }
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_are_found_in_what_clients_say() {
        for (said, version) in [
            ("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1", Some("7.88.1")),
            ("skopeo version 1.9.3", Some("1.9.3")),
            ("go version go1.26.8 linux/amd64", Some("1.26.8")),
            ("Terraform v1.5.7\non linux_amd64", Some("1.5.7")),
            ("apk-tools 2.14.4, compiled for x86_64.", Some("2.14.4")),
            ("4.14.0\n  Installed: dnf-0:4.14.0", Some("4.14.0")),
            ("usage: nothing of the kind.", None),
        ] {
            assert_eq!(version_in(said).as_deref(), version, "{said}");
        }
    }
}
