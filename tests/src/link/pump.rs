//! The two directions of one connection. Bytes that arrive are stamped with the time at which they may go on, so
//! that latency does not become a limit of throughput.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{Fault, Shared};

/// Longest piece, and how many of them are under way in one direction.
const PIECE: usize = 16 << 10;
const UNDER_WAY: usize = 512;
/// A throttled link passes so many pieces a second.
const STEPS: u64 = 20;

/// How a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By FIN.
    Orderly,
    /// By RST: one of the two sides did so, or the test.
    Reset,
}

/// Carries both directions until both have ended, one was cut, or one has failed.
pub(super) async fn both(client: &mut TcpStream, target: &mut TcpStream, shared: &Shared) -> End {
    let (from_client, to_client) = client.split();
    let (from_target, to_target) = target.split();
    let up = direction(from_client, to_target, shared, &shared.sent, false);
    let down = direction(from_target, to_client, shared, &shared.received, true);
    match tokio::try_join!(up, down) {
        Ok(_) | Err(Stop::Cut) => End::Orderly,
        Err(Stop::Failed) => End::Reset,
    }
}

/// Why a direction ended before its sender did.
enum Stop {
    Cut,
    Failed,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Failed
    }
}

async fn direction(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    count: &AtomicU64,
    is_down: bool,
) -> Result<(), Stop> {
    let mut fault = shared.fault.subscribe();
    let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
    let arriving = fault.clone();
    let reading = async {
        // Moved in, so that its end is seen by the writer.
        let queue = queue;
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            if from.read_buf(&mut piece).await? == 0 {
                return Ok::<_, Stop>(());
            }
            let delay = match arriving.borrow().0 {
                Fault::Latency(delay) => delay,
                _ => Duration::ZERO,
            };
            if queue.send((Instant::now() + delay, piece.freeze())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        let mut budget = Budget::default();
        while let Some((due, piece)) = queued.recv().await {
            sleep_until(due).await;
            write(&mut to, piece, &mut fault, &mut budget, count, is_down).await?;
        }
        past_black_hole(&mut fault).await;
        to.shutdown().await?;
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// How many bytes a cut still lets through, of the fault that was set last.
#[derive(Default)]
struct Budget {
    of: Option<u64>,
    left: u64,
}

async fn past_black_hole(fault: &mut watch::Receiver<(Fault, u64)>) -> (Fault, u64) {
    // The sender lives in the link, whose end aborts this task.
    fault.wait_for(|(fault, _)| *fault != Fault::BlackHole).await.map_or((Fault::Pass, 0), |now| *now)
}

async fn write(
    to: &mut WriteHalf<'_>,
    mut piece: Bytes,
    fault: &mut watch::Receiver<(Fault, u64)>,
    budget: &mut Budget,
    count: &AtomicU64,
    is_down: bool,
) -> Result<(), Stop> {
    while !piece.is_empty() {
        let (now, times) = past_black_hole(fault).await;
        let mut next = piece.len();
        match now {
            Fault::CutAfter(bytes) if is_down => {
                if budget.of != Some(times) {
                    *budget = Budget { of: Some(times), left: bytes };
                }
                next = next.min(usize::try_from(budget.left).unwrap_or(next));
                budget.left -= next as u64;
            }
            Fault::Throttle(rate) => {
                next = next.min(usize::try_from(rate / STEPS).unwrap_or(next).max(1));
                sleep(Duration::from_secs_f64(next as f64 / rate.max(1) as f64)).await;
            }
            _ => {}
        }
        // First, so that nobody has bytes that are not counted.
        count.fetch_add(next as u64, Relaxed);
        to.write_all(&piece.split_to(next)).await?;
        if matches!(now, Fault::CutAfter(_)) && is_down && budget.left == 0 {
            to.flush().await?;
            return Err(Stop::Cut);
        }
    }
    Ok(())
}
