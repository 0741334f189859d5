//! `fsck`: holds the data directory's rows against its bytes.

use std::{path::Path, process::ExitCode, sync::Arc};

use artifactapi_stores::{FsBlobs, SqliteMetadata};

use super::Failure;
use crate::{fsck::Fsck, layout};

/// Checks `data` and prints what is wrong; exit code 1 when something is (also when it has been repaired).
pub(super) fn run(data: &Path, repair: bool) -> Result<ExitCode, Failure> {
    super::runtime()?.block_on(check(data, repair))
}

async fn check(data: &Path, repair: bool) -> Result<ExitCode, Failure> {
    let database = layout::database(data);
    if !database.is_file() {
        return Err(format!("{} holds no data of this program", data.display()).into());
    }
    // The blob store's lock keeps a running proxy out.
    let blobs = Arc::new(FsBlobs::open(data).await?);
    let metadata = Arc::new(SqliteMetadata::open(database, Arc::default()).await?);
    let report = Fsck { blobs, metadata, repair }.run().await?;
    println!("{report}");
    Ok(if report.problems() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
