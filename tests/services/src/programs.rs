//! Where programs are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A program that is not installed; its tests are skipped by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub &'static str);

impl Missing {
    /// What `hack/test` cannot install, so that a test without it is skipped there as well.
    pub const ROOT: Missing = Missing("root, whom it needs,");
    /// The same.
    pub const LINUX: Missing = Missing("Linux, which it needs,");
}

/// The service, or `None` after a line that says which test is skipped for want of it.
///
/// # Panics
/// When `ARTIFACTAPI_REQUIRE_SERVICES` is set: `hack/test` sets it once it has installed them. Not for want of what nobody
/// can install.
pub fn provided<T>(service: Result<T, Missing>, test: &str) -> Option<T> {
    match service {
        Ok(service) => Some(service),
        Err(missing) => {
            let is_ours = missing != Missing::ROOT && missing != Missing::LINUX;
            let Missing(program) = missing;
            assert!(
                !is_ours || env::var_os("ARTIFACTAPI_REQUIRE_SERVICES").is_none(),
                "{program} is not installed, and {test} needs it"
            );
            eprintln!("SKIPPED {test}: {program} is not installed");
            None
        }
    }
}

/// The directory of a thing that `hack/test` has installed beside its tools, in whatever version; the last one.
///
/// # Errors
/// When there is none.
pub fn installed(thing: &'static str) -> Result<PathBuf, Missing> {
    versions(&tools(), &format!("{thing}-")).into_iter().next().ok_or(Missing(thing))
}

/// Finds `program` on PATH or in one of `places`.
pub(crate) fn find(program: &'static str, places: &[PathBuf]) -> Result<PathBuf, Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|dir| dir.join(program));
    let elsewhere = places.iter().map(|dir| dir.join(program));
    on_path.chain(elsewhere).find(|path| path.is_file()).ok_or(Missing(program))
}

/// Directories in `parent` whose name begins with `prefix`, the last first.
pub(crate) fn versions(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.reverse();
    found
}

/// Where `hack/test` keeps the tools it has built.
pub(crate) fn tools() -> PathBuf {
    let cache = env::var_os("ARTIFACTAPI_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache");
        base.unwrap_or_else(home).join("artifactapi")
    });
    cache.join("tools")
}
