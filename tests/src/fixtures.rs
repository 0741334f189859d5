//! Package trees as each ecosystem publishes them. Real packages are fetched once through the ordinary client
//! with this machine's own configuration and kept below `ARTIFACTAPI_CACHE`; the rest is built with the
//! ecosystem's own tools. A tree is made of files only: whoever serves it adds the answers that depend on a
//! request.

pub mod alpine;
mod blocks;
pub mod goproxy;
pub mod helm;
pub mod marked;
pub mod npm;
pub mod oci;
pub mod puppet;
pub mod pypi;
pub mod rpm;
pub mod terraform;
pub mod zip;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

pub use blocks::Blocks;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::{Missing, Run};

/// One builder at a time in this process; others in other processes are met by the rename.
static BUILDING: Mutex<()> = Mutex::const_new(());

fn root() -> Result<PathBuf, Missing> {
    let cache = env::var_os("ARTIFACTAPI_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/artifactapi")));
    let cache = cache.ok_or_else(|| Missing("neither ARTIFACTAPI_CACHE nor HOME is set".to_owned()))?;
    let root = cache.join("fixtures");
    fs::create_dir_all(&root).map_err(|e| missing("the fixture cache", &e))?;
    Ok(root)
}

fn missing(what: &str, error: &io::Error) -> Missing {
    Missing(format!("{what} cannot be used: {error}"))
}

/// The directory called `name`, made by `make` when it is not there yet. A changed recipe needs a new name.
///
/// # Errors
/// [`Missing`] when it could not be made, with the reason.
pub async fn cached(
    name: &str,
    make: impl AsyncFnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, Missing> {
    let _one = BUILDING.lock().await;
    let root = root()?;
    let done = root.join(name);
    if done.is_dir() {
        return Ok(done);
    }
    let draft =
        TempDir::with_prefix_in(format!(".{name}-"), &root).map_err(|e| missing("the fixture cache", &e))?;
    make(draft.path()).await.map_err(|e| Missing(format!("fixture {name} cannot be made: {e}")))?;
    match fs::rename(draft.keep(), &done) {
        Err(error) if !done.is_dir() => Err(missing("the fixture cache", &error)),
        _ => Ok(done),
    }
}

/// The only file below `dir` whose name `matches`.
///
/// # Errors
/// When there is none, or several.
pub fn only(dir: &Path, matches: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    match &names.filter(|name| matches(name)).collect::<Vec<_>>()[..] {
        [name] => Ok(dir.join(name)),
        names => Err(format!("one file expected in {}: {names:?}", dir.display())),
    }
}

/// Packs `members` of `dir` into the gzipped tar `file`, always to the same bytes.
///
/// # Errors
/// What tar says.
pub async fn tar_gz(dir: &Path, file: &Path, members: &[&str]) -> Result<(), String> {
    let tar = file.with_extension("plain-tar");
    tar_plain(dir, &tar, members).await?;
    let bytes = fs::read(&tar).map_err(|e| e.to_string())?;
    fs::write(file, crate::upstream::gzip(&bytes)).map_err(|e| e.to_string())?;
    fs::remove_file(tar).map_err(|e| e.to_string())
}

/// The same without compression.
///
/// # Errors
/// What tar says.
pub async fn tar_plain(dir: &Path, file: &Path, members: &[&str]) -> Result<(), String> {
    let fixed =
        ["--sort=name", "--mtime=@1700000000", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"];
    let run = Run::new("tar", dir).args(fixed).args(["-cf".as_ref(), file.as_os_str()]).args(members);
    run.ok().await.map(drop)
}

/// GnuPG with its home at `dir`. It starts an agent: see [`end_gpg`].
fn gpg(dir: &Path, args: &[&str]) -> Run {
    Run::new("gpg", dir).args(["--batch", "--quiet", "--homedir", "."]).args(args)
}

/// Ends the agent that GnuPG started for `dir`, whatever came of what it was started for.
async fn end_gpg<T>(dir: &Path, made: Result<T, String>) -> Result<T, String> {
    let end = Run::new("gpgconf", dir).args(["--homedir", ".", "--kill", "gpg-agent"]).ok().await;
    made.and_then(|made| end.map(|_| made))
}

/// Lets nobody else read `dir`, as GnuPG wants its home.
fn shut(dir: &Path) -> Result<(), String> {
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(|e| e.to_string())
}

/// Writes a small file, with the directories above it.
///
/// # Errors
/// When it cannot be written.
pub fn write(file: &Path, text: impl AsRef<[u8]>) -> Result<(), String> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    }
    fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}

/// Reproducible bytes that do not compress.
pub fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..length).map(|_| next()).collect()
}
