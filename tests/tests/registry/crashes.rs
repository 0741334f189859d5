//! A replica dies while it takes a push: the push goes on at another one or fails cleanly, and nothing that was
//! acknowledged is lost (I2, RS-110).

use std::time::Duration;

use artifactapi_model::failpoint::{PUSH_NAMES, S3_PUSH_NAMES, S3_SWEEP_NAMES};
use artifactapi_tests::{
    Services,
    fixtures::noise,
    http::PATIENCE,
    registry::{Form, Image, Ledger, Refused, Registry, Route, Session, image_of, sha256},
    wait,
};
use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use tokio::{sync::oneshot, time::Instant};

use crate::{Ending, scale, subject::Subject};

const MIB: usize = 1 << 20;
/// Several parts of an S3 upload.
const SIZE: usize = 17 * MIB + 5;
const CHUNK: usize = 6 * MIB + 1;
/// Longest wait for another replica to go on with the session of a dead one.
const TAKE_OVER: Duration = Duration::from_secs(15);
/// How often a replica is killed during the close.
const CLOSES: usize = 6;

/// Asks until it works or time is up: whoever wrote last may have to be given up first.
pub(crate) async fn insist(mut ask: impl AsyncFnMut() -> Result<(), Refused>) -> Result<Duration, Refused> {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(()) => return Ok(began.elapsed()),
            Err(refused) if began.elapsed() > TAKE_OVER => return Err(refused),
            Err(_) => wait::breathe().await,
        }
    }
}

/// Goes on with a session at `entry` from what is durable, and closes it; how long that took.
pub(crate) async fn finish(
    image: &Image,
    entry: usize,
    session: &mut Session,
    bytes: &Bytes,
) -> Result<Duration, Refused> {
    let digest = sha256(bytes);
    let send_rest = async || {
        match image.resume(entry, session).await {
            // It was closed before the answer was lost.
            Err(refused) if refused.status == Some(404) && image.has_blob(entry, &digest).await? => {
                return Ok(());
            }
            other => other?,
        }
        let offset = usize::try_from(session.offset).expect("small");
        assert!(offset <= bytes.len(), "{offset} bytes of {} are said to be there", bytes.len());
        image.close(entry, session, &digest, bytes.slice(offset..)).await
    };
    insist(send_rest).await
}

/// Killed between chunks: the next one goes to another replica.
async fn between(subject: &mut Subject, registry: &Registry, ledger: &Ledger) -> Duration {
    let image = registry.image("crashes/between");
    let bytes = noise(1, SIZE);
    let mut session = image.begin(0).await.expect("a session");
    image.patch(0, &mut session, bytes.slice(..CHUNK)).await.expect("the first chunk");
    subject.kill(0).await;
    let mut seen = session.clone();
    image.resume(1, &mut seen).await.expect("the session is not the replica's");
    assert_eq!(seen.offset, CHUNK as u64, "what was acknowledged is there");
    image.patch(1, &mut seen, bytes.slice(CHUNK..2 * CHUNK)).await.expect("the second chunk");
    let waited = finish(&image, 2, &mut seen, &bytes).await;
    let waited = waited.unwrap_or_else(|refused| panic!("the session never went on: {refused}"));
    ledger.blob(&image, &sha256(&bytes));
    subject.start_again(0).await;
    waited
}

/// A body of which the second half comes when it is told to, which is never; says when the first half is on its way.
fn half(bytes: &Bytes) -> (Body, oneshot::Receiver<()>) {
    let (told, on_its_way) = oneshot::channel();
    let first = bytes.slice(..bytes.len() / 2);
    let parts = stream::unfold((Some(first), Some(told)), async move |(first, mut told)| {
        if let Some(first) = first {
            return Some((Ok::<_, std::io::Error>(first), (None, told)));
        }
        // The first half was taken: the connection asks for more.
        if let Some(told) = told.take() {
            let _ = told.send(());
        }
        std::future::pending::<()>().await;
        None
    });
    (Body::wrap_stream(Box::pin(parts)), on_its_way)
}

