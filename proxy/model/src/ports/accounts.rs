//! Robots and the hashes of their tokens.
//!
//! A robot is made by hand (command line) or by a manifest; the two never change each other's. A token belongs to
//! its robot: when that goes, its tokens are gone for good, also if another robot of the same name comes later. Life
//! is counted on the database's clock (RS-95).

use std::time::Duration;

use async_trait::async_trait;

use super::MetadataError;
use crate::{
    account::{Robot, RobotKey, TokenId},
    clock::Timestamp,
    digest::Digest,
};

/// Where a robot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The command line.
    Hand,
    /// A manifest, which says what it may do.
    Manifest,
}

impl Source {
    /// The word in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Hand => "hand",
            Source::Manifest => "manifest",
        }
    }
}

/// What a token stands for at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose token it is.
    pub robot: Robot,
    /// How much longer; `None` = no end.
    pub expires_in: Option<Duration>,
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its name.
    pub id: TokenId,
    /// Whose it is.
    pub robot: RobotKey,
    /// Who has made it: people, or the operator for the robot of a manifest.
    pub source: Source,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` = never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, give or take minutes.
    pub used_at: Option<Timestamp>,
}

/// What becomes of robots of manifests that [`Accounts::declare_robots`] does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others<'a> {
    /// They stay: nobody can say what the manifests have.
    Stay,
    /// They go with their tokens, but for these, whose manifests are there and cannot be used.
    Go {
        /// Those that stay.
        but: &'a [RobotKey],
    },
}

/// Who can be somebody.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// Whose the token with this hash is; `None` for one that was never made, has expired or was revoked.
    async fn holder(&self, token: &Digest) -> Result<Option<Holder>, MetadataError>;

    /// Makes a token with this hash for `robot`, for as long as `ttl` says. Tokens that expired long ago are
    /// forgotten by the way. `None`: there is no such robot, and nothing was made.
    async fn add_token(
        &self,
        robot: &RobotKey,
        token: &Digest,
        ttl: Option<Duration>,
        source: Source,
    ) -> Result<Option<TokenRow>, MetadataError>;

    /// All tokens, also expired ones, by robot and age.
    async fn tokens(&self) -> Result<Vec<TokenRow>, MetadataError>;

    /// The tokens of `robot` that `source` has made, by age; expired ones too.
    async fn tokens_of(&self, robot: &RobotKey, source: Source) -> Result<Vec<TokenRow>, MetadataError>;

    /// Revokes a token for good; `false` when there is none of this id. Whoever caches tokens hears of it.
    async fn revoke_token(&self, id: &TokenId) -> Result<bool, MetadataError>;

    /// Notes that these tokens were used just now. Unknown ones are skipped.
    async fn note_token_uses(&self, ids: &[TokenId]) -> Result<(), MetadataError>;

    /// Makes a robot by hand, or gives one that was made so other grants; `false`, and nothing changed, when a
    /// manifest has made it. Whoever caches tokens hears of it.
    async fn put_robot(&self, robot: &Robot) -> Result<bool, MetadataError>;

    /// All robots, by namespace and name.
    async fn robots(&self) -> Result<Vec<(Robot, Source)>, MetadataError>;

    /// Removes a robot that was made by hand, with its tokens; `false` when there is none. Whoever caches tokens hears
    /// of it.
    async fn remove_robot(&self, robot: &RobotKey) -> Result<bool, MetadataError>;

    /// What the manifests have: makes or changes `robots`, and does with other robots of manifests what `others` says.
    /// A robot made by hand under the same name becomes the manifest's and keeps its tokens. In one transaction;
    /// whoever calls it tells whoever caches tokens.
    async fn declare_robots(&self, robots: &[Robot], others: Others<'_>) -> Result<(), MetadataError>;
}
