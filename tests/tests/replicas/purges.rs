//! Locals that are deleted, on the stores of replicas: what was pushed is kept, or purged after a while unless the Local
//! is back; purged by name at once. What nothing names any more leaves the database and the bucket.

use std::{fs, path::Path, time::Duration};

use artifactapi_tests::{
    Registry, Services,
    fixtures::noise,
    http::PATIENCE,
    manifest,
    registry::{Form, Image, image_of},
    replicas::{Cluster, Options},
    wait,
};
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

/// How long what nothing names is kept in each of two phases, and how long a purge waits.
const GRACE: Duration = Duration::from_secs(3);
/// How often a Local may come back too late on a busy machine.
const ROUNDS: usize = 5;
/// Locals: one is purged when it is deleted, the others are kept.
const PURGED: &str = "purged";
const RETAINED: &str = "retained";
const OTHER: &str = "other";

fn local(name: &str, policy: &str) -> String {
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": "Local", "metadata": { "name": name },
        "spec": { "type": "docker", "access": { "anonymousWrite": true }, "deletionPolicy": policy },
    });
    format!("{manifest}\n")
}

struct World<'a> {
    services: &'a Services,
    cluster: Cluster,
    registry: Registry,
}

/// An image with one manifest, and what it names.
struct Pushed {
    image: Image,
    manifest: String,
    blobs: Vec<String>,
}

impl World<'_> {
    /// All manifests but those of `without`.
    async fn apply_without(&self, without: &[&str]) {
        let all = [(PURGED, "Purge"), (RETAINED, "Retain"), (OTHER, "Retain")];
        let kept = all.iter().filter(|(name, _)| !without.contains(name));
        let documents: Vec<_> = kept.map(|(name, policy)| local(name, policy)).collect();
        let told = self.cluster.apply_only(&manifest::join(&documents)).await;
        assert_eq!(told.code, Some(0), "{}", told.text);
    }

    async fn push(&self, local: &str, seed: u64) -> Pushed {
        let image = self.registry.image(&format!("{local}/app"));
        let route = self.registry.everywhere();
        let layer = noise(seed, 200_000);
        let config = Bytes::from(format!("{{\"seed\":{seed}}}"));
        let mut blobs = Vec::new();
        for (form, bytes) in [(Form::Chunked(90_000), &layer), (Form::PostPut, &config)] {
            blobs.push(image.push(form, bytes, &route).await.unwrap_or_else(|refused| panic!("{refused}")));
        }
        let manifest = image_of(&config, &[(blobs[0].clone(), layer.len())]);
        let put = image.put_manifest(route.next(), "latest", &manifest).await;
        let manifest = put.unwrap_or_else(|refused| panic!("{refused}")).digest;
        Pushed { image, manifest, blobs }
    }

    /// Whether replica `number` has all of it; `None`: some of it.
    async fn has(&self, number: usize, pushed: &Pushed) -> Option<bool> {
        let mut found = vec![pushed.image.verify_manifest(number, &pushed.manifest).await.is_ok()];
        found.push(matches!(pushed.image.manifest(number, "latest").await, Ok(Some(_))));
        for blob in &pushed.blobs {
            found.push(pushed.image.verify_blob(number, blob).await.is_ok());
        }
        if found.iter().all(|it| *it) { Some(true) } else { found.iter().all(|it| !it).then_some(false) }
    }

    async fn everywhere(&self, pushed: &Pushed, wanted: bool, what: &str) {
        for number in 0..self.registry.entries() {
            let what = format!("{what}, at replica {number}");
            wait::until(&what, PATIENCE, async || self.has(number, pushed).await == Some(wanted)).await;
        }
    }

    fn count(&self, sql: &str) -> usize {
        let sql = || self.services.postgres.sql(self.cluster.database(), sql);
        tokio::task::block_in_place(sql).parse().expect("a number")
    }

    /// Objects in the bucket.
    fn objects(&self) -> usize {
        // A cluster's bucket is called like its database.
        count_objects(&self.services.minio.0.home().join("data").join(self.cluster.database()))
    }

    /// Waits until only `count` blobs are left, as rows and as objects; how long after `since` that was.
    async fn until_left(&self, count: usize, since: Instant) -> Duration {
        let left = async || (self.count("SELECT count(*) FROM blobs"), self.objects()) == (count, count);
        wait::until(&format!("{count} blobs to be left"), PATIENCE, left).await;
        since.elapsed()
    }

    /// How often any replica has purged a deleted Local, or has begun to.
    fn purges(&self) -> usize {
        let logs = self.cluster.logs();
        ["a deleted Local is purged", "it is purged no further"]
            .map(|words| logs.matches(words).count())
            .iter()
            .sum()
    }

    /// Takes the manifest of `pushed` away and brings it back before the wait is over: nothing is lost then. How long it
    /// was away, where a busy machine took longer: nothing is known of it then, and the Local is back everywhere.
    async fn back_in_time(&self, pushed: &Pushed) -> Result<(), Duration> {
        let (before, start) = (self.purges(), Instant::now());
        self.apply_without(&[PURGED, RETAINED]).await;
        self.everywhere(pushed, false, "a deleted Local not to be served").await;
        self.apply_without(&[]).await;
        for number in 0..self.registry.entries() {
            let what = format!("what was pushed to a Local that is back, at replica {number}");
            wait::until(&what, PATIENCE, async || {
                let purged = self.purges() > before;
                assert!(!purged || start.elapsed() >= GRACE, "too early:\n{}", self.cluster.logs());
                self.has(number, pushed).await == Some(true)
                    || purged && takes_pushes(&pushed.image, number).await
            })
            .await;
        }
        let away = start.elapsed();
        if away >= GRACE {
            // What a purge has still to do and to say is not to be taken for the next one's.
            tokio::time::sleep(GRACE).await;
            return Err(away);
        }
        tokio::time::sleep(2 * GRACE - away).await;
        assert_eq!(self.purges(), before, "{}", self.cluster.logs());
        self.everywhere(pushed, true, "what was pushed to a Local that is back").await;
        Ok(())
    }
}

