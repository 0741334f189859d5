//! The configuration: manifests, their version, and the repositories that exist by them.
//!
//! A configuration changes as a whole and its version only rises, so that a replica takes a snapshot by one
//! number: it hears [`Notice::Configured`], or finds another [`PostgresMetadata::config_mark`], and loads
//! again. Who changes it may say which version the change was made for; another change in between refuses it.

use std::time::Duration;

use artifactapi_model::{
    Epoch, Notice, PackageType, RepoId, RepoName, account::Robot, ports::MetadataError,
    repository::RepoIdentity,
};
use deadpool_postgres::{
    Object, Transaction,
    tokio_postgres::{IsolationLevel, Row},
};
use tokio::time::Instant;

use super::{
    super::operation::{Operation, SqlStatements},
    PostgresMetadata,
    accounts::{Columns, DECLARE_ROBOTS},
    pool::within,
    rows::{column, readable},
    trouble::Trouble,
};

/// Longest time to load or change a configuration.
const PATIENCE: Duration = Duration::from_secs(15);
const OBJECTS: &str = "SELECT kind, namespace, name, document, sealed, version, uid, generation FROM objects \
     ORDER BY kind, namespace, name";
const REPOSITORIES: &str = "SELECT namespace, name, package_type, base_url, id, epoch FROM repositories \
     WHERE retired_at IS NULL ORDER BY namespace, name, package_type";
const VERSION: &str = "SELECT version, database_id, stamp FROM config_version";
const LOCK_VERSION: &str = "SELECT version FROM config_version FOR UPDATE";
const SET_VERSION: &str = "UPDATE config_version SET version = $1, stamp = gen_random_uuid()::TEXT";
/// An earlier generation replaces a later one too, as after a cluster was restored from a backup: to leave out a row and
/// report it as written would have its object called ready while proxies serve another. That a change is not one of former
/// times, fence and version see to; that its objects are what the cluster has, whoever makes it.
const PUT_OBJECTS: &str = "INSERT INTO objects (kind, namespace, name, document, sealed, uid, generation, version) \
     SELECT *, $8 FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BOOLEAN[], $6::TEXT[], \
     $7::BIGINT[]) ON CONFLICT (kind, namespace, name) DO UPDATE SET document = excluded.document, \
     sealed = excluded.sealed, uid = excluded.uid, generation = excluded.generation, version = excluded.version \
     WHERE (objects.document, objects.sealed, objects.uid, objects.generation) \
     IS DISTINCT FROM (excluded.document, excluded.sealed, excluded.uid, excluded.generation)";
const DELETE_OBJECTS: &str = "DELETE FROM objects WHERE (kind, namespace, name) IN \
     (SELECT * FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]))";
/// Declares those that are not there as they should be, and counts them.
const DECLARE: &str = "WITH missing AS MATERIALIZED (SELECT d.* FROM \
     unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[]) AS d (namespace, name, package_type, base_url) \
     WHERE NOT EXISTS (SELECT 1 FROM repositories r WHERE r.namespace = d.namespace AND r.name = d.name \
     AND r.package_type = d.package_type AND r.base_url = d.base_url AND r.retired_at IS NULL)) \
     SELECT COUNT(out_id) FROM missing m, LATERAL ensure_repository(m.namespace, m.name, m.package_type, m.base_url)";
const RETIRE_OTHERS: &str = "UPDATE repositories r SET retired_at = now() WHERE retired_at IS NULL AND NOT EXISTS \
     (SELECT 1 FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) AS d (namespace, name, package_type) \
     WHERE d.namespace = r.namespace AND d.name = r.name AND d.package_type = r.package_type)";
const NOTIFY: &str = "SELECT pg_notify('artifactapi', $1)";

/// An object of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its kind, as `Remote` or `Secret`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The manifest as JSON; where `sealed`, what a sealer made of it.
    pub document: String,
    /// Whether the document is sealed. Sealing the same twice gives different texts, so who applies leaves out
    /// what has not changed inside.
    pub sealed: bool,
    /// Version of the configuration in which it last changed. The store sets it.
    pub version: i64,
    /// Identity in Kubernetes.
    pub uid: Option<String>,
    /// Generation there.
    pub generation: Option<i64>,
}

impl StoredObject {
    /// What it is sealed for.
    pub fn place(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A repository that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: RepoName,
    /// Type.
    pub package_type: PackageType,
    /// Upstream; another one is another epoch. Empty for those without.
    pub base_url: String,
}

/// Which configuration it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMark {
    /// The database it is in: another one has another, wherever it is reached.
    pub database: String,
    /// Its version there; 0 before the first. It only rises, unless a backup was put back.
    pub version: i64,
    /// What tells it from another of that version, in a copy of the database.
    pub stamp: String,
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which one.
    pub mark: ConfigMark,
    /// All objects, by kind, namespace and name.
    pub objects: Vec<StoredObject>,
    /// All repositories that exist, with where stores know them by.
    pub repositories: Vec<(Declared, RepoIdentity)>,
}

