//! Derived documents: a rewritten index is a pure function of the stored one, the format's code and our
//! base. It is made once as a stream, stored under the digest of all that, and compressed once.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read as _, Write},
    sync::{Arc, Mutex, PoisonError},
};

use artifactapi_formats::{
    IndexError, LinkSigner, PublicBase, Resource, RewriteContext, Source, format_of, limits,
};
use artifactapi_model::{
    Digest, Hasher, Hold, Remote,
    failpoint::failpoint,
    ports::{BlobReader, StagedBlob, metadata::DerivedRow},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit};

use crate::{
    Engine,
    blocking::BlockingReader,
    error::FetchError,
    facts::source_url,
    hot::{HotDerived, HotEntry},
    share::Making,
};

/// Documents below this size are not worth compressing, in bytes.
const MIN_GZIP: u64 = 1024;
/// Documents from this size on are made by one replica for all, in bytes.
const MIN_LEASED: u64 = 1 << 20;
/// Raised when derivation itself (not a format) changes its output.
const SCHEME: u32 = 1;

/// Rewrites under way, so that each is made once.
#[derive(Default)]
pub(crate) struct Derivations(Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>);

impl Derivations {
    pub(crate) fn turn(&self, inputs: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(*inputs).or_default().clone()
    }
}

/// Everything that a rewrite depends on.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) resource: &'a Resource,
    pub(crate) base: &'a PublicBase,
    pub(crate) entry: &'a HotEntry,
    pub(crate) links: &'a LinkSigner,
}

impl Inputs<'_> {
    /// Hands what a rewrite may depend on to `rewrite`.
    fn with_context<T>(&self, rewrite: impl FnOnce(&RewriteContext<'_>) -> T) -> T {
        let Inputs { remote, base, links, .. } = *self;
        let permits = |path: &str| Engine::permits(remote, path, links);
        rewrite(&RewriteContext { base, links, remote: &remote.spec, permits: &permits })
    }

    /// The key of the derived document.
    pub(crate) fn digest(&self) -> Digest {
        let format = format_of(self.remote.spec.package_type);
        let row = &self.entry.row;
        let fingerprint = self.with_context(|cx| format.fingerprint(cx));
        let text = format!(
            "{SCHEME}\n{}\n{}\n{}\n{}?{}\n{}\n{}\n{}\n{}\n{}",
            format.package_type(),
            format.version(),
            self.resource.representation.map_or("", |representation| representation.0),
            self.resource.path,
            self.resource.query,
            row.digest,
            row.source_url,
            row.header("content-type").unwrap_or_default(),
            self.remote.identity.id.0,
            fingerprint,
        );
        Digest::of(text.as_bytes())
    }
}

impl Engine {
    /// The document that `resource`'s representation makes of `entry`, and the key it is stored under.
    pub(crate) async fn derive(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
        entry: &Arc<HotEntry>,
    ) -> Result<(Digest, Arc<HotDerived>), FetchError> {
        let inputs = self.inputs(remote, resource, base, entry).digest();
        if let Some(derived) = self.hot.derived(&inputs) {
            return Ok((inputs, derived));
        }
        let turn = self.derivations.turn(&inputs);
        let _turn = turn.lock().await;
        if let Some(derived) = self.hot.derived(&inputs) {
            return Ok((inputs, derived));
        }
        let stored = || self.stored_derived(&inputs);
        let making = match entry.row.size {
            // Made sooner than waited for.
            ..MIN_LEASED => stored().await?.map_or(Making::Ours(None), Making::Made),
            MIN_LEASED.. => self.making(&inputs, stored).await?,
        };
        let row = match making {
            Making::Made(row) => row,
            Making::Ours(_) | Making::Left(_) => self.make(remote, resource, base, entry, &inputs).await?,
        };
        let body = self.small_body(&row.digest, row.size).await;
        let gzip = match row.gzip {
            Some((digest, size)) => self.small_body(&digest, size).await,
            None => None,
        };
        let derived = Arc::new(HotDerived { row, body, gzip });
        self.hot.put_derived(inputs, derived.clone());
        Ok((inputs, derived))
    }

    /// The bytes of a stored body that is small enough to be kept in memory.
    pub(crate) async fn small_body(&self, digest: &Digest, size: u64) -> Option<Bytes> {
        if size <= self.options.small_body { self.read_small(digest, size).await } else { None }
    }

    /// The row of the document made of `inputs`; one whose bytes are gone does not count.
    async fn stored_derived(&self, inputs: &Digest) -> Result<Option<DerivedRow>, FetchError> {
        match self.ports.metadata.derived(inputs).await? {
            Some(row) if self.bodies_are_there(&row).await? => Ok(Some(row)),
            _ => Ok(None),
        }
    }

