//! What is made once and for all: secrets, and keys that the proxy signs with.

use artifactapi_model::ports::MetadataError;

use super::{SqliteMetadata, session::Session};
use crate::{metadata::operation::Operation, random};

const SECRET: &str = "SELECT value FROM secrets WHERE name = ?1";
pub(super) const PUT_SECRET: &str =
    "INSERT INTO secrets (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
const SIGNING_KEY: &str = "SELECT sealed FROM signing_keys WHERE name = ?1";
const PUT_SIGNING_KEY: &str = concat!(
    "INSERT INTO signing_keys (name, sealed, made_at) VALUES (?1, ?2, ",
    now!(),
    ") ON CONFLICT (name) DO NOTHING"
);

impl SqliteMetadata {
    /// The secret `name`, made when there is none.
    pub(super) async fn secret(&self, name: &str) -> Result<[u8; 32], MetadataError> {
        let name = name.to_owned();
        let doing = Operation::SharedSecret.doing();
        let fresh: [u8; 32] =
            random::random().map_err(|error| MetadataError::Failed { doing, message: error.to_string() })?;
        let work = move |session: &Session<'_>| {
            session.execute(PUT_SECRET, (&name, hex::encode(fresh)))?;
            session.row(SECRET, [&name], |row| row.get(0))
        };
        let text: String = self.writer.run(Operation::SharedSecret, work).await?;
        let mut secret = [0; 32];
        hex::decode_to_slice(text, &mut secret)
            .map_err(|error| MetadataError::Failed { doing, message: error.to_string() })?;
        Ok(secret)
    }

    /// The signing key `name`; a candidate becomes it when there is none.
    pub(super) async fn first_key(
        &self,
        name: &str,
        candidate: Option<&str>,
    ) -> Result<Option<String>, MetadataError> {
        let name = name.to_owned();
        let Some(candidate) = candidate.map(str::to_owned) else {
            let work = move |session: &Session<'_>| session.find(SIGNING_KEY, [&name], |row| row.get(0));
            return self.readers.run(Operation::SigningKey, work).await;
        };
        let work = move |session: &Session<'_>| {
            session.execute(PUT_SIGNING_KEY, (&name, &candidate))?;
            session.find(SIGNING_KEY, [&name], |row| row.get(0))
        };
        self.writer.run(Operation::SigningKey, work).await
    }
}
