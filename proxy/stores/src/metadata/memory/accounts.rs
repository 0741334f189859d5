//! Robots and tokens in memory.

use std::{collections::BTreeMap, time::Duration};

use artifactapi_model::{
    Digest, Timestamp,
    account::{Robot, RobotKey, TokenId},
    ports::{
        Accounts, MetadataError,
        accounts::{Holder, Others, Source, TokenRow},
    },
};
use async_trait::async_trait;

use super::MemoryMetadata;

/// The tables of accounts.
#[derive(Debug, Default)]
pub(super) struct Rows {
    robots: BTreeMap<RobotKey, (Robot, Source)>,
    tokens: BTreeMap<Digest, TokenRow>,
}

impl Rows {
    fn drop_robot(&mut self, robot: &RobotKey) {
        self.robots.remove(robot);
        self.tokens.retain(|_, token| token.robot != *robot);
    }
}

fn has_ended(token: &TokenRow, at: Timestamp) -> bool {
    token.expires_at.is_some_and(|ends| ends <= at)
}

#[async_trait]
impl Accounts for MemoryMetadata {
    async fn holder(&self, token: &Digest) -> Result<Option<Holder>, MetadataError> {
        let tables = self.tables()?;
        let now = tables.now();
        let Some(token) = tables.accounts.tokens.get(token).filter(|token| !has_ended(token, now)) else {
            return Ok(None);
        };
        let robot = tables.accounts.robots.get(&token.robot);
        let expires_in = token.expires_at.map(|ends| ends.since(now));
        Ok(robot.map(|(robot, _)| Holder { robot: robot.clone(), expires_in }))
    }

    async fn add_token(
        &self,
        robot: &RobotKey,
        token: &Digest,
        ttl: Option<Duration>,
        source: Source,
    ) -> Result<Option<TokenRow>, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let long_ago = Timestamp(now.0.saturating_sub(super::super::EXPIRED_TOKENS_KEPT.as_millis() as i64));
        tables.accounts.tokens.retain(|_, token| !has_ended(token, long_ago));
        if !tables.accounts.robots.contains_key(robot) {
            return Ok(None);
        }
        let row = TokenRow {
            id: TokenId::of(token),
            robot: robot.clone(),
            source,
            created_at: now,
            expires_at: ttl.map(|ttl| now + ttl),
            used_at: None,
        };
        tables.accounts.tokens.insert(*token, row.clone());
        Ok(Some(row))
    }

    async fn tokens(&self) -> Result<Vec<TokenRow>, MetadataError> {
        let mut tokens: Vec<_> = self.tables()?.accounts.tokens.values().cloned().collect();
        tokens.sort_by(|a, b| (&a.robot, a.created_at, &a.id).cmp(&(&b.robot, b.created_at, &b.id)));
        Ok(tokens)
    }

    async fn tokens_of(&self, robot: &RobotKey, source: Source) -> Result<Vec<TokenRow>, MetadataError> {
        let mut tokens = self.tokens().await?;
        tokens.retain(|token| token.robot == *robot && token.source == source);
        Ok(tokens)
    }

    async fn revoke_token(&self, id: &TokenId) -> Result<bool, MetadataError> {
        let tokens = &mut self.tables()?.accounts.tokens;
        let had = tokens.len();
        tokens.retain(|_, token| token.id != *id);
        Ok(tokens.len() < had)
    }

    async fn note_token_uses(&self, ids: &[TokenId]) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        for token in tables.accounts.tokens.values_mut().filter(|token| ids.contains(&token.id)) {
            token.used_at = Some(now);
        }
        Ok(())
    }

    async fn put_robot(&self, robot: &Robot) -> Result<bool, MetadataError> {
        let robots = &mut self.tables()?.accounts.robots;
        if robots.get(&robot.key).is_some_and(|(_, source)| *source == Source::Manifest) {
            return Ok(false);
        }
        robots.insert(robot.key.clone(), (robot.clone(), Source::Hand));
        Ok(true)
    }

    async fn robots(&self) -> Result<Vec<(Robot, Source)>, MetadataError> {
        Ok(self.tables()?.accounts.robots.values().cloned().collect())
    }

    async fn remove_robot(&self, robot: &RobotKey) -> Result<bool, MetadataError> {
        let accounts = &mut self.tables()?.accounts;
        let is_ours = accounts.robots.get(robot).is_some_and(|(_, source)| *source == Source::Hand);
        if is_ours {
            accounts.drop_robot(robot);
        }
        Ok(is_ours)
    }

    async fn declare_robots(&self, robots: &[Robot], others: Others<'_>) -> Result<(), MetadataError> {
        let accounts = &mut self.tables()?.accounts;
        for robot in robots {
            accounts.robots.insert(robot.key.clone(), (robot.clone(), Source::Manifest));
        }
        let Others::Go { but } = others else { return Ok(()) };
        let declared = |key: &RobotKey| robots.iter().any(|robot| robot.key == *key) || but.contains(key);
        let rows = accounts.robots.iter();
        let gone: Vec<_> = rows
            .filter(|(key, (_, source))| *source == Source::Manifest && !declared(key))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().for_each(|robot| accounts.drop_robot(robot));
        Ok(())
    }
}