    /// Whether the store has the bytes of `row` in all of its forms.
    pub(crate) async fn bodies_are_there(&self, row: &DerivedRow) -> Result<bool, FetchError> {
        for digest in std::iter::once(row.digest).chain(row.gzip.map(|(digest, _)| digest)) {
            if self.ports.blobs.size(&digest).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A place on the blocking pool; bounds how many indexes are parsed at once.
    pub(crate) async fn worker(&self) -> Option<OwnedSemaphorePermit> {
        self.workers.clone().acquire_owned().await.ok()
    }

    async fn make(
        self: &Arc<Self>,
        remote: &Remote,
        resource: &Resource,
        base: &PublicBase,
        entry: &Arc<HotEntry>,
        inputs: &Digest,
    ) -> Result<DerivedRow, FetchError> {
        let worker = self.worker().await;
        let source = self.source_of(&Self::key(remote, resource), entry).await?;
        let plain = self.ports.blobs.stage(None).await?;
        let packed = self.ports.blobs.stage(None).await?;
        let (engine, handle) = (self.clone(), Handle::current());
        let (remote, resource, base, entry) = (remote.clone(), resource.clone(), base.clone(), entry.clone());
        let job = move || {
            let _worker = worker;
            let inputs = Inputs {
                remote: &remote,
                resource: &resource,
                base: &base,
                entry: &entry,
                links: &engine.links,
            };
            rewrite(&inputs, source, plain, packed, &handle)
        };
        let made = tokio::task::spawn_blocking(job).await.map_err(|_| FetchError::Abandoned)??;
        let _hold = self.announce(&made.plain.digest, made.plain.size).await?;
        failpoint("derive.blob.before");
        made.plain.staged.commit(&made.plain.digest).await?;
        failpoint("derive.blob.after");
        let (gzip, _packed) = match made.gzip {
            Some(gzip) => {
                let hold = self.announce(&gzip.digest, gzip.size).await?;
                gzip.staged.commit(&gzip.digest).await?;
                (Some((gzip.digest, gzip.size)), hold)
            }
            None => (None, Hold::default()),
        };
        let row = DerivedRow {
            digest: made.plain.digest,
            size: made.plain.size,
            gzip,
            content_type: made.content_type,
        };
        self.ports.metadata.put_derived(inputs, &row, self.ports.clock.now()).await?;
        failpoint("derive.row.after");
        Ok(row)
    }

    /// Drops derived documents whose bytes are gone.
    pub(crate) async fn forget_derived(&self, digest: &Digest) -> Result<(), FetchError> {
        for inputs in self.merged.forget(digest) {
            self.ports.metadata.forget_derived(&inputs).await?;
        }
        for inputs in self.hot.derived_with(digest) {
            self.hot.remove_derived(&inputs);
            self.ports.metadata.forget_derived(&inputs).await?;
        }
        Ok(())
    }
}

struct Made {
    plain: Written,
    gzip: Option<Written>,
    content_type: String,
}

/// A staged body, not durable yet.
pub(crate) struct Written {
    pub(crate) staged: Box<dyn StagedBlob>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

fn rewrite(
    inputs: &Inputs<'_>,
    source: Arc<dyn BlobReader>,
    plain: Box<dyn StagedBlob>,
    packed: Box<dyn StagedBlob>,
    handle: &Handle,
) -> Result<Made, FetchError> {
    let row = &inputs.entry.row;
    let url = source_url(inputs.remote, inputs.entry);
    let document = Source {
        path: &inputs.resource.path,
        query: &inputs.resource.query,
        content_type: row.header("content-type").unwrap_or_default(),
        url: &url,
    };
    let format = format_of(inputs.remote.spec.package_type);
    let mut input =
        BufReader::with_capacity(256 << 10, BlockingReader::new(source, row.size, handle.clone()));
    let mut output = StageWriter::new(plain, handle.clone());
    let content_type =
        inputs.with_context(|cx| format.rewrite(inputs.resource, &document, cx, &mut input, &mut output))?;
    let plain = output.finish().map_err(IndexError::from)?;
    let gzip = compressed(&plain, packed, handle)?;
    Ok(Made { plain, gzip, content_type })
}

/// The gzip form of `plain`, written to `packed`; `None` when it is not worth it.
pub(crate) fn compressed(
    plain: &Written,
    packed: Box<dyn StagedBlob>,
    handle: &Handle,
) -> Result<Option<Written>, IndexError> {
    if plain.size < MIN_GZIP {
        return Ok(None);
    }
    let gzip = compress(plain, packed, handle)?;
    Ok(Some(gzip).filter(|gzip| gzip.size < plain.size))
}

fn compress(plain: &Written, packed: Box<dyn StagedBlob>, handle: &Handle) -> io::Result<Written> {
    let reader = BlockingReader::new(plain.staged.reader(), plain.size, handle.clone());
    let mut encoder = GzEncoder::new(StageWriter::new(packed, handle.clone()), Compression::default());
    io::copy(&mut reader.take(plain.size), &mut encoder)?;
    encoder.finish()?.finish()
}

/// Sees every block that is written.
type Tap<'t> = dyn FnMut(&Bytes) + 't;

/// A staged blob as `Write`, for the blocking pool.
pub(crate) struct StageWriter<'t> {
    staged: Box<dyn StagedBlob>,
    buffer: Vec<u8>,
    hasher: Hasher,
    written: u64,
    handle: Handle,
    tap: Option<&'t mut Tap<'t>>,
}

impl<'t> StageWriter<'t> {
    const BLOCK: usize = 256 << 10;

    pub(crate) fn new(staged: Box<dyn StagedBlob>, handle: Handle) -> Self {
        StageWriter {
            staged,
            buffer: Vec::with_capacity(Self::BLOCK),
            hasher: Hasher::for_checksums(&[]),
            written: 0,
            handle,
            tap: None,
        }
    }

    /// Shows `tap` every block too.
    pub(crate) fn with_tap(self, tap: &'t mut Tap<'t>) -> Self {
        StageWriter { tap: Some(tap), ..self }
    }

    fn drain(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let block = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(Self::BLOCK)));
        self.hasher.update(&block);
        self.written += block.len() as u64;
        if self.written > limits::MAX_INFLATED {
            return Err(limits::breached("size of the rewritten index"));
        }
        if let Some(tap) = &mut self.tap {
            tap(&block);
        }
        self.handle.block_on(self.staged.write(block)).map_err(io::Error::other)
    }

    pub(crate) fn finish(mut self) -> io::Result<Written> {
        self.drain()?;
        let hashed = self.hasher.finish();
        Ok(Written { staged: self.staged, digest: hashed.digest, size: hashed.size })
    }
}

impl Write for StageWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::BLOCK {
            self.drain()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
