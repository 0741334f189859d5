//! `purge`: everything that was pushed to a Local, by name. Proxies may be running.

use std::process::ExitCode;

use artifactapi_model::RepoName;
use artifactapi_registry::sweep::purge;
use clap::Args;

use super::{
    Failure,
    data::{Data, Database},
    runtime,
};

/// Flags of `purge`.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    /// Name of the Local
    repository: String,
    /// Says that everything pushed to it is to be deleted for good
    #[arg(long, required = true)]
    yes: bool,
    #[command(flatten)]
    data: Data,
}

/// Purges every Local that has ever had the name and says how much there was.
pub(super) fn run(flags: &Flags) -> Result<ExitCode, Failure> {
    let name = RepoName::try_from(flags.repository.as_str())?;
    runtime()?.block_on(async {
        let Database { keeper, registry, accounts: _ } = flags.data.database().await?;
        let recorded = keeper.recorded(&name).await?;
        if recorded.is_empty() {
            return Err(format!("no repository is called {name}").into());
        }
        let mut count = 0;
        for repository in recorded {
            count += purge(&*registry, repository.identity.id).await?;
        }
        println!("{count} rows of {name} are deleted; the collector frees their bytes in time");
        Ok(ExitCode::SUCCESS)
    })
}
