//! Robots and tokens in the file. Time is the database's: milliseconds since 1970, taken where it is compared.

use std::time::Duration;

use artifactapi_model::{
    Digest, Notice, Timestamp,
    account::{Robot, RobotKey, TokenId},
    ports::{
        Accounts, MetadataError,
        accounts::{Holder, Others, Source, TokenRow},
    },
};
use async_trait::async_trait;
use rusqlite::{Row, types::Type};

use super::{SqliteMetadata, notices, session::Session};
use crate::metadata::{EXPIRED_TOKENS_KEPT, accounts::grants_text, operation::Operation};

const HOLDER: &str = concat!(
    "SELECT r.namespace, r.name, r.grants, r.token_ttl, t.expires_at - ",
    now!(),
    " FROM tokens t JOIN robots r ON r.namespace = t.namespace AND r.name = t.robot \
     WHERE t.hash = ?1 AND (t.expires_at IS NULL OR t.expires_at > ",
    now!(),
    ")"
);
const FORGET_ENDED: &str = concat!("DELETE FROM tokens WHERE expires_at < ", now!(), " - ?1");
const ADD_TOKEN: &str = concat!(
    "INSERT INTO tokens (hash, id, namespace, robot, source, created_at, expires_at) \
     SELECT ?1, ?2, namespace, name, ?6, ",
    now!(),
    ", ",
    now!(),
    " + ?5 FROM robots WHERE namespace = ?3 AND name = ?4 \
     RETURNING id, namespace, robot, created_at, expires_at, used_at, source"
);
const TOKENS: &str = "SELECT id, namespace, robot, created_at, expires_at, used_at, source FROM tokens \
     ORDER BY namespace, robot, created_at, id";
const TOKENS_OF: &str = "SELECT id, namespace, robot, created_at, expires_at, used_at, source FROM tokens \
     WHERE namespace = ?1 AND robot = ?2 AND source = ?3 ORDER BY created_at, id";
const REVOKE: &str = "DELETE FROM tokens WHERE id = ?1";
const USED: &str = concat!("UPDATE tokens SET used_at = ", now!(), " WHERE id = ?1");
const PUT_BY_HAND: &str = "INSERT INTO robots (namespace, name, source, grants, token_ttl) \
     VALUES (?1, ?2, 'hand', ?3, ?4) ON CONFLICT (namespace, name) DO UPDATE SET grants = excluded.grants, \
     token_ttl = excluded.token_ttl WHERE robots.source = 'hand'";
const PUT_BY_MANIFEST: &str = "INSERT INTO robots (namespace, name, source, grants, token_ttl) \
     VALUES (?1, ?2, 'manifest', ?3, ?4) ON CONFLICT (namespace, name) DO UPDATE SET source = excluded.source, \
     grants = excluded.grants, token_ttl = excluded.token_ttl";
const ROBOTS: &str = "SELECT namespace, name, grants, token_ttl, source FROM robots ORDER BY namespace, name";
const BY_MANIFEST: &str = "SELECT namespace, name FROM robots WHERE source = 'manifest'";
const IS_BY_HAND: &str = "SELECT 1 FROM robots WHERE namespace = ?1 AND name = ?2 AND source = 'hand'";
const REMOVE_TOKENS: &str = "DELETE FROM tokens WHERE namespace = ?1 AND robot = ?2";
const REMOVE_ROBOT: &str = "DELETE FROM robots WHERE namespace = ?1 AND name = ?2";

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The key in the columns from `at` on.
fn key(row: &Row<'_>, at: usize) -> rusqlite::Result<RobotKey> {
    let name: String = row.get(at + 1)?;
    Ok(RobotKey { namespace: row.get(at)?, name: name.parse().map_err(|error| unreadable(at + 1, error))? })
}

/// A robot whose columns begin the row.
fn robot(row: &Row<'_>) -> rusqlite::Result<Robot> {
    let grants: String = row.get(2)?;
    Ok(Robot {
        key: key(row, 0)?,
        grants: serde_json::from_str(&grants).map_err(|error| unreadable(2, error))?,
        token_ttl: row.get::<_, Option<i64>>(3)?.map(duration),
    })
}

fn holder(row: &Row<'_>) -> rusqlite::Result<Holder> {
    Ok(Holder { robot: robot(row)?, expires_in: row.get::<_, Option<i64>>(4)?.map(duration) })
}

fn token(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    let id: String = row.get(0)?;
    Ok(TokenRow {
        id: id.parse().map_err(|error| unreadable(0, error))?,
        robot: key(row, 1)?,
        source: source(row, 6)?,
        created_at: Timestamp(row.get(3)?),
        expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        used_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
    })
}

fn source(row: &Row<'_>, at: usize) -> rusqlite::Result<Source> {
    let word: String = row.get(at)?;
    Ok(if word == Source::Manifest.as_str() { Source::Manifest } else { Source::Hand })
}

