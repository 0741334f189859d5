//! Bytes of one body in large blocks, with one block read ahead and a budget over all streams.
//!
//! The first block is small so that the first byte leaves early; the later ones are as large as the budget
//! allows, since each costs one hop to a reading thread and one system call to send.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use artifactapi_engine::GrowingBody;
use artifactapi_model::ports::{BlobReader, blobs::MAX_READ};
use bytes::Bytes;

use super::{body::BodyFault, range::Span};

/// Bytes that all streams together may hold in blocks.
const BUDGET: usize = 48 << 20;
/// Blocks a stream may hold: one being sent, one queued behind it, one read ahead.
const PER_STREAM: usize = 3;
/// Smallest block.
const SMALLEST: usize = 64 << 10;
/// First block of a stream.
const FIRST: usize = 256 << 10;
/// A range answered from a body that is being fetched holds back this much of its own tail until the whole
/// body is verified.
const HOLD_BACK: u64 = 64 << 10;

/// How many streams share the memory for blocks.
#[derive(Debug, Default)]
pub struct Budget {
    streams: AtomicUsize,
}

impl Budget {
    /// Block size for each stream now, in bytes: a power of two, as stores keep buffers, so that a block takes
    /// no more memory than it is long.
    fn block(&self) -> usize {
        let streams = self.streams.load(Relaxed).max(1);
        let share = (BUDGET / (PER_STREAM * streams)).clamp(SMALLEST, MAX_READ);
        1 << share.ilog2()
    }
}

/// Where blocks come from.
enum Origin {
    Stored(Arc<dyn BlobReader>),
    Growing { body: GrowingBody, hold_from: u64 },
}

type Reading = Pin<Box<dyn Future<Output = Result<Bytes, BodyFault>> + Send>>;

enum Next {
    Nothing,
    Coming(Reading),
    Here(Result<Bytes, BodyFault>),
}

/// A stream of blocks over a part of a body.
pub struct Blocks {
    origin: Origin,
    offset: u64,
    /// Where to stop; `None` stops where the body ends.
    end: Option<u64>,
    started: bool,
    next: Next,
    budget: Arc<Budget>,
}

impl Blocks {
    /// Over `span` of a stored body.
    pub fn stored(reader: Arc<dyn BlobReader>, span: Span, budget: &Arc<Budget>) -> Self {
        Self::new(Origin::Stored(reader), span.start, Some(span.end), budget)
    }

    /// Over all of a body that is being fetched; `size` where it is announced.
    pub fn growing(body: GrowingBody, size: Option<u64>, budget: &Arc<Budget>) -> Self {
        Self::new(Origin::Growing { body, hold_from: u64::MAX }, 0, size, budget)
    }

    /// Over `span` of a body that is being fetched.
    pub fn growing_span(body: GrowingBody, span: Span, budget: &Arc<Budget>) -> Self {
        let hold_from = span.end.saturating_sub(HOLD_BACK).max(span.start);
        Self::new(Origin::Growing { body, hold_from }, span.start, Some(span.end), budget)
    }

    fn new(origin: Origin, offset: u64, end: Option<u64>, budget: &Arc<Budget>) -> Self {
        budget.streams.fetch_add(1, Relaxed);
        Blocks { origin, offset, end, started: false, next: Next::Nothing, budget: budget.clone() }
    }

