//! Random schedules: requests that end well, break, are overtaken, and go on in another process (RS-110).

use artifactapi_model::{Digest, ports::UploadWriter};
use bytes::Bytes;

use super::{Bench, MIB, has, session::Session};
use crate::blobs::suite::pattern;

/// Most bytes of one body.
const LONGEST: usize = 24 * MIB;

/// Repeatable random numbers.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// Sizes around those where something changes.
    fn size(&mut self) -> usize {
        match self.throw(8) {
            0 => 0,
            1 => 1 + self.throw(3),
            2 | 3 => self.throw(MIB),
            4 => self.throw(5 * MIB),
            5 => 5 * MIB + self.throw(3) - 1,
            6 => 8 * MIB + self.throw(3) - 1,
            _ => self.throw(16 * MIB),
        }
    }
}

/// Runs the schedules of the given seeds; the one that fails is told by its seed.
pub async fn schedules(make: impl AsyncFn() -> Bench, seeds: impl IntoIterator<Item = u64>) {
    let all = pattern(LONGEST + 4096);
    let bench = make().await;
    for seed in seeds {
        schedule(&bench, &all, seed).await;
    }
}

async fn schedule(bench: &Bench, all: &Bytes, seed: u64) {
    let case = format!("seed {seed}");
    let mut dice = Dice(seed ^ 0x5bd1_e995);
    let start = dice.throw(4096);
    let longest = if dice.throw(3) == 0 { MIB } else { LONGEST };
    let body = all.slice(start..start + dice.throw(longest));
    let wrong = Bytes::from(vec![b'x'; 9 * MIB]);
    let mut session = Session::new(bench);
    let mut fenced: Vec<Box<dyn UploadWriter>> = Vec::new();
    let mut in_order = true;
    for _ in 0..dice.throw(12) {
        let at = usize::try_from(session.offset).unwrap();
        let mut writer = session.open(!in_order).await;
        let length = dice.size().min(body.len() - at);
        session.send(&mut writer, &body.slice(at..at + length)).await.unwrap();
        if let Some(old) = fenced.last_mut().filter(|_| dice.throw(2) == 0) {
            session.send_unheard(old, &wrong.slice(..dice.size().min(wrong.len()))).await;
        }
        if fenced.len() > 2 || dice.throw(4) == 0 {
            for old in fenced.drain(..) {
                let _ = old.pause().await;
            }
        }
        in_order = false;
        match dice.throw(6) {
            0 => drop(writer),
            1 => {
                let (offset, stored) = writer.keep().await.unwrap();
                assert!((at..=at + length).contains(&usize::try_from(offset).unwrap()), "{case}");
                session.record(offset, stored);
            }
            2 => fenced.push(writer),
            _ => {
                session.give_back(writer, (at + length) as u64).await;
                in_order = true;
            }
        }
    }
    let digest = Digest::of(&body);
    let at = usize::try_from(session.offset).unwrap();
    for _ in 0..=dice.throw(2) {
        let done = session.close(&body.slice(at..), &digest).await;
        done.unwrap_or_else(|error| panic!("{case}: {error:?}"));
    }
    for old in fenced {
        let _ = old.pause().await;
    }
    session.end().await;
    has(bench, &digest, &body, &case).await;
}
