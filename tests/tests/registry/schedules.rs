//! RS-110 at random: uploads whose every request goes to any replica, in chunks of any size, with chunks that are out of
//! order, sent twice or broken off, and replicas that die in between. What is acknowledged counts, and the blob is what
//! was sent.

use artifactapi_tests::{
    fixtures::noise,
    registry::{Image, Ledger, Registry, Session, sha256},
};
use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;

use crate::{Ending, crashes::finish, scale, subject::Subject};

/// Schedules; one of them has a replica that dies.
const SCHEDULES: usize = 12;
const SMALL: usize = 300_000;
/// More than one part of an S3 upload.
const LARGE: usize = 11 << 20;

/// A generator of numbers, the same for the same seed (SplitMix64, Steele and others 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("below a usize")
    }
}

/// What happened in all schedules.
#[derive(Default)]
struct Tally {
    chunks: usize,
    misplaced: usize,
    broken_off: usize,
    deaths: usize,
    slowest: std::time::Duration,
}

struct Schedule<'a> {
    registry: &'a Registry,
    image: &'a Image,
    dice: Dice,
    bytes: Bytes,
    session: Session,
}

impl Schedule<'_> {
    fn entry(&mut self) -> usize {
        self.dice.below(self.registry.entries())
    }

    fn offset(&self) -> usize {
        usize::try_from(self.session.offset).expect("small")
    }

    /// A chunk of any size that is the next one.
    fn next_chunk(&mut self) -> Bytes {
        let (offset, length) = (self.offset(), self.bytes.len());
        let most = (length - offset).min(if length > SMALL { 6 << 20 } else { 90_000 });
        let size = 1 + self.dice.below(most);
        self.bytes.slice(offset..offset + size)
    }

    /// A chunk from anywhere but where the session is.
    async fn misplaced(&mut self) {
        let (entry, at) = (self.entry(), self.dice.below(self.bytes.len()));
        if at == self.offset() {
            return;
        }
        let mut wrong = Session { offset: at as u64, ..self.session.clone() };
        let chunk = self.bytes.slice(at..(at + 1_000).min(self.bytes.len()));
        let refused = self.image.patch(entry, &mut wrong, chunk).await.expect_err("not the next chunk");
        assert_eq!(refused.status, Some(416), "at {at} instead of {}: {refused}", self.session.offset);
    }

    /// A chunk whose client leaves in the middle; the session goes on from what is durable.
    async fn broken_off(&mut self) -> Result<(), String> {
        let (entry, chunk) = (self.entry(), self.next_chunk());
        let half = chunk.slice(..chunk.len() / 2);
        let parts = stream::iter([Ok(half), Err(std::io::Error::other("the client leaves"))]);
        let body = Body::wrap_stream(parts);
        let (before, length) = (self.session.offset, chunk.len() as u64);
        let sent = self.image.patch_body(entry, &mut self.session.clone(), body, length).await;
        assert!(sent.is_err(), "half a chunk was acknowledged");
        let entry = self.entry();
        let (image, mut session) = (self.image, self.session.clone());
        image.resume(entry, &mut session).await.map_err(|refused| refused.to_string())?;
        let range = before..=before + length / 2 + 1;
        assert!(range.contains(&session.offset), "{} is not in {range:?}", session.offset);
        self.session = session;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), String> {
        let (entry, chunk) = (self.entry(), self.next_chunk());
        let length = chunk.len() as u64;
        let mut session = self.session.clone();
        match self.image.patch(entry, &mut session, chunk.clone()).await {
            Ok(()) => {}
            // A chunk that was broken off is still being put away: the client asks again where to go on.
            Err(refused) if refused.status == Some(416) => {
                let entry = self.entry();
                self.image.resume(entry, &mut self.session).await.map_err(|refused| refused.to_string())?;
                return Ok(());
            }
            Err(refused) => return Err(refused.to_string()),
        }
        assert_eq!(session.offset, self.session.offset + length);
        self.session = session;
        Ok(())
    }
}

async fn schedule(
    subject: &mut Subject,
    registry: &Registry,
    image: &Image,
    seed: usize,
    tally: &mut Tally,
) -> Result<String, String> {
    let mut dice = Dice(seed as u64);
    let size = if seed % 4 == 3 { LARGE + dice.below(SMALL) } else { 1 + dice.below(SMALL) };
    let bytes = noise(90_000 + seed as u64, size);
    let digest = sha256(&bytes);
    let begun = image.begin(dice.below(registry.entries())).await;
    let session = begun.map_err(|refused| refused.to_string())?;
    let mut run = Schedule { registry, image, dice, bytes, session };
    let leave = run.dice.below(run.bytes.len().min(2_000) + 1);
    while run.offset() + leave < run.bytes.len() {
        match run.dice.below(8) {
            0 => {
                tally.misplaced += 1;
                run.misplaced().await;
            }
            1 => {
                tally.broken_off += 1;
                run.broken_off().await?;
            }
            _ => {
                tally.chunks += 1;
                run.send().await?;
            }
        }
    }
    let entry = run.entry();
    let dies = seed % SCHEDULES == SCHEDULES / 2;
    let victim = (entry + 1) % registry.entries();
    if dies {
        tally.deaths += 1;
        subject.kill(victim).await;
    }
    let (bytes, mut session) = (run.bytes.clone(), run.session.clone());
    let closed = finish(image, entry, &mut session, &bytes).await;
    tally.slowest = tally.slowest.max(closed.map_err(|refused| refused.to_string())?);
    if dies {
        subject.start_again(victim).await;
    }
    let reader = run.entry();
    let length = image.verify_blob(reader, &digest).await.map_err(|refused| refused.to_string())?;
    assert_eq!(length, bytes.len() as u64);
    Ok(digest)
}

/// See the module.
pub(crate) async fn random(subject: &mut Subject) -> Ending {
    let registry = subject.registry();
    let image = registry.image("schedules/app");
    let ledger = Ledger::default();
    let mut tally = Tally::default();
    let count = SCHEDULES * scale();
    for seed in 0..count {
        match schedule(subject, &registry, &image, seed, &mut tally).await {
            Ok(digest) => ledger.blob(&image, &digest),
            Err(text) => panic!("schedule {seed}: {text}\n{}", subject.logs()),
        }
    }
    ledger.assert_kept("after all schedules").await;
    let Tally { chunks, misplaced, broken_off, deaths, slowest } = tally;
    println!(
        "\nfigure: {count} random schedules over {} replicas: {chunks} chunks, {misplaced} out of order, {broken_off} \
         broken off, {deaths} deaths; the slowest close took {} ms; all blobs are what was sent",
        registry.entries(),
        slowest.as_millis()
    );
    Ok(())
}