fn put(session: &Session<'_>, statement: &str, robot: &Robot) -> rusqlite::Result<usize> {
    let RobotKey { namespace, name } = &robot.key;
    let ttl = robot.token_ttl.map(millis);
    session.execute(statement, (namespace, name.as_str(), grants_text(&robot.grants), ttl))
}

fn remove(session: &Session<'_>, RobotKey { namespace, name }: &RobotKey) -> rusqlite::Result<()> {
    session.execute(REMOVE_TOKENS, (namespace, name.as_str()))?;
    session.execute(REMOVE_ROBOT, (namespace, name.as_str())).map(drop)
}

#[async_trait]
impl Accounts for SqliteMetadata {
    async fn holder(&self, token: &Digest) -> Result<Option<Holder>, MetadataError> {
        let hash = token.to_hex();
        let work = move |session: &Session<'_>| session.find(HOLDER, [hash], holder);
        self.readers.run(Operation::Holder, work).await
    }

    async fn add_token(
        &self,
        robot: &RobotKey,
        hash: &Digest,
        ttl: Option<Duration>,
        source: Source,
    ) -> Result<Option<TokenRow>, MetadataError> {
        let (robot, hash, id) = (robot.clone(), hash.to_hex(), TokenId::of(hash));
        let work = move |session: &Session<'_>| {
            session.execute(FORGET_ENDED, [millis(EXPIRED_TOKENS_KEPT)])?;
            let RobotKey { namespace, name } = &robot;
            let values = (&hash, id.as_str(), namespace, name.as_str(), ttl.map(millis), source.as_str());
            session.find(ADD_TOKEN, values, token)
        };
        self.writer.run(Operation::AddToken, work).await
    }

    async fn tokens(&self) -> Result<Vec<TokenRow>, MetadataError> {
        self.readers.run(Operation::Tokens, |session| session.rows(TOKENS, [], token)).await
    }

    async fn tokens_of(&self, robot: &RobotKey, source: Source) -> Result<Vec<TokenRow>, MetadataError> {
        let robot = robot.clone();
        let work = move |session: &Session<'_>| {
            session.rows(TOKENS_OF, (&robot.namespace, robot.name.as_str(), source.as_str()), token)
        };
        self.readers.run(Operation::TokensOf, work).await
    }

    async fn revoke_token(&self, id: &TokenId) -> Result<bool, MetadataError> {
        let id = id.clone();
        let work = move |session: &Session<'_>| {
            let revoked = session.execute(REVOKE, [id.as_str()])? > 0;
            if revoked {
                notices::post(session, &Notice::Accounts)?;
            }
            Ok(revoked)
        };
        self.writer.run(Operation::RevokeToken, work).await
    }

    async fn note_token_uses(&self, ids: &[TokenId]) -> Result<(), MetadataError> {
        let ids = ids.to_vec();
        let work = move |session: &Session<'_>| {
            for id in &ids {
                session.execute(USED, [id.as_str()])?;
            }
            Ok(())
        };
        self.writer.run(Operation::NoteTokenUses, work).await
    }

    async fn put_robot(&self, robot: &Robot) -> Result<bool, MetadataError> {
        let robot = robot.clone();
        let work = move |session: &Session<'_>| {
            let is_put = put(session, PUT_BY_HAND, &robot)? > 0;
            notices::post(session, &Notice::Accounts)?;
            Ok(is_put)
        };
        self.writer.run(Operation::PutRobot, work).await
    }

    async fn robots(&self) -> Result<Vec<(Robot, Source)>, MetadataError> {
        let read = |row: &Row<'_>| Ok((robot(row)?, source(row, 4)?));
        self.readers.run(Operation::Robots, move |session| session.rows(ROBOTS, [], read)).await
    }

    async fn remove_robot(&self, robot: &RobotKey) -> Result<bool, MetadataError> {
        let robot = robot.clone();
        let work = move |session: &Session<'_>| {
            let values = (&robot.namespace, robot.name.as_str());
            let is_there = session.find(IS_BY_HAND, values, |_| Ok(()))?.is_some();
            if is_there {
                remove(session, &robot)?;
                notices::post(session, &Notice::Accounts)?;
            }
            Ok(is_there)
        };
        self.writer.run(Operation::RemoveRobot, work).await
    }

    async fn declare_robots(&self, robots: &[Robot], others: Others<'_>) -> Result<(), MetadataError> {
        let robots = robots.to_vec();
        let kept: Option<Vec<RobotKey>> = match others {
            Others::Stay => None,
            Others::Go { but } => Some(robots.iter().map(|robot| &robot.key).chain(but).cloned().collect()),
        };
        let work = move |session: &Session<'_>| {
            for robot in &robots {
                put(session, PUT_BY_MANIFEST, robot)?;
            }
            let Some(kept) = kept else { return Ok(()) };
            for robot in session.rows(BY_MANIFEST, [], |row| key(row, 0))? {
                if !kept.contains(&robot) {
                    remove(session, &robot)?;
                }
            }
            Ok(())
        };
        self.writer.run(Operation::DeclareRobots, work).await
    }
}
