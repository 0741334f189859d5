//! What both databases write of accounts in the same way.

use artifactapi_model::account::Grant;

/// The column `grants`.
pub(super) fn grants_text(grants: &[Grant]) -> String {
    // Names and words always serialise.
    serde_json::to_string(grants).unwrap_or_default()
}