/// Killed while a chunk is on its way: what is durable is kept, the rest is sent again.
async fn during(subject: &mut Subject, registry: &Registry, ledger: &Ledger) -> Duration {
    let image = registry.image("crashes/during");
    let bytes = noise(2, SIZE);
    let mut session = image.begin(1).await.expect("a session");
    image.patch(1, &mut session, bytes.slice(..CHUNK)).await.expect("the first chunk");
    let (body, on_its_way) = half(&bytes.slice(CHUNK..2 * CHUNK));
    let sending = {
        let (image, mut session) = (image.clone(), session.clone());
        tokio::spawn(async move { image.patch_body(1, &mut session, body, CHUNK as u64).await })
    };
    on_its_way.await.expect("the first half was taken");
    subject.kill(1).await;
    let answer = sending.await.expect("no panic");
    assert!(answer.is_err(), "half a chunk cannot be acknowledged");
    let waited = finish(&image, 2, &mut session, &bytes).await;
    let waited = waited.unwrap_or_else(|refused| panic!("the session never went on: {refused}"));
    ledger.blob(&image, &sha256(&bytes));
    subject.start_again(1).await;
    waited
}

/// Killed while a session is closed, again and again; how often it was answered before, and how often another
/// replica went on with the session.
async fn during_close(subject: &mut Subject, registry: &Registry, ledger: &Ledger) -> (usize, usize) {
    let image = registry.image("crashes/close");
    let (mut answered, mut taken_over) = (0, 0);
    for round in 0..CLOSES * scale() {
        let bytes = noise(100 + round as u64, 7 * MIB + round);
        let digest = sha256(&bytes);
        let mut session = image.begin(2).await.expect("a session");
        image.patch(2, &mut session, bytes.clone()).await.expect("all of it");
        let closing = {
            let (image, session, digest) = (image.clone(), session.clone(), digest.clone());
            tokio::spawn(async move { image.close(2, &session, &digest, Bytes::new()).await })
        };
        // Each round dies a little later in it.
        for _ in 0..round % CLOSES {
            wait::breathe().await;
        }
        subject.kill(2).await;
        if closing.await.expect("no panic").is_ok() {
            answered += 1;
            ledger.blob(&image, &digest);
            image.verify_blob(0, &digest).await.unwrap_or_else(|refused| panic!("acknowledged: {refused}"));
        } else {
            // Or it failed cleanly, and the client begins anew.
            if finish(&image, 0, &mut session, &bytes).await.is_ok() {
                taken_over += 1;
            } else {
                let again = image.push(Form::Chunked(CHUNK), &bytes, &Route::turns([0, 1])).await;
                again.unwrap_or_else(|refused| panic!("pushed anew: {refused}"));
            }
            ledger.blob(&image, &digest);
        }
        subject.start_again(2).await;
    }
    (answered, taken_over)
}

/// See the module.
pub(crate) async fn killed(services: &mut Services) -> Ending {
    let mut subject = Subject::replicas(services, &[], &serde_json::Value::Null).await;
    kill(&mut subject).await;
    Ok(())
}

/// The same against Distribution, which also keeps sessions outside its processes.
pub(crate) async fn peer(subject: &mut Subject) -> Ending {
    kill(subject).await;
    Ok(())
}

async fn kill(subject: &mut Subject) {
    let registry = subject.registry();
    let ledger = Ledger::default();
    let after_between = between(subject, &registry, &ledger).await;
    let after_during = during(subject, &registry, &ledger).await;
    let (answered, taken_over) = during_close(subject, &registry, &ledger).await;
    ledger.assert_kept("after the kills").await;
    subject.restart_all().await;
    ledger.assert_kept("after a restart of all").await;
    subject.assert_sound("after the kills").await;
    println!(
        "\nfigure: a replica killed between chunks, during a chunk and {} times during the close \
         ({answered} answered before, {taken_over} closed by another one within {} s); pushes went on after {} ms and {} ms; {} acknowledged blobs kept",
        CLOSES * scale(),
        TAKE_OVER.as_secs(),
        after_between.as_millis(),
        after_during.as_millis(),
        ledger.len()
    );
}

/// Pushes in every form at replica 0 until it dies; what was under way.
async fn push_until_death(image: &Image, number: u64, ledger: &Ledger) -> Vec<Bytes> {
    let route = Route::only(0);
    let mut pushed = Vec::new();
    for (turn, form) in
        [Form::Chunked(CHUNK), Form::Streamed, Form::Post, Form::PostPut].into_iter().enumerate()
    {
        let bytes = noise(number * 10 + turn as u64, SIZE);
        pushed.push(bytes.clone());
        match image.push(form, &bytes, &route).await {
            Ok(digest) => ledger.blob(image, &digest),
            Err(_) => return pushed,
        }
    }
    let config = Bytes::from(format!("{{\"number\":{number}}}"));
    pushed.push(config.clone());
    if let Ok(digest) = image.push(Form::PostPut, &config, &route).await {
        ledger.blob(image, &digest);
        let manifest = image_of(&config, &[]);
        if let Ok(pushed) = image.put_manifest(0, "latest", &manifest).await {
            ledger.manifest(image, &pushed.digest);
        }
    }
    pushed
}

