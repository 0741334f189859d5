//! Streaming through when there is no room to store (RS-96): one upstream request per client, a bounded window
//! of bytes in memory, framing and checksums judged as ever before the last bytes are shown.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use artifactapi_model::ports::{BlobError, BlobReader};
use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use http::StatusCode;
use tokio::sync::Notify;

use crate::{
    Engine,
    content::CacheOutcome,
    error::FetchError,
    fetch::{HOLD_BACK, Obtained},
    fill::{Finished, Head, Job, Progress, head_of, refusal},
    flights::{Pilot, Seat},
    verify,
};

/// Bytes a window holds before its writer waits for the reader; more than what is held back.
const WINDOW: u64 = 16 * HOLD_BACK;

/// The bytes between a writer and the one reader that follows it.
#[derive(Default)]
pub(crate) struct Window {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    start: u64,
    end: u64,
}

impl Window {
    async fn push(&self, chunk: Bytes) {
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.end - state.start < WINDOW {
                    state.end += chunk.len() as u64;
                    state.chunks.push_back(chunk);
                    return;
                }
            }
            moved.await;
        }
    }

    /// The reader wants nothing before `offset` any more.
    pub(crate) fn discard_before(&self, offset: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { chunks, start, .. } = &mut *state;
        while let Some(first) = chunks.front_mut() {
            let surplus = offset.saturating_sub(*start);
            let length = first.len() as u64;
            if surplus == 0 {
                break;
            }
            if surplus >= length {
                chunks.pop_front();
                *start += length;
            } else {
                first.advance(usize::try_from(surplus).unwrap_or(usize::MAX));
                *start += surplus;
            }
        }
        drop(state);
        self.moved.notify_one();
    }
}

#[async_trait]
impl BlobReader for Window {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        self.discard_before(offset);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.start != offset {
            let source = std::io::Error::from(std::io::ErrorKind::NotSeekable);
            return Err(BlobError::Io { doing: "reading back in a body that is not stored", source });
        }
        let first = state.chunks.front().cloned().unwrap_or_default();
        Ok(first.slice(..first.len().min(length)))
    }
}

impl Engine {
    /// Serves `job` to one client without storing anything.
    pub(crate) async fn stream_through(self: &Arc<Self>, job: Job) -> Result<Obtained, FetchError> {
        let (mut seat, window) = self.spawn_through(job);
        let begun = seat.progress.wait_for(|progress| !matches!(progress, Progress::Asking)).await;
        let progress = begun.map_err(|_| FetchError::Abandoned)?.clone();
        match progress {
            Progress::Growing { head, .. } | Progress::Done(Finished::Unstored { head, .. }) => {
                let body = crate::fetch::growing(&seat, window.clone(), Some(window));
                Ok(Obtained::Growing { head, body, outcome: CacheOutcome::Bypass })
            }
            Progress::Done(Finished::Failed(error)) => Err((*error).clone()),
            Progress::Asking | Progress::Done(_) => Err(FetchError::Abandoned),
        }
    }

    fn spawn_through(self: &Arc<Self>, job: Job) -> (Seat, Arc<Window>) {
        let (pilot, seat) = Pilot::solo();
        let window = Arc::new(Window::default());
        let (engine, target) = (self.clone(), window.clone());
        tokio::spawn(async move {
            let finished = tokio::select! {
                finished = engine.run_through(&job, &pilot, &target) => finished,
                () = pilot.deserted() => Err(FetchError::Abandoned),
            };
            let finished = finished.unwrap_or_else(|error| Finished::Failed(Arc::new(error)));
            pilot.progress.send_replace(Progress::Done(finished));
        });
        (seat, window)
    }

    async fn run_through(
        self: &Arc<Self>,
        job: &Job,
        pilot: &Pilot,
        window: &Arc<Window>,
    ) -> Result<Finished, FetchError> {
        let (request, known) = self.locate(&job.remote, &job.resource, job.depth).await?;
        let mut checksums = job.resource.checksums.clone();
        checksums.extend(known.checksums);
        let response = self.ports.upstream.send(&job.remote, request).await?;
        if response.status != StatusCode::OK {
            return Err(refusal(&job.resource, &response));
        }
        let head = head_of(&job.remote, &job.resource, job.mutability, &response, checksums);
        let head: Arc<Head> = Arc::new(head);
        let reader: Arc<dyn BlobReader> = window.clone();
        let mut hasher = artifactapi_model::Hasher::for_checksums(&head.checksums);
        let mut body = response.body;
        let mut written = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| FetchError::Truncated(error.to_string()))?;
            if written == 0 {
                verify::check_kind(
                    job.resource.magic,
                    head.header("content-type").unwrap_or_default(),
                    &chunk,
                )?;
            }
            hasher.update(&chunk);
            written += chunk.len() as u64;
            window.push(chunk).await;
            let (head, reader) = (head.clone(), reader.clone());
            pilot.progress.send_replace(Progress::Growing { head, reader, written });
        }
        if let Some(length) = head.length.filter(|length| *length != written) {
            return Err(FetchError::Truncated(format!("{written} of {length} bytes came")));
        }
        verify::check_outside(&head.checksums, &hasher.finish())?;
        Ok(Finished::Unstored { head, reader, size: written })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rs_96_a_window_is_bounded_and_moves_with_its_reader() {
        let window = Arc::new(Window::default());
        let writer = window.clone();
        let task = tokio::spawn(async move {
            for byte in 0..64u8 {
                writer.push(Bytes::from(vec![byte; HOLD_BACK as usize])).await;
            }
        });
        let mut offset = 0;
        while offset < 64 * HOLD_BACK {
            let bytes = window.read_at(offset, 10_000).await.unwrap();
            assert!(bytes.iter().all(|byte| u64::from(*byte) == offset / HOLD_BACK));
            offset += bytes.len() as u64;
            if bytes.is_empty() {
                tokio::task::yield_now().await;
            }
            let state = window.state.lock().unwrap();
            assert!(state.end - state.start <= WINDOW + HOLD_BACK);
        }
        task.await.unwrap();
        assert!(window.read_at(0, 1).await.is_err());
    }
}
