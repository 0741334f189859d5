//! Making a generation, or finding the one that a twin has made of the same.

use std::{
    io::{self, BufReader, Write},
    sync::Arc,
    time::Instant,
};

use artifactapi_formats::{
    IndexError, limits,
    merge::{Listed, Member, Output, Signer, Written},
};
use artifactapi_model::{
    Digest, RepoPath,
    failpoint::failpoint,
    ports::{BlobStore, metadata::DerivedRow},
};
use tokio::runtime::Handle;

use super::{
    Look, Union,
    gather::Gathered,
    generation::{File, Generation},
};
use crate::{
    Engine,
    blocking::BlockingReader,
    derive::{self, StageWriter},
    error::FetchError,
};

/// Most files of one generation.
const MAX_FILES: usize = 64;
/// Ends of names of files that compression does not make smaller, or is not worth it for.
const PACKED: [&str; 4] = [".gz", ".xz", ".zst", ".asc"];
/// Content-Type of stored generations; nobody is sent one.
const DOCUMENT: &str = "text/plain";

/// A file that is staged and has its path.
struct Staged {
    path: String,
    content_type: &'static str,
    plain: derive::Written,
    gzip: Option<derive::Written>,
}

/// Takes what a merge writes into the blob store's staging.
struct Outlet {
    blobs: Arc<dyn BlobStore>,
    handle: Handle,
    files: Vec<Staged>,
    last: Option<derive::Written>,
    listed: Vec<Listed>,
}

impl Output for Outlet {
    fn file(
        &mut self,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<Written, IndexError> {
        let stage = || self.handle.block_on(self.blobs.stage(None)).map_err(io::Error::other);
        let mut writer = StageWriter::new(stage()?, self.handle.clone());
        content(&mut writer)?;
        let plain = writer.finish()?;
        let written = Written { digest: plain.digest, size: plain.size };
        self.last = Some(plain);
        Ok(written)
    }

    fn publish(&mut self, path: String, content_type: &'static str) {
        let Some(plain) = self.last.take() else { return };
        self.files.push(Staged { path, content_type, plain, gzip: None });
    }

    fn list(&mut self, listed: Listed) -> Result<(), IndexError> {
        if self.listed.len() >= limits::MAX_ENTRIES {
            return Err(IndexError::TooLarge("number of entries"));
        }
        self.listed.push(listed);
        Ok(())
    }
}

impl Engine {
    /// The generation made of `inputs`: from memory, from a twin's work, or made now from `members`.
    pub(super) async fn generation(
        self: &Arc<Self>,
        look: &Look,
        inputs: &Digest,
        members: Vec<Gathered>,
        signer: Arc<dyn Signer + Send + Sync>,
    ) -> Result<Arc<Generation>, FetchError> {
        let turn = self.derivations.turn(inputs);
        let _turn = turn.lock().await;
        let Look { union, index, .. } = look;
        if let Some(generation) = self.stored_generation(inputs).await? {
            // It is current again, or for the first time here.
            if let Some(row) = self.ports.metadata.derived(inputs).await? {
                self.remember(union, index, inputs, &row).await?;
            }
            return Ok(generation);
        }
        let began = Instant::now();
        let outlet = self.merge(look, members, signer).await?;
        let mut generation =
            Generation::new(union.members.iter().map(|it| it.spec.name.to_string()), self.ports.clock.now());
        for file in outlet.files {
            let row = self.keep(file.plain, file.gzip, file.content_type).await?;
            // Names the bytes, so that they stay for as long as the generation does.
            let key = Digest::of(format!("{inputs}\n{}", file.path).as_bytes());
            self.ports.metadata.put_derived(&key, &row, self.ports.clock.now()).await?;
            generation.add(&file.path, File { row, body: None, gzip: None });
        }
        for Listed { path, member } in outlet.listed {
            let member = u16::try_from(member).map_err(|_| IndexError::TooLarge("number of members"))?;
            generation.list(&path, member);
        }
        failpoint("derive.blob.after");
        self.record(union, index, inputs, &generation).await?;
        tracing::info!(
            virtual.base = look.base.prefix,
            virtual.index = %index,
            entries = generation.len(),
            size_bytes = generation.files().map(|(_, file)| file.row.size).sum::<u64>(),
            duration_ms = began.elapsed().as_secs_f64() * 1e3,
            "a merged index was made"
        );
        Ok(self.admit(inputs, generation).await)
    }

