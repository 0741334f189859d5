//! `fsck`: holds rows against bytes; nothing may be running on them.

use std::process::ExitCode;

use clap::Args;

use super::{
    Failure,
    data::{Data, Stores},
    runtime,
};
use crate::fsck::Fsck;

/// Flags of `fsck`.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    #[command(flatten)]
    data: Data,
    /// Moves damaged files out of the way and forgets entries without their bytes, so that they are
    /// fetched anew
    #[arg(long)]
    repair: bool,
}

/// Checks everything and prints what is wrong; exit code 1 when something is (also when it has been repaired).
pub(super) fn run(flags: &Flags) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        let Stores { blobs, metadata, keeper, places } = flags.data.stores().await?;
        let report = Fsck { blobs, metadata, keeper, places, repair: flags.repair }.run().await?;
        println!("{report}");
        Ok(if report.problems() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}
