//! The leader's side: a fill that runs here, told part by part to a twin that follows it.

use std::{sync::Arc, time::Duration};

use artifactapi_model::{
    ArtifactKey,
    ports::{Part, Parts, PeerError},
};
use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};

use super::wire::{Ending, WireRow, encode_ending, encode_head};
use crate::{
    Engine,
    content::GrowingBody,
    fill::{Finished, Progress},
    flights::Seat,
};

/// A twin hears something at least this often.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Largest part of data, in bytes.
const PART: usize = 256 << 10;
/// Parts that wait for a slow twin.
const QUEUE: usize = 2;

/// The twin that follows.
struct Twin(mpsc::Sender<Result<Part, PeerError>>);

/// It has gone.
struct Left;

impl Twin {
    async fn tell(&self, part: Part) -> Result<(), Left> {
        self.0.send(Ok(part)).await.map_err(|_| Left)
    }

    async fn end(&self, ending: &Ending) -> Result<(), Left> {
        self.tell(Part::End(encode_ending(ending))).await
    }
}

impl Engine {
    /// The fill of `key` that runs here, for a twin that follows it: from its first byte, as far as it may be
    /// shown to anyone. `None`: there is none, or it follows a twin itself.
    pub fn lend(self: &Arc<Self>, key: &ArtifactKey) -> Option<Parts> {
        let seat = self.flights.visit(key)?;
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            // A twin that leaves does not concern anyone here.
            let _ = tell(seat, &Twin(sender)).await;
        });
        Some(Box::pin(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))))
    }
}

async fn tell(mut seat: Seat, twin: &Twin) -> Result<(), Left> {
    let begun = loop {
        let begun = async {
            let begun = seat.progress.wait_for(|progress| !matches!(progress, Progress::Asking)).await;
            begun.map(|progress| progress.clone())
        };
        match timeout(SIGN_OF_LIFE, begun).await {
            Ok(Ok(progress)) => break progress,
            Ok(Err(_)) => return twin.end(&Ending::Gone).await,
            Err(_) => twin.tell(Part::Data(Bytes::new())).await?,
        }
    };
    let window = match &begun {
        Progress::Growing { head, window, .. } | Progress::Done(Finished::Unstored { head, window, .. }) => {
            Some((head, window))
        }
        Progress::Asking | Progress::Done(_) => None,
    };
    let mut is_whole = true;
    if let Some((head, window)) = window {
        let Some(place) = window.enter() else {
            return twin.end(&Ending::Gone).await;
        };
        twin.tell(Part::Head(encode_head(head))).await?;
        is_whole = tell_body(seat.follow(place), twin).await?;
    }
    let over = seat.progress.borrow().clone();
    let ending = match &over {
        Progress::Done(failed @ Finished::Failed(_)) => ending(failed),
        Progress::Done(finished) if is_whole => ending(finished),
        // Whatever became of the fill, the twin has not all of it.
        Progress::Done(_) | Progress::Asking | Progress::Growing { .. } => Ending::Gone,
    };
    twin.end(&ending).await
}

/// All that may be shown of the body; `false` when that is not all of it: the fill has failed, or the twin was too slow
/// for a body that only passes through.
async fn tell_body(mut body: GrowingBody, twin: &Twin) -> Result<bool, Left> {
    let mut offset = 0;
    loop {
        match timeout(SIGN_OF_LIFE, body.read(offset, PART)).await {
            Ok(Ok(bytes)) if bytes.is_empty() => return Ok(true),
            Ok(Ok(bytes)) => {
                offset += bytes.len() as u64;
                twin.tell(Part::Data(bytes)).await?;
            }
            Ok(Err(_)) => return Ok(false),
            Err(_) => twin.tell(Part::Data(Bytes::new())).await?,
        }
    }
}

fn ending(finished: &Finished) -> Ending {
    match finished {
        Finished::Stored(entry) => Ending::Stored(WireRow::of(&entry.row)),
        Finished::Confirmed(entry) => Ending::Confirmed(WireRow::of(&entry.row)),
        Finished::Landed(entry) => Ending::Landed(WireRow::of(&entry.row)),
        Finished::Unstored { .. } => Ending::Unstored,
        Finished::Failed(error) => Ending::failed(error),
    }
}