    /// Bytes still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.offset))
    }

    /// The next block, `None` after the last.
    pub fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        if self.left() == Some(0) {
            return Poll::Ready(None);
        }
        if matches!(self.next, Next::Nothing) {
            self.next = Next::Coming(self.read());
        }
        let block = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Here(block) => block,
            Next::Coming(mut reading) => match reading.as_mut().poll(cx) {
                Poll::Ready(block) => block,
                Poll::Pending => {
                    self.next = Next::Coming(reading);
                    return Poll::Pending;
                }
            },
            Next::Nothing => return Poll::Ready(None),
        };
        let block = match block {
            Ok(block) => block,
            Err(fault) => return Poll::Ready(Some(Err(fault))),
        };
        if block.is_empty() {
            // The caller is told a length, or has told the client one: less than that is no end.
            return Poll::Ready(self.left().map(|missing| Err(BodyFault::Short { missing })));
        }
        self.offset += block.len() as u64;
        self.read_ahead(cx);
        Poll::Ready(Some(Ok(block)))
    }

    fn read_ahead(&mut self, cx: &mut Context<'_>) {
        if self.left() == Some(0) {
            return;
        }
        let mut reading = self.read();
        self.next = match reading.as_mut().poll(cx) {
            Poll::Ready(block) => Next::Here(block),
            Poll::Pending => Next::Coming(reading),
        };
    }

    fn read(&mut self) -> Reading {
        let most = if std::mem::replace(&mut self.started, true) { self.budget.block() } else { FIRST };
        let most = most.min(self.budget.block());
        let length = self.left().map_or(most, |left| usize::try_from(left).unwrap_or(most).min(most));
        let offset = self.offset;
        match &self.origin {
            Origin::Stored(reader) => {
                let reader = reader.clone();
                Box::pin(async move { Ok(reader.read_at(offset, length).await?) })
            }
            Origin::Growing { body, hold_from } => {
                let (mut body, hold_from) = (body.clone(), *hold_from);
                Box::pin(async move {
                    let before = usize::try_from(hold_from.saturating_sub(offset)).unwrap_or(usize::MAX);
                    if before == 0 {
                        body.whole().await?;
                        return Ok(body.read(offset, length).await?);
                    }
                    Ok(body.read(offset, length.min(before)).await?)
                })
            }
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.budget.streams.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use artifactapi_model::ports::BlobError;
    use async_trait::async_trait;

    use super::*;

    struct Memory(Bytes);

    #[async_trait]
    impl BlobReader for Memory {
        async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
            // Not ready at once, as a file is not.
            tokio::task::yield_now().await;
            let start = (offset as usize).min(self.0.len());
            Ok(self.0.slice(start..(start + length).min(self.0.len())))
        }
    }

    async fn read(mut blocks: Blocks) -> (Vec<usize>, Result<Vec<u8>, String>) {
        let (mut sizes, mut body) = (Vec::new(), Vec::new());
        loop {
            match std::future::poll_fn(|cx| blocks.poll_block(cx)).await {
                None => return (sizes, Ok(body)),
                Some(Err(fault)) => return (sizes, Err(fault.to_string())),
                Some(Ok(block)) => {
                    sizes.push(block.len());
                    body.extend_from_slice(&block);
                }
            }
        }
    }

    fn stored(body: &Bytes, start: usize, end: usize) -> Blocks {
        let span = Span { start: start as u64, end: end as u64 };
        Blocks::stored(Arc::new(Memory(body.clone())), span, &Arc::default())
    }

    #[tokio::test]
    async fn rs_14_blocks_put_together_are_the_span() {
        let body: Bytes = (0..3 << 20).map(|i: u32| (i % 251) as u8).collect::<Vec<_>>().into();
        for (start, end) in [(0, body.len()), (1, 2), (100, (2 << 20) + 7), (body.len() - 1, body.len())] {
            let (_, read) = read(stored(&body, start, end)).await;
            assert!(read.unwrap() == body[start..end], "{start}..{end}");
        }
        let (sizes, _) = read(stored(&body, 0, body.len())).await;
        assert_eq!(sizes, [256 << 10, 1 << 20, 1 << 20, 768 << 10]);
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_no_clean_end() {
        let body = Bytes::from_static(b"12345");
        let (_, read) = read(stored(&body, 0, 6)).await;
        assert!(read.unwrap_err().contains("1 bytes"));
    }

    #[test]
    fn rs_66_many_streams_share_one_budget() {
        let budget = Arc::new(Budget::default());
        let reader: Arc<dyn BlobReader> = Arc::new(Memory(Bytes::new()));
        let span = Span { start: 0, end: 1 };
        let streams: Vec<_> = (0..100).map(|_| Blocks::stored(reader.clone(), span, &budget)).collect();
        assert!(budget.block() * PER_STREAM * streams.len() <= BUDGET);
        drop(streams);
        assert_eq!(budget.block(), MAX_READ);
    }
}
