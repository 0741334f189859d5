//! `apply`: manifests of a directory into the configuration of running replicas.

use std::path::Path;

use artifactapi_stores::{PostgresMetadata, postgres::Applied};

use super::{Failure, runtime, settings};
use crate::config::{
    apply::{Step, plan},
    directory::{Files, Stamps},
    environment::{self, StoreSettings},
};

/// Times a change is made anew since another came first.
const TRIES: usize = 5;

/// Applies the manifests of `dir`; `prune` removes what it does not have.
pub(super) fn run(dir: &Path, prune: bool) -> Result<(), Failure> {
    let settings = settings(StoreSettings::read(&environment::process))?;
    let files = Stamps::of(dir).map_err(|error| format!("{} cannot be read: {error}", dir.display()))?;
    let Files { texts, unreadable } = files.read();
    if !unreadable.is_empty() {
        let lines: Vec<_> = unreadable.iter().map(ToString::to_string).collect();
        return Err(lines.join("\n").into());
    }
    runtime()?.block_on(apply(settings, texts, prune))
}

async fn apply(settings: StoreSettings, texts: Vec<(String, String)>, prune: bool) -> Result<(), Failure> {
    let store = PostgresMetadata::open(settings.database, std::sync::Arc::default()).await?;
    for _ in 0..TRIES {
        let config = store.load_config().await?;
        let (changes, steps) = plan(&texts, &config, settings.sealer.as_ref(), prune)?;
        match store.apply_config(&changes).await? {
            Applied::Version(version) => {
                steps.iter().for_each(print);
                println!("configuration version {version}");
                return Ok(());
            }
            Applied::Outdated(_) => {}
        }
    }
    Err("others change the configuration all the time; try again later".into())
}

fn print(step: &Step) {
    match step {
        Step::Created(object) => println!("{object} created"),
        Step::Configured(object) => println!("{object} configured"),
        Step::Unchanged(object) => println!("{object} unchanged"),
        Step::Pruned(object) => println!("{object} pruned"),
    }
}
