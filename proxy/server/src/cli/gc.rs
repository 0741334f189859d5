//! `gc`: one collection by hand. A running proxy collects by itself; a standalone one must be stopped for it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use artifactapi_crds::set::Set;
use artifactapi_engine::gc::{Collector, Configured, Options};
use artifactapi_model::{
    PackageType, Remote, RepoName, SystemClock,
    ports::{Housekeeping, MetadataError, housekeeping::Recorded},
    repository::RepoIdentity,
};
use clap::Args;

use super::{
    Failure,
    data::{Data, Stores},
    runtime,
};
use crate::config::{directory::Stamps, periods::period};

/// Flags of `gc`.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    #[command(flatten)]
    data: Data,
    /// Change nothing; tell what would be condemned
    #[arg(long)]
    dry_run: bool,
    /// How long bytes that nothing names are kept before they are condemned, and again before they are deleted
    #[arg(long, env = "ARTIFACTAPI_GC_GRACE", value_name = "DURATION", default_value = "24h", value_parser = period)]
    grace: Duration,
    /// Directory of manifests: apply the retention of Remotes, and forget repositories that are not there
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
}

/// Collects once and says what was done; exit code 1 when some blobs could not be deleted, or another process is
/// collecting.
pub(super) fn run(flags: &Flags) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        let Stores { blobs, metadata, keeper, places: _ } = flags.data.stores().await?;
        let configured = match &flags.manifests {
            Some(dir) => Some(configured(dir, &*keeper).await?),
            None => None,
        };
        let (clock, progress) = (Arc::new(SystemClock), Arc::default());
        let collector = Collector { blobs, metadata, keeper, clock, progress };
        let options = Options { grace: flags.grace, dry: flags.dry_run, ..Options::default() };
        // Replicas that are running look again at what they hold in memory; nothing goes before the grace is over.
        let report = collector.run_once(configured.as_ref(), &options).await?;
        println!("{report}");
        Ok(if report.ran && report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// The repositories of the manifests in `dir`, as far as the database has ever seen them.
async fn configured(dir: &Path, keeper: &dyn Housekeeping) -> Result<Configured, Failure> {
    let files = Stamps::of(dir).map_err(|error| format!("{} cannot be read: {error}", dir.display()))?.read();
    let loaded = Set::load(files.texts);
    if !(loaded.errors.is_empty() && files.unreadable.is_empty()) {
        // What is broken might be a repository that is still wanted.
        let dir = dir.display();
        return Err(format!("the manifests in {dir} have problems; see `artifactapi check-config`").into());
    }
    let mut configured = Configured::default();
    for spec in loaded.remotes {
        if let Some(identity) = known(keeper, &spec.name, &spec.namespace, spec.package_type).await? {
            configured.remotes.push(Remote { identity, spec });
        }
    }
    for spec in loaded.virtuals {
        configured.virtuals.extend(known(keeper, &spec.name, &spec.namespace, spec.package_type).await?);
    }
    for spec in loaded.locals {
        let identity = known(keeper, &spec.name, &spec.namespace, spec.package_type).await?;
        configured.others.extend(identity.map(|identity| identity.id));
    }
    configured.others.extend(configured.virtuals.iter().map(|identity| identity.id));
    Ok(configured)
}

/// The row of a repository, where the database has ever seen it.
async fn known(
    keeper: &dyn Housekeeping,
    name: &RepoName,
    namespace: &str,
    package_type: PackageType,
) -> Result<Option<RepoIdentity>, MetadataError> {
    let recorded = keeper.recorded(name).await?;
    let is_same = |it: &&Recorded| it.namespace == namespace && it.package_type == package_type;
    Ok(recorded.iter().find(is_same).map(|it| it.identity))
}
