//! A tag that is asked for by HEAD, as dockerd and containerd do before they fetch the manifest by its digest: without a
//! row of its own every pull would ask upstream for it, and fail with it.

use std::sync::Arc;

use artifactapi_formats::{Method, Plan, Request, Resource, format_of};
use artifactapi_model::{
    ArtifactKey, Remote,
    ports::metadata::{ArtifactRow, Committed},
};

use crate::{Engine, error::FetchError, fetch::Need, fill::Head, hot::HotEntry};

impl Engine {
    /// Upstream has said by HEAD which manifest `resource`, a tag, names: it is fetched by that digest, which the client
    /// is about to do and which costs no more (RS-92), and recorded for the tag under `fetch_seq`, which was taken before
    /// the HEAD.
    pub(crate) async fn remember_tag(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        key: &ArtifactKey,
        head: &Head,
        fetch_seq: i64,
    ) -> Result<(), FetchError> {
        let (Some(tag), Some(digest)) = (&resource.tag, head.header("docker-content-digest")) else {
            return Ok(());
        };
        let Some(prefix) = resource.path.as_str().strip_suffix(tag.as_str()) else { return Ok(()) };
        let path = format!("{prefix}{digest}");
        let request = Request { method: Method::Get, raw_path: &path, query: "", accept: "" };
        let Plan::Serve(by_digest) =
            format_of(remote.spec.package_type).plan(&request, &remote.spec, &self.links)?
        else {
            return Ok(());
        };
        Self::permit(remote, &by_digest)?;
        let entry = self.obtain(remote, &by_digest, Need::Whole { depth: 0 }).await?.into_entry()?;
        let now = self.ports.clock.now();
        let row = ArtifactRow {
            mutability: head.mutability,
            headers: head.headers.clone(),
            source_url: head.source_url.clone(),
            checked_at: now,
            stored_at: now,
            fetch_seq,
            ..entry.row.clone()
        };
        let _hold = self.announce(&row.digest, row.size).await?;
        if self.ports.metadata.commit_artifact(key, &row).await? == Committed::Stored {
            self.tell_changed(key);
            self.hot.put(key.clone(), HotEntry::new(row, entry.body.clone(), now));
            self.negative.remove(key);
        }
        Ok(())
    }
}
