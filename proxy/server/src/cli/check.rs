//! `check-config`: the same reading of manifests as a server's, once.

use std::{path::PathBuf, process::ExitCode};

use artifactapi_crds::set::Set;

use crate::config::{manifests::read_dir, settings::manifests_dir};

/// Prints every problem of the manifests in `dir`; exit code 1 when there is one.
pub(super) fn run(dir: Option<&PathBuf>) -> ExitCode {
    let dir = manifests_dir(dir);
    let files = match read_dir(&dir) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("artifactapi: {} cannot be read: {error}", dir.display());
            return ExitCode::from(2);
        }
    };
    let loaded = Set::load(files);
    for problem in &loaded.errors {
        eprintln!("{problem}");
    }
    let sound = loaded.remotes.len() + loaded.virtuals.len() + loaded.locals.len() + loaded.robots.len();
    println!("{sound} sound, {} problems in {}", loaded.errors.len(), dir.display());
    if loaded.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
