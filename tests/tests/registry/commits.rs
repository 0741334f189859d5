//! PostgreSQL fails while a push is committed (RS-86): what was acknowledged is there, what was not is whole or absent,
//! the client is told to try again, and when it does it succeeds.

use std::{fmt, time::Duration};

use artifactapi_tests::{
    Fault, Services,
    fixtures::noise,
    registry::{Form, Image, Ledger, Refused, Route, Session, image_of, sha256},
};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::{
    Ending,
    crashes::{finish, insist},
    scale,
    subject::Subject,
};

/// Longest time for which a fault lasts.
const FAULT: Duration = Duration::from_millis(600);
/// By how much each round begins its fault later than the one before.
const LATER: Duration = Duration::from_millis(4);
/// Rounds of each kind.
const ROUNDS: usize = 9;
/// Rounds in which PostgreSQL itself stops; it takes its time.
const STOPS: usize = 2;

/// What happens to the database.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Every connection of replica 0 is reset, and none is taken.
    Reset,
    /// Connections of replica 0 end after so many bytes of answers: what they answered is not known.
    CutAfter(u64),
    /// Nothing of replica 0 gets through for a while.
    Silence,
    /// The server stands still for a while.
    Paused,
    /// The server is stopped and started again.
    Restarted,
}

impl Trouble {
    fn of_round(round: usize) -> Self {
        match round % 4 {
            0 => Trouble::Reset,
            1 => Trouble::CutAfter(40 + 70 * round as u64),
            2 => Trouble::Silence,
            _ => Trouble::CutAfter(1 + 200 * round as u64),
        }
    }

    /// Happens, until `push` has ended or time is up.
    async fn befall<T>(self, subject: &mut Subject, services: &mut Services, push: &JoinHandle<T>) {
        let server = &mut services.postgres.process;
        match self {
            Trouble::Paused => {
                server.pause();
                ended(push).await;
                server.resume();
            }
            Trouble::Restarted => tokio::task::block_in_place(|| {
                server.stop();
                server.start_again();
            }),
            Trouble::Reset | Trouble::CutAfter(_) | Trouble::Silence => {
                let link = subject.cluster().expect("replicas").replicas()[0].postgres();
                let fault = match self {
                    Trouble::CutAfter(bytes) => Fault::CutAfter(bytes),
                    Trouble::Silence => Fault::BlackHole,
                    _ => Fault::Refuse,
                };
                link.set(fault).await;
                if let Trouble::Reset = self {
                    link.reset_all();
                }
                ended(push).await;
                link.set(Fault::Pass).await;
            }
        }
    }
}

async fn ended<T>(push: &JoinHandle<T>) {
    let end = tokio::time::Instant::now() + FAULT;
    while !push.is_finished() && tokio::time::Instant::now() < end {
        artifactapi_tests::wait::breathe().await;
    }
}

/// What became of pushes.
#[derive(Default)]
struct Tally {
    acknowledged: usize,
    refused: usize,
    unanswered: usize,
    /// Of those that were not acknowledged, so many were there all the same.
    whole: usize,
    slowest: Duration,
}

impl Tally {
    /// A push was not acknowledged. That must be the registry's fault, and say so.
    fn failed(&mut self, refused: &Refused, what: &str) {
        match refused.status {
            None => self.unanswered += 1,
            Some(500..600) => self.refused += 1,
            Some(_) => panic!("{what}: the client is told that it is to blame: {refused}"),
        }
    }

    fn retried(&mut self, took: Result<Duration, Refused>, what: &str) {
        let took = took.unwrap_or_else(|refused| panic!("{what}: no retry succeeded: {refused}"));
        self.slowest = self.slowest.max(took);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { acknowledged, refused, unanswered, whole, slowest } = self;
        write!(
            f,
            "{acknowledged} acknowledged, {refused} refused with 5xx and {unanswered} without an answer, of which \
             {whole} were there, all others absent; the slowest retry took {} ms",
            slowest.as_millis()
        )
    }
}

struct Bench<'a> {
    services: &'a mut Services,
    subject: Subject,
    image: Image,
    ledger: Ledger,
    unfinished: Vec<Unfinished>,
}

/// A blob that was not acknowledged.
struct Unfinished {
    what: String,
    /// Where it is tried again.
    entry: usize,
    session: Session,
    bytes: Bytes,
}

