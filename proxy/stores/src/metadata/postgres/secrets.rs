//! What replicas agree on once and for all: secrets, and keys that they sign with.

use artifactapi_model::ports::MetadataError;

use super::{super::operation::Operation, PostgresMetadata, failed};
use crate::random;

const SECRET: &str = "SELECT value FROM secrets WHERE name = $1";
pub(super) const PUT_SECRET: &str =
    "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
const SIGNING_KEY: &str = "SELECT sealed FROM signing_keys WHERE name = $1";
const PUT_SIGNING_KEY: &str =
    "INSERT INTO signing_keys (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";

impl PostgresMetadata {
    /// The secret `name`, made when there is none.
    pub(super) async fn secret(&self, name: &str) -> Result<[u8; 32], MetadataError> {
        let operation = Operation::SharedSecret;
        let mut rows = self.read(operation, SECRET, &[&name]).await?;
        if rows.is_empty() {
            let fresh: [u8; 32] = random::random().map_err(|error| failed(operation, error))?;
            self.read(operation, PUT_SECRET, &[&name, &hex::encode(fresh)]).await?;
            rows = self.read(operation, SECRET, &[&name]).await?;
        }
        let text: &str = rows.first().ok_or_else(|| failed(operation, "it is gone"))?.get(0);
        let mut secret = [0; 32];
        hex::decode_to_slice(text, &mut secret).map_err(|error| failed(operation, error))?;
        Ok(secret)
    }

    /// The signing key `name`; a candidate becomes it when there is none.
    pub(super) async fn first_key(
        &self,
        name: &str,
        candidate: Option<&str>,
    ) -> Result<Option<String>, MetadataError> {
        let operation = Operation::SigningKey;
        if let Some(candidate) = candidate {
            // The row of a twin that was first is waited for, and seen by the statement that follows.
            self.read(operation, PUT_SIGNING_KEY, &[&name, &candidate]).await?;
        }
        let rows = self.read(operation, SIGNING_KEY, &[&name]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }
}
