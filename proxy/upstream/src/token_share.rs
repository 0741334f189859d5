//! Tokens that replicas lend each other, sealed: one replica asks the token service, the others take what it got.
//! A help only: whatever cannot be read or opened is asked for again.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{Sealer, Timestamp, ports::Coordinator};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::token::{Grant, TokenKey, bearer};

/// Shorter lives are not worth lending.
const SHORTEST: Duration = Duration::from_secs(20);

/// Where they are.
#[derive(Clone)]
pub(crate) struct SharedTokens {
    coordinator: Arc<dyn Coordinator>,
    sealer: Arc<Sealer>,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Lent {
    token: String,
    /// When it was issued, by the clock of the replica that asked; milliseconds since 1970.
    issued: i64,
    /// Its life from then on, in milliseconds.
    life: u64,
}

impl SharedTokens {
    pub(crate) fn new(coordinator: Arc<dyn Coordinator>, sealer: Arc<Sealer>) -> Self {
        SharedTokens { coordinator, sealer }
    }

    /// The token that a twin got for `key`, with what is left of its life.
    pub(crate) async fn get(&self, key: &TokenKey, now: Timestamp) -> Option<Grant> {
        let place = place(key);
        let sealed = self.coordinator.get(&place).await.ok()??;
        let opened = self.sealer.open(&place, std::str::from_utf8(&sealed).ok()?).ok()?;
        let lent: Lent = serde_json::from_slice(&opened).ok()?;
        let life = Duration::from_millis(lent.life).checked_sub(now.since(Timestamp(lent.issued)))?;
        Grant::lent(bearer(&lent.token)?, life)
    }

    /// Lends what was got for `key` at `now`.
    pub(crate) async fn put(&self, key: &TokenKey, grant: &Grant, now: Timestamp) {
        let Some(token) = grant.token().filter(|_| grant.life() >= SHORTEST) else { return };
        let life = u64::try_from(grant.life().as_millis()).unwrap_or(u64::MAX);
        let place = place(key);
        let lent = Lent { token: token.to_owned(), issued: now.0, life };
        let Ok(text) = serde_json::to_vec(&lent) else { return };
        if let Ok(sealed) = self.sealer.seal(&place, &text) {
            // Nobody misses it.
            let _ = self.coordinator.put(&place, sealed.into(), grant.life().mul_f64(0.8)).await;
        }
    }

    /// It was refused: nobody else needs to try it.
    pub(crate) async fn forget(&self, key: &TokenKey) {
        let _ = self.coordinator.delete(&place(key)).await;
    }
}

/// The key's digest: its parts are no business of whoever reads key names.
fn place(key: &TokenKey) -> String {
    let mut hash = Sha256::new();
    let challenge = &key.challenge;
    let parts = [Some(&challenge.realm), challenge.service.as_ref()];
    for part in parts.into_iter().flatten().chain(&challenge.scopes) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(u64::MAX.to_be_bytes());
    hash.update(key.credential.unwrap_or_default());
    format!("token/{}", hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