    /// The generation stored under `inputs`; one whose bytes are gone does not count.
    pub(super) async fn stored_generation(
        self: &Arc<Self>,
        inputs: &Digest,
    ) -> Result<Option<Arc<Generation>>, FetchError> {
        if let Some(generation) = self.merged.generations.get(inputs) {
            return Ok(Some(generation));
        }
        let Some(row) = self.ports.metadata.derived(inputs).await? else { return Ok(None) };
        let Ok(reader) = self.ports.blobs.open(&row.digest).await else { return Ok(None) };
        let (handle, now, size) = (Handle::current(), self.ports.clock.now(), row.size);
        let read = move || {
            let mut input = BufReader::with_capacity(256 << 10, BlockingReader::new(reader, size, handle));
            Generation::read(&mut input, now)
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| FetchError::Abandoned)?;
        let generation = match read {
            Ok(generation) => generation,
            Err(error) => {
                tracing::warn!(%inputs, %error, "a stored generation cannot be read and is made anew");
                self.ports.metadata.forget_derived(inputs).await?;
                return Ok(None);
            }
        };
        for (_, file) in generation.files() {
            if self.ports.blobs.size(&file.row.digest).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(self.admit(inputs, generation).await))
    }

    /// Keeps `generation` in memory, with the bodies that are small.
    async fn admit(&self, inputs: &Digest, mut generation: Generation) -> Arc<Generation> {
        for file in generation.files_mut() {
            file.body = self.small_body(&file.row.digest, file.row.size).await;
            if let Some((digest, size)) = file.row.gzip {
                file.gzip = self.small_body(&digest, size).await;
            }
        }
        let generation = Arc::new(generation);
        self.merged.generations.insert(*inputs, generation.clone());
        generation
    }

    async fn merge(
        self: &Arc<Self>,
        look: &Look,
        members: Vec<Gathered>,
        signer: Arc<dyn Signer + Send + Sync>,
    ) -> Result<Outlet, FetchError> {
        let worker = self.worker().await;
        let mut outlet = Outlet {
            blobs: self.ports.blobs.clone(),
            handle: Handle::current(),
            files: Vec::new(),
            last: None,
            listed: Vec::new(),
        };
        let Look { union, merge, index, .. } = look.clone();
        let job = move || {
            let _worker = worker;
            let members: Vec<&dyn Member> = members.iter().map(|member| member as &dyn Member).collect();
            merge.merge(&index, &members, &*union.rules, &*signer, &mut outlet)?;
            if outlet.files.len() > MAX_FILES {
                return Err(FetchError::from(IndexError::TooLarge("number of files")));
            }
            let Outlet { files, blobs, handle, .. } = &mut outlet;
            for file in files {
                if !PACKED.iter().any(|end| file.path.ends_with(end)) {
                    let packed = handle.block_on(blobs.stage(None))?;
                    file.gzip = derive::compressed(&file.plain, packed, handle)?;
                }
            }
            Ok(outlet)
        };
        tokio::task::spawn_blocking(job).await.map_err(|_| FetchError::Abandoned)?
    }

    /// Stores the generation's own document, which makes it one for all replicas.
    async fn record(
        self: &Arc<Self>,
        union: &Union,
        index: &RepoPath,
        inputs: &Digest,
        generation: &Generation,
    ) -> Result<(), FetchError> {
        let staged = self.ports.blobs.stage(None).await?;
        let (text, handle) = (generation.document(), Handle::current());
        let write = move || {
            let mut writer = StageWriter::new(staged, handle);
            writer.write_all(text.as_bytes())?;
            writer.finish()
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(|_| FetchError::Abandoned)?;
        let written = written.map_err(IndexError::from)?;
        let row = self.keep(written, None, DOCUMENT).await?;
        self.ports.metadata.put_derived(inputs, &row, self.ports.clock.now()).await?;
        failpoint("derive.row.after");
        self.remember(union, index, inputs, &row).await
    }

    /// Makes staged bytes durable.
    async fn keep(
        self: &Arc<Self>,
        plain: derive::Written,
        gzip: Option<derive::Written>,
        content_type: &str,
    ) -> Result<DerivedRow, FetchError> {
        let (digest, size) = (plain.digest, plain.size);
        self.announce(&digest, size).await?;
        plain.staged.commit(&digest).await?;
        let gzip = match gzip {
            Some(gzip) => {
                self.announce(&gzip.digest, gzip.size).await?;
                gzip.staged.commit(&gzip.digest).await?;
                Some((gzip.digest, gzip.size))
            }
            None => None,
        };
        Ok(DerivedRow { digest, size, gzip, content_type: content_type.to_owned() })
    }
}