/// Points of a body that is brought from where it was put together to its own place, in the background.
fn is_of_moves(name: &str) -> bool {
    name.contains(".settle.")
}

/// Points that only Locals pass.
fn points(chosen: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let all = PUSH_NAMES.into_iter().chain(S3_PUSH_NAMES).chain(S3_SWEEP_NAMES);
    all.filter(|name| chosen(name)).collect()
}

/// The same for bodies that are moved in the background: replica 0 does that and dies, again and again.
pub(crate) async fn at_moves(services: &mut Services) -> Ending {
    let mut subject = Subject::replicas(services, &[], &serde_json::Value::Null).await;
    let registry = subject.registry();
    let image = registry.image("crashes/moves");
    let names = points(is_of_moves);
    for (number, name) in names.iter().enumerate() {
        let ledger = Ledger::default();
        subject.kill(0).await;
        for (turn, size) in [1, 100_000, SIZE].into_iter().enumerate() {
            let bytes = noise(500 + (number * 10 + turn) as u64, size);
            let pushed = image.push(Form::Chunked(CHUNK), &bytes, &Route::turns([1, 2])).await;
            ledger.blob(&image, &pushed.unwrap_or_else(|refused| panic!("{name}: {refused}")));
        }
        let replica = subject.cluster().expect("replicas").replica(0);
        // Only this one looks for something to move.
        replica.set_env("ARTIFACTAPI_GC_INTERVAL", Some("300ms"));
        replica.set_env("ARTIFACTAPI_FAILPOINT", Some(name));
        replica.spawn();
        assert_eq!(replica.ended().await, None, "{name} was never passed:\n{}", subject.logs());
        ledger.assert_kept_at(&[1, 2], name).await;
        subject.assert_sound(name).await;
        let replica = subject.cluster().expect("replicas").replica(0);
        replica.set_env("ARTIFACTAPI_FAILPOINT", None);
        replica.start_again().await;
        ledger.assert_kept(name).await;
        let moved = async || {
            let cluster = subject.cluster().expect("replicas");
            services.postgres.sql(cluster.database(), "SELECT count(*) FROM blob_places") == "0"
        };
        wait::until("all bodies in their own place", PATIENCE, moved).await;
        ledger.assert_kept(name).await;
    }
    println!("\nfigure: a replica died at {} points of moving bodies; nothing was lost", names.len());
    Ok(())
}

/// RS-97 for uploads: replica 0 dies at each named point; another one takes the same pushes, and everything that
/// was acknowledged is there.
pub(crate) async fn at_points(services: &mut Services) -> Ending {
    let names = points(|name| !is_of_moves(name));
    let mut subject = Subject::replicas(services, &[], &serde_json::Value::Null).await;
    let registry = subject.registry();
    let image = registry.image("crashes/points");
    let mut kept = 0;
    for (number, name) in names.iter().enumerate() {
        let ledger = Ledger::default();
        let cluster = subject.cluster().expect("replicas");
        cluster.replica(0).terminate();
        assert_eq!(cluster.replica(0).ended().await, Some(0), "{name}: an orderly end");
        cluster.replica(0).set_env("ARTIFACTAPI_FAILPOINT", Some(name));
        assert!(cluster.replica(0).try_start().await, "{name}: no point is passed before a request");
        let pushed = push_until_death(&image, number as u64 + 1, &ledger).await;
        let replica = subject.cluster().expect("replicas").replica(0);
        if !replica.has_ended() {
            // What comes after the last answer still passes it.
            replica.terminate();
        }
        assert_eq!(replica.ended().await, None, "{name} was never passed:\n{}", subject.logs());
        ledger.assert_kept_at(&[1, 2], name).await;
        if let Some(bytes) = pushed.last() {
            let again = image.push(Form::Chunked(CHUNK), bytes, &Route::turns([1, 2])).await;
            ledger.blob(&image, &again.unwrap_or_else(|refused| panic!("{name}: pushed again: {refused}")));
        }
        subject.assert_sound(name).await;
        let replica = subject.cluster().expect("replicas").replica(0);
        replica.set_env("ARTIFACTAPI_FAILPOINT", None);
        replica.start_again().await;
        ledger.assert_kept(name).await;
        kept += ledger.len();
    }
    println!(
        "\nfigure: a replica died at {} points of an upload; {kept} acknowledged blobs and manifests kept",
        names.len()
    );
    Ok(())
}
