//! What was pushed to Locals whose manifest is gone and said so (`deletionPolicy: Purge`) is deleted, after a while
//! and unless they come back.

use std::{collections::HashMap, sync::Arc, time::Duration};

use artifactapi_model::{Local, RepoId, ports::RegistryStore};
use artifactapi_registry::sweep;
use tokio_util::sync::CancellationToken;

/// How long a Local is away before what was pushed to it is deleted: a volume that is not mounted for a moment, or a
/// manifest that is replaced by deleting it first, must cost nothing.
const AFTER: Duration = Duration::from_secs(600);

/// Locals that are gone and are to be purged.
///
/// One that was deleted while no proxy ran, or less than the wait before it ended, is kept, to be purged by name.
pub(super) struct Purges {
    after: Duration,
    /// Cancelled when the Local is back, and when nothing is left to do.
    pending: HashMap<RepoId, CancellationToken>,
}

impl Default for Purges {
    fn default() -> Self {
        Purges { after: AFTER, pending: HashMap::new() }
    }
}

impl Purges {
    /// With a wait of ten minutes, or of `grace`, whichever is shorter: a short grace period is for those who want
    /// everything sooner.
    pub(super) fn within(grace: Duration) -> Self {
        Purges { after: AFTER.min(grace), pending: HashMap::new() }
    }

    /// `local` is gone.
    pub(super) fn gone(&mut self, rows: &Arc<dyn RegistryStore>, local: Local) {
        self.pending.retain(|_, stop| !stop.is_cancelled());
        let stop = CancellationToken::new();
        if let Some(before) = self.pending.insert(local.identity.id, stop.clone()) {
            before.cancel();
        }
        let (rows, after) = (rows.clone(), self.after);
        tokio::spawn(async move {
            if stop.run_until_cancelled(tokio::time::sleep(after)).await.is_some() {
                purge(&*rows, &local, &stop).await;
                stop.cancel();
            }
        });
    }

    /// `repo` is there: whatever was to be purged of it is not any more.
    pub(super) fn back(&mut self, repo: RepoId) {
        if let Some(stop) = self.pending.remove(&repo) {
            stop.cancel();
        }
    }
}

impl Drop for Purges {
    fn drop(&mut self) {
        self.pending.values().for_each(CancellationToken::cancel);
    }
}

async fn purge(rows: &dyn RegistryStore, local: &Local, stop: &CancellationToken) {
    let name = &local.spec.name;
    let (mut count, mut gone) = (0, 1);
    while gone > 0 {
        if stop.is_cancelled() {
            tracing::info!(local.name = %name, rows = count, "a deleted Local is back: it is purged no further");
            return;
        }
        gone = match rows.purge_local(local.identity.id, sweep::STEP).await {
            Ok(gone) => gone,
            Err(error) => {
                tracing::error!(
                    local.name = %name, error = %error, "a deleted Local is not purged; `artifactapi purge` does it"
                );
                return;
            }
        };
        count += gone;
    }
    tracing::info!(local.name = %name, rows = count, "a deleted Local is purged");
}

#[cfg(test)]
mod tests {
    use artifactapi_model::{
        PackageType, RepoName,
        policy::Patterns,
        ports::{
            MetadataStore as _, UploadId, UploadSessions as _,
            registry::{Begun, ImageKey, UploadLimits},
        },
        repository::{Deletion, LocalSpec, ReadAccess},
    };
    use artifactapi_stores::MemoryMetadata;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A Local with something in it.
    struct Pushed {
        rows: Arc<MemoryMetadata>,
        local: Local,
        image: ImageKey,
        upload: UploadId,
    }

    impl Pushed {
        async fn new() -> Self {
            let rows = Arc::new(MemoryMetadata::default());
            let name: RepoName = "pushed".parse().unwrap();
            let identity = rows.ensure_repository("default", &name, PackageType::Docker, "").await.unwrap();
            let spec = LocalSpec {
                name,
                namespace: "default".into(),
                package_type: PackageType::Docker,
                read: ReadAccess::Anonymous,
                anonymous_write: true,
                read_only: false,
                allow_deletes: true,
                immutable_tags: Patterns::default(),
                untagged_ttl: None,
                terraform_protocols: vec![],
                quota: None,
                deletion: Deletion::Purge,
            };
            let local = Local { identity, spec: Arc::new(spec) };
            let image = ImageKey { repo: identity.id, name: "app".parse().unwrap() };
            let upload = UploadId::of([7; 16]);
            let limits = UploadLimits { sessions: 9, quota: None };
            assert_eq!(rows.begin_upload(&image, &upload, &limits).await.unwrap(), Begun::Started);
            Pushed { rows, local, image, upload }
        }

        fn gone(&self, purges: &mut Purges) {
            let rows: Arc<dyn RegistryStore> = self.rows.clone();
            purges.gone(&rows, self.local.clone());
        }

        async fn is_there(&self) -> bool {
            self.rows.upload(&self.image, &self.upload).await.unwrap().is_some()
        }
    }

    /// Lets `time` pass, and whatever was due do its work.
    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_for_ten_minutes_is_purged_and_not_before() {
        for grace in [Duration::from_secs(24 * 3600), AFTER] {
            let pushed = Pushed::new().await;
            let mut purges = Purges::within(grace);
            pushed.gone(&mut purges);
            pass(AFTER - SECOND).await;
            assert!(pushed.is_there().await);
            pass(2 * SECOND).await;
            assert!(!pushed.is_there().await);
        }
        let pushed = Pushed::new().await;
        let mut purges = Purges::within(5 * SECOND);
        pushed.gone(&mut purges);
        pass(6 * SECOND).await;
        assert!(!pushed.is_there().await, "a short grace period makes it sooner");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_back_is_kept_and_each_absence_counts_for_itself() {
        let pushed = Pushed::new().await;
        let mut purges = Purges::default();
        pushed.gone(&mut purges);
        pass(AFTER - 2 * SECOND).await;
        purges.back(pushed.local.identity.id);
        pass(SECOND).await;
        // Away again, when the first absence would have been long enough.
        pushed.gone(&mut purges);
        pass(2 * AFTER / 3).await;
        assert!(pushed.is_there().await, "away for less than ten minutes");
        purges.back(pushed.local.identity.id);
        pass(2 * AFTER).await;
        assert!(pushed.is_there().await, "it is back");
        pushed.gone(&mut purges);
        drop(purges);
        pass(2 * AFTER).await;
        assert!(pushed.is_there().await, "the proxy ended before");
    }
}
