//! `check-config`: the same reading of manifests as a server's, once.

use std::{path::PathBuf, process::ExitCode};

use artifactapi_crds::set::Set;

use crate::config::{
    directory::{Files, Stamps},
    settings::manifests_dir,
};

/// Prints every problem of the manifests in `dir`; exit code 2 when there is one.
pub(super) fn run(dir: Option<&PathBuf>) -> ExitCode {
    let dir = manifests_dir(dir);
    let Files { texts, unreadable } = match Stamps::of(&dir) {
        Ok(stamps) => stamps.read(),
        Err(error) => {
            eprintln!("artifactapi: {} cannot be read: {error}", dir.display());
            return ExitCode::from(2);
        }
    };
    let loaded = Set::load(texts);
    for problem in &loaded.errors {
        eprintln!("{problem}");
    }
    for bad in &unreadable {
        eprintln!("{bad}");
    }
    let sound = loaded.remotes.len() + loaded.virtuals.len() + loaded.locals.len() + loaded.robots.len();
    let problems = loaded.errors.len() + unreadable.len();
    println!("{sound} sound, {problems} problems in {}", dir.display());
    if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) }
}
