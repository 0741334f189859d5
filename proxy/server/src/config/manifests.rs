//! A directory of manifests, followed: what is sound is served, what is not is reported, and the last good
//! version of an object that has become unsound stays in service.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use artifactapi_crds::set::{Loaded, Set, Stored};
use artifactapi_model::{
    PackageType, Remote, RepoName,
    ports::{MetadataError, MetadataStore},
    repository::RemoteSpec,
};
use tokio_util::sync::CancellationToken;

use super::snapshot::{Known, Repository, Snapshot};
use crate::App;

/// How often the directory is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Largest manifest file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Names, times and sizes of the files: what a change is told by.
type Stamps = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Follows one directory.
pub struct Manifests {
    dir: PathBuf,
    stored: Stored,
    good: BTreeMap<RepoName, RemoteSpec>,
    seen: Option<Stamps>,
}

/// The manifest files below `dir` (`.yaml`, `.yml`, `.json`; not hidden ones), sorted by name.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn read_dir(dir: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for path in stamps(dir)?.into_keys() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, std::fs::read_to_string(&path)?));
    }
    Ok(files)
}

fn stamps(dir: &Path) -> io::Result<Stamps> {
    let mut found = Stamps::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_manifest =
            matches!(path.extension().and_then(|ext| ext.to_str()), Some("yaml" | "yml" | "json"));
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // Follows links, as a mounted ConfigMap has them.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if is_manifest && !is_hidden && metadata.is_file() && metadata.len() <= MAX_FILE {
            found.insert(path, (metadata.modified().ok(), metadata.len()));
        }
    }
    Ok(found)
}

impl Manifests {
    /// Follows `dir`; nothing is read yet.
    pub fn new(dir: PathBuf) -> Self {
        Manifests { dir, stored: Stored::default(), good: BTreeMap::new(), seen: None }
    }

    /// Looks at the directory and takes up what has changed; `false` when nothing has.
    ///
    /// # Errors
    /// When the directory cannot be read or the database cannot tell a repository's identity; the last
    /// configuration stays in service.
    pub async fn refresh(&mut self, app: &App, metadata: &Arc<dyn MetadataStore>) -> Result<bool, LoadError> {
        let dir = self.dir.clone();
        let now = blocking(move || stamps(&dir)).await?;
        if self.seen.as_ref() == Some(&now) {
            return Ok(false);
        }
        let (dir, stored) = (self.dir.clone(), self.stored.clone());
        let loaded = blocking(move || Ok(Set::load_over(read_dir(&dir)?, &stored))).await?;
        self.take_up(app, metadata, loaded).await?;
        self.seen = Some(now);
        Ok(true)
    }

    async fn take_up(
        &mut self,
        app: &App,
        metadata: &Arc<dyn MetadataStore>,
        loaded: Loaded,
    ) -> Result<(), LoadError> {
        for problem in &loaded.errors {
            tracing::error!(manifest.problem = %problem, "a manifest is not served as it stands");
        }
        let mut good: BTreeMap<RepoName, RemoteSpec> =
            loaded.remotes.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        for object in loaded.origins.keys().filter(|object| object.kind == "Remote") {
            let Ok(name) = RepoName::try_from(object.name.as_str()) else { continue };
            if let Some(last) = self.good.get(&name)
                && !good.contains_key(&name)
            {
                tracing::warn!(remote.name = %name, "its last good version stays in service");
                good.insert(name, last.clone());
            }
        }
        let mut snapshot = Snapshot::default();
        for spec in good.values() {
            let repository = repository(app, metadata, spec).await?;
            snapshot.add(spec.name.clone(), Known::Remote(Arc::new(repository)));
        }
        let others =
            loaded.virtuals.iter().map(|virt| (virt.name.clone(), Known::Virtual(virt.package_type)));
        let locals = loaded.locals.iter().map(|local| (local.name.clone(), Known::Local(local.package_type)));
        for (name, known) in others.chain(locals) {
            snapshot.add(name, known);
        }
        for gone in self.good.values().filter(|spec| !good.contains_key(&spec.name)) {
            app.metrics.forget(&gone.name, gone.package_type);
        }
        app.metrics.repositories.set(i64::try_from(snapshot.len()).unwrap_or(i64::MAX));
        app.metrics.manifest_problems.set(i64::try_from(loaded.errors.len()).unwrap_or(i64::MAX));
        tracing::info!(repositories = snapshot.len(), problems = loaded.errors.len(), "manifests are loaded");
        app.snapshot.store(Arc::new(snapshot));
        app.health.set_loaded();
        self.stored = loaded.stored;
        self.good = good;
        Ok(())
    }

    /// Follows the directory until `stop`.
    pub async fn follow(mut self, app: Arc<App>, metadata: Arc<dyn MetadataStore>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            if let Err(error) = self.refresh(&app, &metadata).await {
                tracing::error!(error = %error, "manifests could not be reloaded");
            }
        }
    }
}

/// Why manifests could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory or a file in it.
    #[error("the manifests cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The database.
    #[error("the repositories cannot be recorded: {0}")]
    Record(#[from] MetadataError),
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn repository(
    app: &App,
    metadata: &Arc<dyn MetadataStore>,
    spec: &RemoteSpec,
) -> Result<Repository, MetadataError> {
    let package_type: PackageType = spec.package_type;
    let base_url = spec.base_url.as_str();
    let identity = metadata.ensure_repository(&spec.namespace, &spec.name, package_type, base_url).await?;
    let remote = Remote { identity, spec: Arc::new(spec.clone()) };
    Ok(Repository::new(remote, app.metrics.repository(&spec.name, package_type)))
}
