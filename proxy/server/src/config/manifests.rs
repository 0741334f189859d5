//! A directory of manifests, followed.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use artifactapi_crds::set::Set;
use artifactapi_model::ports::{Accounts, MetadataError, MetadataStore, Observations};
use tokio_util::sync::CancellationToken;

use super::{
    directory::{Files, Stamps},
    good::{Good, Next},
    identities::Identities,
    meeting::Meeting,
};
use crate::App;

/// How often the directory is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Follows one directory.
pub struct Manifests {
    dir: PathBuf,
    accounts: Arc<dyn Accounts>,
    meeting: Meeting,
    seen: Option<Stamps>,
    good: Good,
}

/// Why manifests could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The directory.
    #[error("the manifests in {} cannot be read: {source}", dir.display())]
    Read {
        /// Which directory.
        dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database.
    #[error("repositories and robots cannot be recorded: {0}")]
    Record(#[from] MetadataError),
}

impl Manifests {
    /// Follows `dir` and writes its robots into `accounts`; nothing is read yet. Where an operator has written it, that is
    /// told what `observations` has. `grace` as in [`Good::new`].
    pub fn new(
        dir: PathBuf,
        accounts: Arc<dyn Accounts>,
        observations: Arc<dyn Observations>,
        grace: Duration,
    ) -> Self {
        let meeting = Meeting::new(dir.clone(), observations);
        Manifests { dir, accounts, meeting, seen: None, good: Good::new(grace) }
    }

    /// Looks at the directory and takes up what has changed; `false` when nothing has.
    ///
    /// # Errors
    /// When the directory cannot be listed or the database cannot tell a repository's identity; the last
    /// configuration stays in service.
    pub async fn refresh(
        &mut self,
        app: &Arc<App>,
        metadata: &Arc<dyn MetadataStore>,
    ) -> Result<bool, LoadError> {
        let failed = |source| LoadError::Read { dir: self.dir.clone(), source };
        let dir = self.dir.clone();
        let now = blocking(move || Stamps::of(&dir)).await.map_err(failed)?;
        if self.seen.as_ref() == Some(&now) {
            return Ok(false);
        }
        let (stamps, stored) = (now.clone(), self.good.stored().clone());
        let read = move || {
            let Files { texts, unreadable } = stamps.read();
            Ok((Set::load_over(texts, &stored), unreadable))
        };
        let (loaded, unreadable) = blocking(read).await.map_err(failed)?;
        let next = self.good.next(loaded, &unreadable);
        let mut identities = Identities::default();
        for spec in next.remotes() {
            let (namespace, base_url) = (&spec.namespace, spec.base_url.as_str());
            let identity =
                metadata.ensure_repository(namespace, &spec.name, spec.package_type, base_url).await?;
            identities.insert(namespace, &spec.name, spec.package_type, identity);
        }
        for spec in next.locals() {
            let identity =
                metadata.ensure_repository(&spec.namespace, &spec.name, spec.package_type, "").await?;
            identities.insert(&spec.namespace, &spec.name, spec.package_type, identity);
        }
        united(&next, metadata, &mut identities).await?;
        self.accounts.declare_robots(&next.robots(), next.other_robots()).await?;
        self.good.take_up(app, next, &identities);
        app.set_config_version(0);
        self.seen = Some(now);
        Ok(true)
    }

    /// Follows the directory until `stop`. A failure is logged when it begins, not as long as it lasts.
    pub async fn follow(mut self, app: Arc<App>, metadata: Arc<dyn MetadataStore>, stop: CancellationToken) {
        let (mut told, mut untold) = (None, None);
        while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            let asked = self.meeting.asked().await;
            let failure = self.refresh(&app, &metadata).await.err().map(|error| error.to_string());
            if let Some(asked) = asked.filter(|_| failure.is_none()) {
                let unable = self.meeting.answer(&app, asked).await.err();
                if let Some(error) = unable.as_ref().filter(|_| unable != untold) {
                    tracing::warn!(error);
                }
                untold = unable;
            }
            if let Some(error) = failure.as_ref().filter(|_| failure != told) {
                tracing::error!(error, "the last configuration stays in service");
            }
            told = failure;
        }
    }
}

/// Completes `identities` by where stores know the Virtuals of `next`. They have no cache of their own, only the
/// generations of their merged indexes.
pub(super) async fn united(
    next: &Next,
    metadata: &Arc<dyn MetadataStore>,
    identities: &mut Identities,
) -> Result<(), MetadataError> {
    for spec in next.virtuals().filter(|spec| spec.is_merged()) {
        let (namespace, name, package_type) = (&spec.namespace, &spec.name, spec.package_type);
        if identities.get(namespace, name, package_type).is_none() {
            let identity = metadata.ensure_repository(namespace, name, package_type, "").await?;
            identities.insert(namespace, name, package_type, identity);
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
