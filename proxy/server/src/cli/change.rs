//! `evict`, `refresh` and `unpin`: one path, or all that begin alike. Proxies may be running; they hear of
//! it within a second.

use std::process::ExitCode;

use artifactapi_model::ports::housekeeping::Change;
use clap::Args;

use super::{Failure, data::Data, runtime};
use crate::change::{Wanted, change};

/// Flags of all three.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    /// Name of the repository
    repository: String,
    /// Path below it, as in a request; with --prefix the beginning of paths, empty for all
    path: String,
    /// Everything whose path begins with PATH, decoded
    #[arg(long)]
    prefix: bool,
    #[command(flatten)]
    data: Data,
}

/// Makes `kind` and says what was changed.
pub(super) fn run(flags: &Flags, kind: Change) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        let keeper = flags.data.database().await?.keeper;
        let path = flags.path.clone();
        let wanted = if flags.prefix { Wanted::Prefix(path) } else { Wanted::Path(path) };
        println!("{}", change(&*keeper, &flags.repository, &wanted, kind).await?);
        Ok(ExitCode::SUCCESS)
    })
}