/// A change of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The version it was made for, if it must be no other.
    pub based_on: Option<i64>,
    /// Objects to add or replace.
    pub upserts: Vec<StoredObject>,
    /// Kind, namespace and name of objects to delete.
    pub deletes: Vec<(String, String, String)>,
    /// All repositories that exist after it; every other one retires.
    pub repositories: Vec<Declared>,
    /// All robots that manifests have after it; every other one of manifests goes.
    pub robots: Vec<Robot>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is done: the version that has it. The same as before when nothing was to change.
    Version(i64),
    /// Another change came first: the version now. Nothing was changed.
    Outdated(i64),
}

impl PostgresMetadata {
    /// The configuration, as it was at one moment.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn load_config(&self) -> Result<Config, MetadataError> {
        let mut loaded = self.load_once().await;
        if loaded.as_ref().is_err_and(Trouble::is_passing) {
            loaded = self.load_once().await;
        }
        loaded.map_err(|trouble| trouble.into_error(Operation::LoadConfig))
    }

    async fn load_once(&self) -> Result<Config, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        let mut client = self.pool.acquire(deadline).await?;
        let outcome = within(deadline, load(&mut client, self.pool.statements())).await;
        self.pool.settle(client, outcome)
    }

    /// Which configuration is there.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub async fn config_mark(&self) -> Result<ConfigMark, MetadataError> {
        let rows = self.read(Operation::ConfigVersion, VERSION, &[]).await?;
        Ok(rows.first().map(mark).unwrap_or_default())
    }

    /// Changes the configuration, one caller at a time. When something changed, the version rises by one and
    /// every listener hears [`Notice::Configured`].
    ///
    /// # Errors
    /// [`MetadataError`]; after [`MetadataError::Unavailable`] nobody knows whether it was done, and doing it
    /// again is harmless.
    pub async fn apply_config(&self, changes: &Changes) -> Result<Applied, MetadataError> {
        let deadline = Instant::now() + PATIENCE;
        let operation = Operation::ApplyConfig;
        let mut client =
            self.pool.acquire(deadline).await.map_err(|trouble| trouble.into_error(operation))?;
        let outcome = within(deadline, apply(&mut client, self.pool.statements(), changes)).await;
        self.pool.settle(client, outcome).map_err(|trouble| trouble.into_error(operation))
    }
}

async fn load(client: &mut Object, statements: &SqlStatements) -> Result<Config, Trouble> {
    let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = begin.start().await?;
    let mut answers = Vec::new();
    for statement in [VERSION, OBJECTS, REPOSITORIES] {
        statements.count(Operation::LoadConfig);
        let statement = transaction.prepare_cached(statement).await?;
        answers.push(transaction.query(&statement, &[]).await?);
    }
    transaction.commit().await?;
    let [version, objects, repositories] = answers.as_slice() else {
        return Err(Trouble::Refused("an answer is missing".into()));
    };
    let mark = version.first().map(mark).ok_or_else(|| Trouble::Refused("it has no version".into()))?;
    Ok(Config {
        mark,
        objects: readable(objects, statements, "objects", object),
        repositories: readable(repositories, statements, "repositories", repository),
    })
}

fn mark(row: &Row) -> ConfigMark {
    ConfigMark { version: row.get(0), database: row.get(1), stamp: row.get(2) }
}

fn object(row: &Row) -> Result<StoredObject, String> {
    Ok(StoredObject {
        kind: column(row, 0)?,
        namespace: column(row, 1)?,
        name: column(row, 2)?,
        document: column(row, 3)?,
        sealed: column(row, 4)?,
        version: column(row, 5)?,
        uid: column(row, 6)?,
        generation: column(row, 7)?,
    })
}

fn repository(row: &Row) -> Result<(Declared, RepoIdentity), String> {
    let (name, package_type): (&str, &str) = (column(row, 1)?, column(row, 2)?);
    let known = PackageType::ALL.into_iter().find(|known| known.as_str() == package_type);
    let declared = Declared {
        namespace: column(row, 0)?,
        name: name.parse().map_err(|error| format!("{error}"))?,
        package_type: known.ok_or_else(|| format!("{package_type:?} is no package type"))?,
        base_url: column(row, 3)?,
    };
    Ok((declared, RepoIdentity { id: RepoId(column(row, 4)?), epoch: Epoch(column(row, 5)?) }))
}

async fn apply(
    client: &mut Object,
    statements: &SqlStatements,
    changes: &Changes,
) -> Result<Applied, Trouble> {
    let transaction = client.transaction().await?;
    let steps = Steps { transaction: &transaction, statements, operation: Operation::ApplyConfig };
    let version = steps.lock().await?;
    if changes.based_on.is_some_and(|expected| expected != version) {
        return Ok(Applied::Outdated(version));
    }
    let next = version + 1;
    let mut is_changed = steps.put(&changes.upserts, next).await?;
    is_changed |= steps.delete(&changes.deletes).await?;
    is_changed |= steps.declare_all(&changes.repositories).await?;
    is_changed |= steps.declare_robots(&changes.robots).await?;
    if !is_changed {
        return Ok(Applied::Version(version));
    }
    steps.tell(next).await?;
    transaction.commit().await?;
    Ok(Applied::Version(next))
}

