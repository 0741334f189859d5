//! Where a standalone proxy keeps its things below the data directory.

use std::path::{Path, PathBuf};

/// The database file. Bodies lie beside it, as the blob store arranges them.
pub fn database(data: &Path) -> PathBuf {
    data.join("metadata.db")
}
