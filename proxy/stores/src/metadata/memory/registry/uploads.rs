//! Pushes under way, in memory.

use std::time::Duration;

use artifactapi_model::{
    RepoId, Timestamp,
    oci::OciDigest,
    ports::{
        MetadataError,
        registry::{
            Begun, Claim, ClosedUpload, EndedUpload, ImageKey, Linking, UploadLimits, UploadProgress,
            UploadSessions, UploadState,
        },
        uploads::{Place, UploadId},
    },
};
use async_trait::async_trait;

use super::{super::MemoryMetadata, Rows, is_over};

/// What a session is at; an ended one waits for its bytes to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closed(OciDigest),
    Ended,
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    image: ImageKey,
    state: State,
    progress: UploadProgress,
    /// Who has claimed it, until when, and whether the one before did not give it back.
    writer: Option<String>,
    until: Timestamp,
    taken_over: bool,
    /// Who gave it back last.
    left_by: Option<String>,
    touched: Timestamp,
}

impl Upload {
    fn is_busy(&self, now: Timestamp) -> bool {
        self.writer.is_some() && self.until > now
    }

    /// No session any more.
    pub(super) fn end(&mut self) -> bool {
        let was_there = self.state != State::Ended;
        (self.state, self.writer) = (State::Ended, None);
        was_there
    }

    pub(super) fn is_of(&self, repo: RepoId) -> bool {
        self.image.repo == repo
    }
}

impl Rows {
    /// How many sessions of a Local are open, and the bytes they have.
    fn open(&self, repo: RepoId) -> (u64, u64) {
        let open = self.uploads.values().filter(|upload| upload.is_of(repo) && upload.state == State::Open);
        open.fold((0, 0), |(count, bytes), upload| (count + 1, bytes + upload.progress.offset))
    }

    fn is_place(&self, id: &UploadId) -> bool {
        let place = Place(format!("uploads/{id}"));
        self.retired.contains_key(&place) || self.places.values().any(|known| *known == place)
    }

    fn session(&mut self, image: &ImageKey, id: &UploadId) -> Option<&mut Upload> {
        self.uploads.get_mut(id).filter(|upload| upload.image == *image && upload.state != State::Ended)
    }
}