/// The parts of a change; each says whether it changed anything.
pub(super) struct Steps<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) statements: &'a SqlStatements,
    pub(super) operation: Operation,
}

impl Steps<'_> {
    /// The version, until the end of the transaction nobody else's to change.
    pub(super) async fn lock(&self) -> Result<i64, Trouble> {
        let rows = self.rows(LOCK_VERSION, &[]).await?;
        Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
    }

    /// Makes `version` the version, and tells replicas.
    pub(super) async fn tell(&self, version: i64) -> Result<(), Trouble> {
        self.rows(SET_VERSION, &[&version]).await?;
        self.rows(NOTIFY, &[&Notice::Configured { version }.encode()]).await.map(drop)
    }

    pub(super) async fn rows(&self, statement: &str, values: super::Values<'_>) -> Result<Vec<Row>, Trouble> {
        self.statements.count(self.operation);
        let statement = self.transaction.prepare_cached(statement).await?;
        Ok(self.transaction.query(&statement, values).await?)
    }

    pub(super) async fn changes(&self, statement: &str, values: super::Values<'_>) -> Result<bool, Trouble> {
        self.statements.count(self.operation);
        let statement = self.transaction.prepare_cached(statement).await?;
        Ok(self.transaction.execute(&statement, values).await? > 0)
    }

    pub(super) async fn put(&self, objects: &[StoredObject], version: i64) -> Result<bool, Trouble> {
        fn each<'a, T>(objects: &'a [StoredObject], of: impl Fn(&'a StoredObject) -> T) -> Vec<T> {
            objects.iter().map(of).collect()
        }
        let kinds = each(objects, |object| &object.kind);
        let namespaces = each(objects, |object| &object.namespace);
        let names = each(objects, |object| &object.name);
        let documents = each(objects, |object| &object.document);
        let sealed = each(objects, |object| object.sealed);
        let uids = each(objects, |object| object.uid.as_ref());
        let generations = each(objects, |object| object.generation);
        let values: super::Values<'_> =
            &[&kinds, &namespaces, &names, &documents, &sealed, &uids, &generations, &version];
        self.changes(PUT_OBJECTS, values).await
    }

    pub(super) async fn delete(&self, objects: &[(String, String, String)]) -> Result<bool, Trouble> {
        let kinds: Vec<_> = objects.iter().map(|(kind, _, _)| kind).collect();
        let namespaces: Vec<_> = objects.iter().map(|(_, namespace, _)| namespace).collect();
        let names: Vec<_> = objects.iter().map(|(_, _, name)| name).collect();
        self.changes(DELETE_OBJECTS, &[&kinds, &namespaces, &names]).await
    }

    /// Makes `robots` those that manifests have.
    async fn declare_robots(&self, robots: &[Robot]) -> Result<bool, Trouble> {
        let Columns { namespaces, names, grants, ttls } = Columns::of(robots);
        let (others_go, kept): (bool, [&str; 0]) = (true, []);
        let values: super::Values<'_> =
            &[&namespaces, &names, &grants, &ttls, &others_go, &&kept[..], &&kept[..]];
        let rows = self.rows(DECLARE_ROBOTS, values).await?;
        Ok(rows.first().is_some_and(|row| row.get::<_, i64>(0) > 0))
    }

    /// Makes `repositories` those that exist.
    async fn declare_all(&self, repositories: &[Declared]) -> Result<bool, Trouble> {
        let mut is_changed = self.declare(repositories).await?;
        let Places { namespaces, names, types } = Places::of(repositories);
        is_changed |= self.changes(RETIRE_OTHERS, &[&namespaces, &names, &types]).await?;
        Ok(is_changed)
    }

    /// Makes `repositories` exist, whatever others do.
    pub(super) async fn declare(&self, repositories: &[Declared]) -> Result<bool, Trouble> {
        let Places { namespaces, names, types } = Places::of(repositories);
        let urls: Vec<&str> = repositories.iter().map(|it| it.base_url.as_str()).collect();
        let rows = self.rows(DECLARE, &[&namespaces, &names, &types, &urls]).await?;
        Ok(rows.first().is_some_and(|row| row.get::<_, i64>(0) > 0))
    }
}

/// Which repositories, in columns.
pub(super) struct Places<'a> {
    pub(super) namespaces: Vec<&'a str>,
    pub(super) names: Vec<&'a str>,
    pub(super) types: Vec<&'a str>,
}

impl<'a> Places<'a> {
    pub(super) fn of(repositories: &'a [Declared]) -> Self {
        Places {
            namespaces: repositories.iter().map(|it| it.namespace.as_str()).collect(),
            names: repositories.iter().map(|it| it.name.as_str()).collect(),
            types: repositories.iter().map(|it| it.package_type.as_str()).collect(),
        }
    }
}
