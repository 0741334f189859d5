//! Making a generation, or finding the one that a twin has made of the same.

use std::{io::BufReader, iter, sync::Arc, time::Instant};

use artifactapi_formats::{
    IndexError,
    merge::{Inputs, Listed, Member, Signer},
};
use artifactapi_model::{Digest, Hold, Timestamp, failpoint::failpoint, ports::metadata::DerivedRow};
use futures_util::future::try_join_all;
use tokio::runtime::Handle;

use super::{
    Look,
    gather::Gathered,
    generation::{File, Generation},
    staging::{StagedFile, StagedGeneration, Staging},
    state::Current,
};
use crate::{
    Engine,
    blocking::BlockingReader,
    derive::{self, StageWriter},
    error::FetchError,
    pieces::Earlier,
    share::Making,
};

/// Most files of one generation.
const MAX_FILES: usize = 64;
/// Content-Type of stored generations; nobody is sent one.
const DOCUMENT: &str = "text/plain";

impl Engine {
    /// The generation made of `inputs`, where its document is, and since when it is current: from memory, from a twin's
    /// work, or made now from `members`; what has stayed since `last` is not compressed again.
    pub(super) async fn generation(
        self: &Arc<Self>,
        look: &Look,
        inputs: &Digest,
        members: Vec<Gathered>,
        signer: Arc<dyn Signer + Send + Sync>,
        last: Option<&Current>,
    ) -> Result<(Arc<Generation>, DerivedRow, Timestamp), FetchError> {
        let turn = self.derivations.turn(inputs);
        let _turn = turn.lock().await;
        let Look { union, index, .. } = look;
        let _lease = match self.making(inputs, || self.made_generation(inputs)).await? {
            // It is current again, or for the first time here.
            Making::Made((row, generation)) => {
                let since = self.remember(union, index, inputs, &row).await?;
                return Ok((generation, row, since));
            }
            Making::Ours(lease) => lease,
            Making::Left(lease) => Some(lease),
        };
        let began = Instant::now();
        let last = match last {
            Some(last) => self.stored_generation(&last.inputs).await?,
            None => self.last_generation(union, index).await?,
        };
        let earlier = self.earlier_documents(last.as_deref()).await;
        let StagedGeneration { files, listed, aliases } = self.merge(look, members, signer, earlier).await?;
        // Whoever asks for what is nowhere leaves nothing behind, however often and in however many words.
        if !files.iter().any(|file| file.path == index.as_str()) {
            return Err(FetchError::NotFound { gone: false });
        }
        let mut generation = Generation::new(union.members.iter().map(|it| it.spec.name.to_string()));
        let mut bodies = Vec::with_capacity(2 * files.len());
        for StagedFile { path, content_type, plain, gzip, pieces } in files {
            let row = DerivedRow {
                digest: plain.digest,
                size: plain.size,
                gzip: gzip.as_ref().map(|gzip| (gzip.digest, gzip.size)),
                content_type: content_type.to_owned(),
            };
            bodies.extend(iter::once(plain).chain(gzip));
            generation.add(&path, File { row, body: None, gzip: None, pieces });
        }
        let bodies = try_join_all(bodies.into_iter().map(|body| self.keep(body)));
        let (_holds, (generation, row, _hold)) =
            tokio::try_join!(bodies, self.keep_document(generation, listed, aliases))?;
        for (path, file) in generation.files() {
            // Names the bytes, so that they stay for as long as the generation does.
            let key = Digest::of(format!("{inputs}\n{path}").as_bytes());
            self.ports.metadata.put_derived(&key, &file.row, self.ports.clock.now()).await?;
        }
        failpoint("derive.blob.after");
        self.ports.metadata.put_derived(inputs, &row, self.ports.clock.now()).await?;
        failpoint("derive.row.after");
        let since = self.remember(union, index, inputs, &row).await?;
        tracing::info!(
            virtual.base = look.base.prefix,
            virtual.index = %index,
            entries = generation.len(),
            size_bytes = generation.files().map(|(_, file)| file.row.size).sum::<u64>(),
            duration_ms = began.elapsed().as_secs_f64() * 1e3,
            "a merged index was made"
        );
        Ok((self.admit(inputs, generation).await, row, since))
    }

    /// The generation stored under `inputs`, with the row of its document; one whose bytes are gone does not count.
    async fn made_generation(
        self: &Arc<Self>,
        inputs: &Digest,
    ) -> Result<Option<(DerivedRow, Arc<Generation>)>, FetchError> {
        let Some(row) = self.ports.metadata.derived(inputs).await? else { return Ok(None) };
        Ok(self.load(inputs, &row).await?.map(|generation| (row, generation)))
    }

