//! The body of every answer: memory as one frame, stored and growing bodies in blocks, several ranges as
//! `multipart/byteranges`. An error aborts the connection; it is never a clean end.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use artifactapi_engine::content::BodyError;
use artifactapi_model::ports::{BlobError, UpstreamError, upstream::UpstreamBody};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Body, Frame, SizeHint};

use super::{blocks::Blocks, progress::Turn};
use crate::telemetry::Record;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// The fetch that feeds it failed.
    #[error(transparent)]
    Growing(#[from] BodyError),
    /// The store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Upstream failed in an answer that is passed through.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The store has less than it said.
    #[error("the stored body ends {missing} bytes too early")]
    Short {
        /// How much less.
        missing: u64,
    },
}

/// What is to be sent.
#[derive(Default)]
pub enum Source {
    /// Nothing.
    #[default]
    Empty,
    /// One piece of memory.
    Memory(Bytes),
    /// A part of a stored or growing body.
    Blocks(Box<Blocks>),
    /// Pieces one after another.
    Sequence(VecDeque<Source>),
    /// Upstream's own body; its length where it is announced.
    Passed(UpstreamBody, Option<u64>),
}

impl Source {
    /// Bytes still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Source::Empty => Some(0),
            Source::Memory(bytes) => Some(bytes.len() as u64),
            Source::Blocks(blocks) => blocks.left(),
            Source::Sequence(pieces) => pieces.iter().map(Source::left).sum(),
            Source::Passed(_, left) => *left,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        match self {
            Source::Empty => Poll::Ready(None),
            Source::Memory(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Source::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Source::Blocks(blocks) => blocks.poll_block(cx),
            Source::Sequence(pieces) => {
                while let Some(first) = pieces.front_mut() {
                    match ready!(first.poll(cx)) {
                        Some(piece) => return Poll::Ready(Some(piece)),
                        None => drop(pieces.pop_front()),
                    }
                }
                Poll::Ready(None)
            }
            Source::Passed(stream, left) => {
                let chunk = ready!(stream.poll_next_unpin(cx));
                if let (Some(Ok(chunk)), Some(left)) = (&chunk, left) {
                    *left = left.saturating_sub(chunk.len() as u64);
                }
                Poll::Ready(chunk.map(|chunk| chunk.map_err(BodyFault::from)))
            }
        }
    }
}

/// A body on its way to a client. It carries the request's record, which is closed with it.
#[derive(Default)]
pub struct ReplyBody {
    source: Source,
    turn: Option<Turn>,
    record: Option<Record>,
}

impl ReplyBody {
    /// A body of `source`.
    pub fn new(source: Source) -> Self {
        ReplyBody { source, turn: None, record: None }
    }

    /// What is to be sent.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Drops what is to be sent (the answer to a HEAD).
    pub fn clear(&mut self) {
        self.source = Source::Empty;
    }

    /// Lets the body keep `record`, and `turn` for as long as the request is open.
    pub fn watched(mut self, mut record: Record, turn: Turn) -> Self {
        if let (Source::Empty, Some(entry)) = (&self.source, record.entry()) {
            entry.complete = true;
        }
        self.record = Some(record);
        self.holding(turn)
    }

    /// Lets the body keep `turn` alone.
    pub(super) fn holding(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }

    fn count(&mut self, bytes: u64) {
        let ended = self.source.left() == Some(0);
        if let Some(entry) = self.record.as_mut().and_then(Record::entry) {
            entry.bytes += bytes;
            entry.complete |= ended;
        }
    }

    fn report(&self, fault: &BodyFault) {
        let id = self.record.as_ref().and_then(Record::id).map_or("-", |id| &**id);
        tracing::warn!(request.id = id, error = %fault, "an answer was cut off, since its body failed");
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(turn) = &mut self.turn {
            turn.take();
        }
        let piece = ready!(self.source.poll(cx));
        match piece {
            Some(Ok(bytes)) => {
                if let Some(turn) = &mut self.turn {
                    turn.give();
                }
                self.count(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(fault)) => {
                self.report(&fault);
                self.source = Source::Empty;
                Poll::Ready(Some(Err(fault)))
            }
            None => {
                if let Some(entry) = self.record.as_mut().and_then(Record::entry) {
                    entry.complete = true;
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.source.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::progress::{Fate, Progress, Watch};

    #[tokio::test]
    async fn rs_64_a_small_answer_that_nobody_takes_is_let_go_of_too() {
        let progress: Arc<Progress> = Arc::default();
        let mut watch = Watch::new(progress.clone());
        let source = Source::Memory("ok".into());
        let mut body = ReplyBody::new(source).watched(Record::unread(), Turn::new(progress));
        assert_eq!(watch.look(), Fate::Stays);
        // HTTP/2 keeps both until there is a window for the block.
        let block = body.frame().await;
        assert!((0..10).any(|_| watch.look() == Fate::Closed));
        drop((block, body));
    }
}