#[async_trait]
impl UploadSessions for MemoryMetadata {
    async fn begin_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        limits: &UploadLimits,
    ) -> Result<Begun, MetadataError> {
        let mut tables = self.tables()?;
        let touched = tables.now();
        let rows = &mut tables.registry;
        if let Some(known) = rows.uploads.get(id) {
            if known.image == *image && known.state == State::Open {
                return Ok(Begun::Started);
            }
            let message = "its id is taken".into();
            return Err(MetadataError::Failed { doing: "opening an upload", message });
        }
        let (sessions, bytes) = rows.open(image.repo);
        if sessions >= limits.sessions {
            return Ok(Begun::TooMany);
        }
        if limits.quota.is_some_and(|quota| rows.usage(image.repo) + bytes >= quota) {
            return Ok(Begun::OverQuota);
        }
        let upload = Upload {
            image: image.clone(),
            state: State::Open,
            progress: UploadProgress::default(),
            writer: None,
            until: touched,
            taken_over: false,
            left_by: None,
            touched,
        };
        rows.uploads.insert(id.clone(), upload);
        Ok(Begun::Started)
    }

    async fn upload(&self, image: &ImageKey, id: &UploadId) -> Result<Option<UploadState>, MetadataError> {
        let mut tables = self.tables()?;
        Ok(tables.registry.session(image, id).and_then(|upload| match upload.state {
            State::Open => Some(UploadState::Open(upload.progress.clone())),
            State::Closed(digest) => Some(UploadState::Closed(digest)),
            State::Ended => None,
        }))
    }

    async fn claim_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        writer: &str,
        lease: Duration,
    ) -> Result<Claim, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let Some(upload) = tables.registry.session(image, id) else { return Ok(Claim::Unknown) };
        if let State::Closed(digest) = upload.state {
            return Ok(Claim::Closed(digest));
        }
        let is_own = upload.writer.as_deref() == Some(writer);
        if upload.is_busy(now) && !is_own {
            return Ok(Claim::Busy(upload.progress.clone()));
        }
        upload.taken_over = upload.writer.is_some() && (!is_own || upload.taken_over);
        (upload.writer, upload.until) = (Some(writer.to_owned()), now + lease);
        (upload.left_by, upload.touched) = (None, now);
        Ok(Claim::Taken { progress: upload.progress.clone(), took_over: upload.taken_over })
    }

    async fn save_upload(
        &self,
        id: &UploadId,
        writer: &str,
        progress: &UploadProgress,
        lease: Option<Duration>,
    ) -> Result<bool, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let open = tables.registry.uploads.get_mut(id).filter(|upload| upload.state == State::Open);
        let Some(upload) = open else { return Ok(false) };
        // Said a second time, since nobody knew what became of the first.
        let again = lease.is_none()
            && upload.writer.is_none()
            && upload.left_by.as_deref() == Some(writer)
            && upload.progress == *progress;
        if upload.writer.as_deref() != Some(writer) && !again {
            return Ok(false);
        }
        upload.progress = progress.clone();
        upload.touched = now;
        match lease {
            Some(lease) => upload.until = now + lease,
            None => (upload.writer, upload.left_by) = (None, Some(writer.to_owned())),
        }
        Ok(true)
    }

    async fn has_room(&self, repo: RepoId, more: u64, quota: u64) -> Result<bool, MetadataError> {
        let tables = self.tables()?;
        let used = tables.registry.usage(repo) + tables.registry.open(repo).1;
        Ok(used.saturating_add(more) <= quota)
    }

    async fn close_upload(
        &self,
        image: &ImageKey,
        id: &UploadId,
        writer: &str,
        body: &ClosedUpload,
        quota: Option<u64>,
    ) -> Result<Linking, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let session = tables.registry.session(image, id);
        let Some(upload) = session.filter(|upload| upload.writer.as_deref() == Some(writer)) else {
            return Ok(Linking::Missing);
        };
        if let State::Closed(digest) = upload.state {
            return Ok(if digest == body.digest { Linking::Linked } else { Linking::Missing });
        }
        let linking = tables.link(image, &body.digest, (body.blob, body.size), quota);
        if linking == Linking::Linked {
            tables.registry.set_place(&body.blob, body.place.clone(), now);
            if let Some(upload) = tables.registry.uploads.get_mut(id) {
                (upload.state, upload.touched) = (State::Closed(body.digest), now);
            }
        }
        Ok(linking)
    }

    async fn cancel_upload(&self, image: &ImageKey, id: &UploadId) -> Result<bool, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let open = tables.registry.session(image, id).filter(|upload| upload.state == State::Open);
        Ok(open.is_some_and(|upload| {
            upload.touched = now;
            upload.end()
        }))
    }

    async fn ended_uploads(&self, idle: Duration, limit: usize) -> Result<Vec<EndedUpload>, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let rows = &mut tables.registry;
        let mut idlers: Vec<_> = rows
            .uploads
            .values_mut()
            .filter(|upload| upload.state == State::Open && !upload.is_busy(now))
            .filter(|upload| is_over(upload.touched, idle, now))
            .collect();
        idlers.sort_by_key(|upload| upload.touched);
        for upload in idlers.into_iter().take(limit) {
            upload.end();
        }
        let mut ended: Vec<_> = rows
            .uploads
            .iter()
            .filter(|(_, upload)| match upload.state {
                State::Open => false,
                State::Closed(_) => is_over(upload.touched, idle, now),
                State::Ended => true,
            })
            .map(|(id, upload)| (upload.touched, id, &upload.progress.stored))
            .collect();
        ended.sort_by_key(|(touched, id, _)| (*touched, *id));
        let ended = ended.into_iter().take(limit).map(|(_, id, stored)| EndedUpload {
            id: id.clone(),
            stored: stored.clone(),
            placed: rows.is_place(id),
        });
        Ok(ended.collect())
    }

    async fn forget_upload(&self, id: &UploadId) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        if tables.registry.uploads.get(id).is_some_and(|upload| upload.state != State::Open) {
            tables.registry.uploads.remove(id);
        }
        Ok(())
    }

    async fn known_uploads(&self, ids: &[UploadId]) -> Result<Vec<UploadId>, MetadataError> {
        let tables = self.tables()?;
        let rows = &tables.registry;
        let known = ids.iter().filter(|id| rows.uploads.contains_key(id) || rows.is_place(id));
        Ok(known.cloned().collect())
    }
}
