//! RS-67: uploads that nobody finishes. They count while they are there, a Local takes only so many, and all of them go,
//! with their bytes and their multipart uploads, some time after the last one was written to.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use artifactapi_tests::{
    Services,
    fixtures::noise,
    http::PATIENCE,
    registry::{Refused, Registry, patiently},
    wait,
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{Ending, scale, subject::Subject};

/// Sessions, and the most there are at a greater scale.
const SESSIONS: usize = 120;
const MOST: usize = 10_000;
/// What a Local takes; more are told to come back.
const OF_ONE_LOCAL: usize = 4_096;
/// Clients at a time.
const CLIENTS: usize = 12;
/// One in so many has more bytes than one part of an S3 upload.
const LARGE_EACH: usize = 50;
const LARGE: usize = (5 << 20) + 7;

struct Stores<'a> {
    services: &'a Services,
    database: String,
}

impl Stores<'_> {
    fn data(&self) -> PathBuf {
        self.services.minio.0.home().join("data")
    }

    fn rows(&self) -> usize {
        let sql = || self.services.postgres.sql(&self.database, "SELECT count(*) FROM uploads");
        tokio::task::block_in_place(sql).parse().expect("a number")
    }

    fn objects(&self) -> usize {
        count(&self.data().join(&self.database))
    }

    /// Multipart uploads under way, of all buckets.
    fn multipart(&self) -> usize {
        count(&self.data().join(".minio.sys/multipart"))
    }
}

/// Counts the directories that MinIO keeps objects in.
fn count(dir: &Path) -> usize {
    // One that goes while it is read is no object any more.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let of = |path: PathBuf| if path.join("xl.meta").is_file() { 1 } else { count(&path) };
    entries.filter(|path| path.is_dir()).map(of).sum()
}

/// Opens session `number` and sends a little.
async fn begin(registry: &Registry, number: usize) -> Result<(), Refused> {
    let image = registry.image(&format!("unfinished/{}", number % 7));
    let route = registry.everywhere_from(number);
    let mut session = image.begin(route.next()).await?;
    let size = if number.is_multiple_of(LARGE_EACH) { LARGE } else { 700 };
    image.patch(route.next(), &mut session, noise(number as u64, size)).await
}

/// See the module.
pub(crate) async fn expire(services: &Services) -> Ending {
    let wanted = (SESSIONS * scale()).min(MOST);
    // Long enough that all of them are there at once, on a machine that does nothing else.
    let grace = Duration::from_secs(4 + wanted as u64 / 30);
    let grace_text = format!("{}s", grace.as_secs());
    let environment = [("ARTIFACTAPI_GC_INTERVAL", "500ms"), ("ARTIFACTAPI_GC_GRACE", grace_text.as_str())];
    let before = Stores { services, database: String::new() }.multipart();
    let subject = Subject::replicas(services, &environment, &json!({})).await;
    let Subject::Replicas(cluster) = &subject else { unreachable!("it was just made") };
    let stores = Stores { services, database: cluster.database().to_owned() };
    let registry = Arc::new(subject.registry());
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let registry = registry.clone();
        clients.spawn(async move {
            let (mut taken, mut refused) = (0, 0);
            for number in (client..wanted).step_by(CLIENTS) {
                match patiently(|| begin(&registry, number)).await {
                    Ok(()) => taken += 1,
                    Err(full) if full.status == Some(429) && full.is("TOOMANYREQUESTS") => refused += 1,
                    Err(other) => panic!("{number}: {other}"),
                }
            }
            (taken, refused)
        });
    }
    let (mut taken, mut refused) = (0, 0);
    while let Some(ended) = clients.join_next().await {
        let (more_taken, more_refused) = ended.expect("no client fails");
        (taken, refused) = (taken + more_taken, refused + more_refused);
    }
    let opened = began.elapsed();
    let (rows, objects, multipart) = (stores.rows(), stores.objects(), stores.multipart() - before);
    assert!(rows <= OF_ONE_LOCAL, "{rows} sessions");
    if opened < grace {
        assert!(refused == 0 || rows == OF_ONE_LOCAL, "{rows} sessions, {refused} refused");
        assert!(rows >= taken, "{rows} of {taken} are there");
    } else {
        println!("\nSKIPPED how many there may be at once: the first were over before the last was opened");
    }
    assert!(
        objects > 0 && multipart > 0,
        "nothing is staged: {objects} objects, {multipart} multipart uploads"
    );
    let all_gone = async || (stores.rows(), stores.objects(), stores.multipart()) == (0, 0, before);
    wait::until("all that was never finished to go", grace * 2 + PATIENCE, all_gone).await;
    let gone = began.elapsed() - opened;
    // The Local takes others again.
    begin(&registry, 1).await.unwrap_or_else(|refused| panic!("{refused}"));
    subject.assert_sound("after all sessions ended").await;
    println!(
        "\nfigure: {wanted} uploads never finished: {taken} taken, {refused} refused above {OF_ONE_LOCAL}, opened in \
         {:.1} s; {objects} staged objects and {multipart} multipart uploads; nothing left {:.1} s after the last one \
         (grace period {} s)",
        opened.as_secs_f64(),
        gone.as_secs_f64(),
        grace.as_secs()
    );
    Ok(())
}