impl Bench<'_> {
    /// A blob is closed at replica 0 meanwhile.
    async fn close(&mut self, round: usize, trouble: Trouble, tally: &mut Tally) {
        let what = format!("blob {round}, {trouble:?}");
        let image = self.image.clone();
        let bytes = noise(7_000 + round as u64, 100_000 + round);
        let digest = sha256(&bytes);
        let mut begun = None;
        let begin = async || {
            let mut session = image.begin(0).await?;
            image.patch(0, &mut session, bytes.clone()).await?;
            begun = Some(session);
            Ok(())
        };
        // The round before may still be felt.
        insist(begin).await.unwrap_or_else(|refused| panic!("{what}: {refused}"));
        let session = begun.expect("it was begun");
        let closing = {
            let (image, session, digest) = (image.clone(), session.clone(), digest.clone());
            tokio::spawn(async move { image.close(0, &session, &digest, Bytes::new()).await })
        };
        tokio::time::sleep(LATER * u32::try_from(round % ROUNDS).expect("small")).await;
        trouble.befall(&mut self.subject, self.services, &closing).await;
        match closing.await.expect("no panic") {
            Ok(()) => {
                tally.acknowledged += 1;
                let read = insist(async || image.verify_blob(1, &digest).await.map(drop)).await;
                read.unwrap_or_else(|refused| panic!("{what}: acknowledged and lost: {refused}"));
            }
            Err(refused) => {
                tally.failed(&refused, &what);
                if image.has_blob(1, &digest).await.unwrap_or(false) {
                    tally.whole += 1;
                    let read = image.verify_blob(1, &digest).await;
                    read.unwrap_or_else(|refused| panic!("{what}: half a blob: {refused}"));
                }
                self.unfinished.push(Unfinished { what, entry: 1 + round % 2, session, bytes });
                return;
            }
        }
        self.ledger.blob(&image, &digest);
    }

    /// All blobs that were not acknowledged are, in the end. Whoever had a session may have to be given up first, which
    /// takes a while: all at once.
    async fn retry(&mut self, tally: &mut Tally) {
        let mut unfinished = std::mem::take(&mut self.unfinished);
        let retries =
            unfinished.iter_mut().map(|it| finish(&self.image, it.entry, &mut it.session, &it.bytes));
        let took = join_all(retries).await;
        for (it, took) in unfinished.iter().zip(took) {
            tally.retried(took, &it.what);
            self.ledger.blob(&self.image, &sha256(&it.bytes));
        }
    }

    /// A manifest is put at replica 0 meanwhile; `before` is the one that has the tag.
    async fn put(&mut self, round: usize, trouble: Trouble, before: &mut String, tally: &mut Tally) {
        let what = format!("manifest {round}, {trouble:?}");
        let image = self.image.clone();
        let config = Bytes::from(format!("{{\"round\":{round}}}"));
        let push = async || image.push(Form::PostPut, &config, &Route::only(1)).await.map(drop);
        insist(push).await.unwrap_or_else(|refused| panic!("{what}: {refused}"));
        let manifest = image_of(&config, &[]);
        let digest = manifest.digest();
        let putting = {
            let (image, manifest) = (image.clone(), manifest.clone());
            tokio::spawn(async move { image.put_manifest(0, "latest", &manifest).await })
        };
        tokio::time::sleep(LATER / 4 * u32::try_from(round % ROUNDS).expect("small")).await;
        trouble.befall(&mut self.subject, self.services, &putting).await;
        match putting.await.expect("no panic") {
            Ok(_) => tally.acknowledged += 1,
            Err(refused) => {
                tally.failed(&refused, &what);
                if let Ok(Some(found)) = image.manifest(1, "latest").await {
                    let found = sha256(&found.body);
                    assert!(found == *before || found == digest, "{what}: the tag is {found}");
                    tally.whole += usize::from(found == digest);
                }
                let retry = async || image.put_manifest(round % 2, "latest", &manifest).await.map(drop);
                tally.retried(insist(retry).await, &what);
            }
        }
        for reader in 0..image.registry().entries() {
            let is_it = async || {
                let found = image.manifest(reader, "latest").await?;
                let found = found.map(|found| sha256(&found.body));
                assert_eq!(found.as_deref(), Some(digest.as_str()), "{what}: acknowledged, at {reader}");
                Ok(())
            };
            // A replica that has just lost its connections may say so; it may not say anything else.
            insist(is_it).await.unwrap_or_else(|refused| panic!("{what}: at {reader}: {refused}"));
        }
        self.ledger.manifest(&image, &digest);
        *before = digest;
    }
}

/// See the module.
pub(crate) async fn broken(services: &mut Services) -> Ending {
    let subject = Subject::replicas(services, &[], &serde_json::Value::Null).await;
    let image = subject.registry().image("commits/app");
    let (ledger, unfinished) = (Ledger::default(), Vec::new());
    let mut bench = Bench { services, subject, image, ledger, unfinished };
    let (mut blobs, mut manifests) = (Tally::default(), Tally::default());
    let mut before = String::new();
    let links = (0..ROUNDS * scale()).map(Trouble::of_round);
    let servers = (0..STOPS).flat_map(|_| [Trouble::Paused, Trouble::Restarted]);
    for (round, trouble) in links.chain(servers).enumerate() {
        bench.close(round, trouble, &mut blobs).await;
        bench.put(round, trouble, &mut before, &mut manifests).await;
    }
    bench.retry(&mut blobs).await;
    let Bench { subject, ledger, .. } = bench;
    ledger.assert_kept("after the faults").await;
    subject.assert_sound("after the faults").await;
    println!("\nfigure: PostgreSQL failed during the close of a blob: {blobs}");
    println!("\nfigure: PostgreSQL failed during the PUT of a manifest: {manifests}");
    let failed = blobs.refused + blobs.unanswered + manifests.refused + manifests.unanswered;
    assert!(failed > 0, "no fault was ever noticed: the rounds miss the commits");
    Ok(())
}
