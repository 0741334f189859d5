//! Robots and tokens. What changes rights tells all replicas in the same transaction.

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
use deadpool_postgres::tokio_postgres::Row;

use super::{
    super::{EXPIRED_TOKENS_KEPT, accounts::grants_text, operation::Operation},
    PostgresMetadata, Values,
    pool::Repeat,
    rows::{column, readable},
};

const HOLDER: &str = "SELECT r.namespace, r.name, r.grants, r.token_ttl, \
     (extract(epoch FROM t.expires_at - now()) * 1000)::BIGINT \
     FROM tokens t JOIN robots r ON r.namespace = t.namespace AND r.name = t.robot \
     WHERE t.hash = $1 AND (t.expires_at IS NULL OR t.expires_at > now())";
/// Doing it again finds the same token there.
const ADD_TOKEN: &str = "WITH ended AS (DELETE FROM tokens WHERE expires_at < now() - make_interval(secs => $6)) \
     INSERT INTO tokens (hash, id, namespace, robot, expires_at, source) \
     SELECT $1, $2, namespace, name, now() + make_interval(secs => $5), $7 FROM robots \
     WHERE namespace = $3 AND name = $4 ON CONFLICT (hash) DO UPDATE SET id = excluded.id \
     RETURNING id, namespace, robot, (extract(epoch FROM created_at) * 1000)::BIGINT, \
     (extract(epoch FROM expires_at) * 1000)::BIGINT, (extract(epoch FROM used_at) * 1000)::BIGINT, source";
const TOKENS: &str = "SELECT id, namespace, robot, (extract(epoch FROM created_at) * 1000)::BIGINT, \
     (extract(epoch FROM expires_at) * 1000)::BIGINT, (extract(epoch FROM used_at) * 1000)::BIGINT, source \
     FROM tokens ORDER BY namespace, robot, created_at, id";
const TOKENS_OF: &str = "SELECT id, namespace, robot, (extract(epoch FROM created_at) * 1000)::BIGINT, \
     (extract(epoch FROM expires_at) * 1000)::BIGINT, (extract(epoch FROM used_at) * 1000)::BIGINT, source \
     FROM tokens WHERE namespace = $1 AND robot = $2 AND source = $3 ORDER BY created_at, id";
const REVOKE: &str = "WITH gone AS (DELETE FROM tokens WHERE id = $1 RETURNING 1) \
     SELECT pg_notify('artifactapi', $2) FROM gone";
const USED: &str = "UPDATE tokens SET used_at = now() WHERE id = ANY ($1)";
const PUT_BY_HAND: &str = "WITH put AS (INSERT INTO robots (namespace, name, source, grants, token_ttl) \
     VALUES ($1, $2, 'hand', $3, $4) ON CONFLICT (namespace, name) DO UPDATE SET grants = excluded.grants, \
     token_ttl = excluded.token_ttl WHERE robots.source = 'hand' RETURNING 1) \
     SELECT pg_notify('artifactapi', $5) FROM put";
const ROBOTS: &str = "SELECT namespace, name, grants, token_ttl, source FROM robots ORDER BY namespace, name";
const REMOVE_ROBOT: &str = "WITH gone AS (DELETE FROM robots WHERE namespace = $1 AND name = $2 \
     AND source = 'hand' RETURNING 1) SELECT pg_notify('artifactapi', $3) FROM gone";
/// Makes and changes those of the manifests, and takes away those that are neither among them nor kept.
pub(super) const DECLARE_ROBOTS: &str = "WITH declared AS (SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], \
     $4::BIGINT[]) AS d (namespace, name, grants, token_ttl)), \
     put AS (INSERT INTO robots (namespace, name, source, grants, token_ttl) \
     SELECT namespace, name, 'manifest', grants, token_ttl FROM declared \
     ON CONFLICT (namespace, name) DO UPDATE SET source = excluded.source, grants = excluded.grants, \
     token_ttl = excluded.token_ttl WHERE (robots.source, robots.grants, robots.token_ttl) \
     IS DISTINCT FROM (excluded.source, excluded.grants, excluded.token_ttl) RETURNING 1), \
     gone AS (DELETE FROM robots r WHERE $5 AND source = 'manifest' \
     AND NOT EXISTS (SELECT 1 FROM declared d WHERE d.namespace = r.namespace AND d.name = r.name) \
     AND NOT EXISTS (SELECT 1 FROM unnest($6::TEXT[], $7::TEXT[]) AS k (namespace, name) \
     WHERE k.namespace = r.namespace AND k.name = r.name) RETURNING 1) \
     SELECT (SELECT COUNT(*) FROM put) + (SELECT COUNT(*) FROM gone)";

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The key in the columns from `at` on.
fn key(row: &Row, at: usize) -> Result<RobotKey, String> {
    let name: &str = column(row, at + 1)?;
    Ok(RobotKey { namespace: column(row, at)?, name: name.parse().map_err(|error| format!("{error}"))? })
}

/// A robot whose columns begin the row.
fn robot(row: &Row) -> Result<Robot, String> {
    Ok(Robot {
        key: key(row, 0)?,
        grants: serde_json::from_str(column(row, 2)?).map_err(|error| error.to_string())?,
        token_ttl: column::<Option<i64>>(row, 3)?.map(duration),
    })
}

fn token(row: &Row) -> Result<TokenRow, String> {
    let id: &str = column(row, 0)?;
    Ok(TokenRow {
        id: id.parse().map_err(|error| format!("{error}"))?,
        robot: key(row, 1)?,
        source: source(column(row, 6)?),
        created_at: Timestamp(column(row, 3)?),
        expires_at: column::<Option<i64>>(row, 4)?.map(Timestamp),
        used_at: column::<Option<i64>>(row, 5)?.map(Timestamp),
    })
}