    /// The same for those who need no row of it: what lies in memory is not looked for elsewhere.
    pub(super) async fn stored_generation(
        self: &Arc<Self>,
        inputs: &Digest,
    ) -> Result<Option<Arc<Generation>>, FetchError> {
        match self.merged.generations.get(inputs) {
            Some(generation) => Ok(Some(generation)),
            None => Ok(self.made_generation(inputs).await?.map(|(_, generation)| generation)),
        }
    }

    /// The generation that `current` stands for: from memory, or read once for all who want it. `None` when bytes of it
    /// are gone.
    pub(super) async fn generation_of(
        self: &Arc<Self>,
        current: &Current,
    ) -> Result<Option<Arc<Generation>>, FetchError> {
        let inputs = &current.inputs;
        if let Some(generation) = self.merged.generations.get(inputs) {
            return Ok(Some(generation));
        }
        let turn = self.derivations.turn(inputs);
        let _turn = turn.lock().await;
        self.load(inputs, &current.document).await
    }

    /// The generation whose document is at `row`.
    async fn load(
        self: &Arc<Self>,
        inputs: &Digest,
        row: &DerivedRow,
    ) -> Result<Option<Arc<Generation>>, FetchError> {
        if let Some(generation) = self.merged.generations.get(inputs) {
            return Ok(Some(generation));
        }
        let reader = match self.ports.blobs.open(&row.digest).await.map_err(FetchError::from) {
            Err(error) if error.is_loss() => return Ok(None),
            opened => opened?,
        };
        let (handle, size) = (Handle::current(), row.size);
        let read = move || {
            let mut input = BufReader::with_capacity(256 << 10, BlockingReader::new(reader, size, handle));
            Generation::read(&mut input)
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
            if !self.bodies_are_there(&file.row).await? {
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

    /// The gzip forms of `last` that consist of pieces; those that are gone are left out.
    async fn earlier_documents(self: &Arc<Self>, last: Option<&Generation>) -> Earlier<BlockingReader> {
        let mut earlier = Earlier::default();
        for (_, file) in last.into_iter().flat_map(Generation::files).filter(|(_, it)| !it.pieces.is_empty())
        {
            let Some((digest, size)) = file.row.gzip else { continue };
            let Ok(reader) = self.ports.blobs.open(&digest).await else { continue };
            earlier.add(&file.pieces, BlockingReader::new(reader, size, Handle::current()));
        }
        earlier
    }

    /// What merging `members` writes and lists.
    async fn merge(
        self: &Arc<Self>,
        look: &Look,
        members: Vec<Gathered>,
        signer: Arc<dyn Signer + Send + Sync>,
        earlier: Earlier<BlockingReader>,
    ) -> Result<StagedGeneration, FetchError> {
        let worker = self.worker().await;
        let mut staging = Staging::new(self.ports.blobs.clone(), earlier, Handle::current());
        let Look { union, merge, index, .. } = look.clone();
        let job = move || {
            let _worker = worker;
            let members: Vec<&dyn Member> = members.iter().map(|member| member as &dyn Member).collect();
            let inputs = Inputs { index: &index, members: &members, rules: &*union.rules, signer: &*signer };
            merge.merge(inputs, &mut staging)?;
            let merged = staging.finish()?;
            if merged.files.len() > MAX_FILES {
                return Err(FetchError::from(IndexError::TooLarge("number of files")));
            }
            Ok(merged)
        };
        tokio::task::spawn_blocking(job).await.map_err(|_| FetchError::Abandoned)?
    }

    /// Advertises `listed` and its other names in `generation`, and keeps its document, by whose row all replicas will
    /// find it.
    async fn keep_document(
        self: &Arc<Self>,
        mut generation: Generation,
        listed: Vec<Listed>,
        aliases: Vec<(String, Listed)>,
    ) -> Result<(Generation, DerivedRow, Hold), FetchError> {
        let staged = self.ports.blobs.stage(None).await?;
        let handle = Handle::current();
        let write = move || {
            let is_named = generation.list(listed).and_then(|()| generation.name(aliases));
            is_named.ok_or(IndexError::TooLarge("number of members"))?;
            let mut writer = StageWriter::new(staged, handle);
            generation.write(&mut writer)?;
            Ok::<_, IndexError>((generation, writer.finish()?))
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(|_| FetchError::Abandoned)?;
        let (generation, written) = written?;
        let row = DerivedRow {
            digest: written.digest,
            size: written.size,
            gzip: None,
            content_type: DOCUMENT.to_owned(),
        };
        let hold = self.keep(written).await?;
        Ok((generation, row, hold))
    }

    /// Makes staged bytes durable; the result lives until a row names them.
    async fn keep(self: &Arc<Self>, body: derive::Written) -> Result<Hold, FetchError> {
        let hold = self.announce(&body.digest, body.size).await?;
        body.staged.commit(&body.digest).await?;
        Ok(hold)
    }
}