/// Whether replica `number` has the Local of `image`, with whatever is left in it.
async fn takes_pushes(image: &Image, number: usize) -> bool {
    let Ok(session) = image.begin(number).await else { return false };
    image.cancel(number, &session).await.is_ok()
}

/// Counts the directories that MinIO keeps objects in.
fn count_objects(dir: &Path) -> usize {
    // One that goes while it is read is no object any more.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let count = |path: std::path::PathBuf| {
        if path.join("xl.meta").is_file() { 1 } else { count_objects(&path) }
    };
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).map(count).sum()
}

pub(crate) async fn of_locals(services: &Services) {
    let all = [local(PURGED, "Purge"), local(RETAINED, "Retain"), local(OTHER, "Retain")];
    let options = Options::new(manifest::join(&all)).env("ARTIFACTAPI_GC_INTERVAL", "300ms");
    let options = options.env("ARTIFACTAPI_GC_GRACE", format!("{}s", GRACE.as_secs()));
    let cluster = options.start(services).await;
    let registry = Registry::new(cluster.replicas().iter().map(|replica| replica.url()), "");
    let world = World { services, cluster, registry };
    let [purged, retained, other] =
        [world.push(PURGED, 1).await, world.push(RETAINED, 2).await, world.push(OTHER, 3).await];
    for pushed in [&purged, &retained, &other] {
        world.everywhere(pushed, true, "what was pushed").await;
    }
    world.until_left(6, Instant::now()).await;

    // Away for less than the wait: nothing is lost, also when the wait would be over.
    let mut away = world.back_in_time(&purged).await;
    for _ in 1..ROUNDS {
        if away.is_ok() {
            break;
        }
        // The same once more, whatever is left of it.
        world.push(PURGED, 1).await;
        world.everywhere(&purged, true, "what was pushed again").await;
        away = world.back_in_time(&purged).await;
    }
    if let Err(away) = away {
        println!("\nfigure: the machine was too busy to try a Local that is back: away for {away:?}");
    }

    // Away for longer: all of it goes, and nothing else.
    let (before, start) = (world.purges(), Instant::now());
    world.apply_without(&[PURGED, RETAINED]).await;
    wait::until("the purge", PATIENCE, async || world.purges() > before).await;
    let waited = start.elapsed();
    assert!(waited >= GRACE, "purged after {waited:?}");
    let collected = world.until_left(4, start).await;
    world.apply_without(&[]).await;
    world.everywhere(&purged, false, "what was purged").await;
    assert_eq!(purged.image.tags(0).await.expect("a list"), Vec::<String>::new());
    world.everywhere(&retained, true, "what is kept").await;
    world.everywhere(&other, true, "what nobody deleted").await;
    let again = world.push(PURGED, 4).await;
    world.everywhere(&again, true, "what is pushed after a purge").await;

    // By name, at once, served or not.
    let told = world.cluster.command(&["purge", RETAINED]).await;
    assert!(told.code == Some(2) && told.text.contains("--yes"), "{}", told.text);
    let told = world.cluster.command(&["purge", "nothing", "--yes"]).await;
    assert!(told.code == Some(1) && told.text.contains("no repository is called nothing"), "{}", told.text);
    world.everywhere(&retained, true, "what is kept").await;
    world.apply_without(&[PURGED]).await;
    let start = Instant::now();
    for name in [RETAINED, PURGED] {
        let told = world.cluster.command(&["purge", name, "--yes"]).await;
        assert_eq!(told.code, Some(0), "{}", told.text);
        assert!(told.text.contains(&format!("rows of {name} are deleted")), "{}", told.text);
    }
    for number in 0..world.registry.entries() {
        assert_eq!(world.has(number, &retained).await, Some(false), "at once, at replica {number}");
    }
    let by_name = world.until_left(2, start).await;
    world.everywhere(&other, true, "what nobody deleted").await;
    let told = world.cluster.command(&["fsck"]).await;
    assert!(told.code == Some(0) && told.text.contains("0 rows without bytes"), "{}", told.text);
    println!(
        "\nfigure: with a grace period of {} s a deleted Local was purged after {waited:.1?} and its bytes gone after \
         {collected:.1?}; purged by name, after {by_name:.1?}",
        GRACE.as_secs()
    );
}