fn source(word: &str) -> Source {
    if word == Source::Manifest.as_str() { Source::Manifest } else { Source::Hand }
}

/// Columns of robots for [`DECLARE_ROBOTS`].
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) namespaces: Vec<&'a str>,
    pub(super) names: Vec<&'a str>,
    pub(super) grants: Vec<String>,
    pub(super) ttls: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(robots: &'a [Robot]) -> Self {
        let mut columns = Columns::default();
        for Robot { key: RobotKey { namespace, name }, grants, token_ttl } in robots {
            columns.namespaces.push(namespace);
            columns.names.push(name.as_str());
            columns.grants.push(grants_text(grants));
            columns.ttls.push(token_ttl.map(millis));
        }
        columns
    }
}

#[async_trait]
impl Accounts for PostgresMetadata {
    async fn holder(&self, token: &Digest) -> Result<Option<Holder>, MetadataError> {
        let rows = self.read(Operation::Holder, HOLDER, &[&token.to_hex()]).await?;
        let read = |row: &Row| {
            Ok(Holder { robot: robot(row)?, expires_in: column::<Option<i64>>(row, 4)?.map(duration) })
        };
        Ok(readable(&rows, self.pool.statements(), "tokens", read).pop())
    }

    async fn add_token(
        &self,
        robot: &RobotKey,
        hash: &Digest,
        ttl: Option<Duration>,
        source: Source,
    ) -> Result<Option<TokenRow>, MetadataError> {
        let (kept, ttl) = (EXPIRED_TOKENS_KEPT.as_secs_f64(), ttl.map(|ttl| ttl.as_secs_f64()));
        let id = TokenId::of(hash);
        let values: Values<'_> = &[
            &hash.to_hex(),
            &id.as_str(),
            &robot.namespace,
            &robot.name.as_str(),
            &ttl,
            &kept,
            &source.as_str(),
        ];
        let rows = self.read(Operation::AddToken, ADD_TOKEN, values).await?;
        Ok(readable(&rows, self.pool.statements(), "tokens", token).pop())
    }

    async fn tokens(&self) -> Result<Vec<TokenRow>, MetadataError> {
        let rows = self.read(Operation::Tokens, TOKENS, &[]).await?;
        Ok(readable(&rows, self.pool.statements(), "tokens", token))
    }

    async fn tokens_of(&self, robot: &RobotKey, source: Source) -> Result<Vec<TokenRow>, MetadataError> {
        let values: Values<'_> = &[&robot.namespace, &robot.name.as_str(), &source.as_str()];
        let rows = self.read(Operation::TokensOf, TOKENS_OF, values).await?;
        Ok(readable(&rows, self.pool.statements(), "tokens", token))
    }

    async fn revoke_token(&self, id: &TokenId) -> Result<bool, MetadataError> {
        let values: Values<'_> = &[&id.as_str(), &Notice::Accounts.encode()];
        // A second time says that there is none, although the first took it away.
        let rows = self.pool.ask(Operation::RevokeToken, Repeat::Never, REVOKE, values).await?;
        Ok(!rows.is_empty())
    }

    async fn note_token_uses(&self, ids: &[TokenId]) -> Result<(), MetadataError> {
        let ids: Vec<&str> = ids.iter().map(TokenId::as_str).collect();
        self.read(Operation::NoteTokenUses, USED, &[&ids]).await.map(drop)
    }

    async fn put_robot(&self, robot: &Robot) -> Result<bool, MetadataError> {
        let RobotKey { namespace, name } = &robot.key;
        let (grants, ttl) = (grants_text(&robot.grants), robot.token_ttl.map(millis));
        let values: Values<'_> = &[namespace, &name.as_str(), &grants, &ttl, &Notice::Accounts.encode()];
        Ok(!self.read(Operation::PutRobot, PUT_BY_HAND, values).await?.is_empty())
    }

    async fn robots(&self) -> Result<Vec<(Robot, Source)>, MetadataError> {
        let rows = self.read(Operation::Robots, ROBOTS, &[]).await?;
        let read = |row: &Row| Ok((robot(row)?, source(column(row, 4)?)));
        Ok(readable(&rows, self.pool.statements(), "robots", read))
    }

    async fn remove_robot(&self, robot: &RobotKey) -> Result<bool, MetadataError> {
        let values: Values<'_> = &[&robot.namespace, &robot.name.as_str(), &Notice::Accounts.encode()];
        let rows = self.pool.ask(Operation::RemoveRobot, Repeat::Never, REMOVE_ROBOT, values).await?;
        Ok(!rows.is_empty())
    }

    async fn declare_robots(&self, robots: &[Robot], others: Others<'_>) -> Result<(), MetadataError> {
        let columns = Columns::of(robots);
        let (others_go, but): (bool, &[RobotKey]) = match others {
            Others::Stay => (false, &[]),
            Others::Go { but } => (true, but),
        };
        let kept: [Vec<&str>; 2] = [
            but.iter().map(|key| key.namespace.as_str()).collect(),
            but.iter().map(|key| key.name.as_str()).collect(),
        ];
        let Columns { namespaces, names, grants, ttls } = &columns;
        let values: Values<'_> = &[namespaces, names, grants, ttls, &others_go, &kept[0], &kept[1]];
        self.read(Operation::DeclareRobots, DECLARE_ROBOTS, values).await.map(drop)
    }
}
