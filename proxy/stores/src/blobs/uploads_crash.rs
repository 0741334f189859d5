//! RS-97: the process dies at each named point of a push, and another one goes on from what was recorded. Needs the
//! feature `failpoints`.
//!
//! The process that dies is this test program, run again with [`child`] as its only test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use artifactapi_model::{
    Digest,
    failpoint::{PUSH_NAMES, S3_PUSH_NAMES},
    ports::{BlobStore, Place, Stored, UploadId, UploadStore},
};
use artifactapi_services::{Minio, scratch};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    FsBlobs, S3Blobs, S3Settings, TieredBlobs,
    s3::testing::{minio, settings},
    suite::{pattern, read_all},
    uploads_suite::Places,
};

const MIB: usize = 1 << 20;
/// Lengths of the requests of one push.
const REQUESTS: [usize; 4] = [9 * MIB, MIB, 14 * MIB, 3];
/// Tells the child what to do.
const ORDER: &str = "ARTIFACTAPI_TEST_PUSH";

/// One push, and where to.
#[derive(Serialize, Deserialize)]
struct Order {
    root: PathBuf,
    /// Endpoint and bucket; `None`: a directory.
    s3: Option<(String, String)>,
    /// Stands for the session's row.
    row: PathBuf,
    id: [u8; 16],
    /// Which body.
    number: usize,
}

/// What the caller would have in its row.
#[derive(Default, Serialize, Deserialize)]
struct Row {
    offset: usize,
    stored: String,
    closed: bool,
    place: Option<String>,
}

impl Row {
    fn read(path: &Path) -> Self {
        fs::read(path).map_or_else(|_| Row::default(), |text| serde_json::from_slice(&text).unwrap())
    }

    fn write(&self, path: &Path) {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(self).unwrap()).unwrap();
        fs::rename(new, path).unwrap();
    }
}

impl Order {
    fn body(&self) -> Bytes {
        pattern(REQUESTS.iter().sum::<usize>() + self.number).slice(self.number..)
    }

    async fn open(&self, places: &Arc<Places>) -> (Arc<dyn BlobStore>, Arc<dyn UploadStore>) {
        let Some((endpoint, bucket)) = &self.s3 else {
            let blobs = FsBlobs::open(&self.root).await.unwrap();
            let uploads = blobs.uploads();
            return (Arc::new(blobs), Arc::new(uploads));
        };
        let (access, secret) = (Minio::ACCESS_KEY.into(), Minio::SECRET_KEY.into());
        let s3 = S3Blobs::new(S3Settings::new(endpoint.as_str(), bucket.as_str(), access, secret)).unwrap();
        s3.check().await.unwrap();
        s3.follow(places.clone());
        let blobs = TieredBlobs::open(s3, &self.root, 1 << 30).await.unwrap();
        let uploads = blobs.uploads();
        (Arc::new(blobs), Arc::new(uploads))
    }

    /// Runs the child; with a failpoint it dies there, if it passes it as often.
    fn run(&self, failpoint: Option<&str>) -> ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "blobs::uploads_crash::child", "--nocapture"]);
        child.env(ORDER, serde_json::to_string(self).unwrap()).env_remove("ARTIFACTAPI_FAILPOINT");
        child.envs(failpoint.map(|name| ("ARTIFACTAPI_FAILPOINT", name)));
        child.output().unwrap().status
    }
}

/// Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Order = serde_json::from_str(&order).unwrap();
    let (_, uploads) = order.open(&Arc::default()).await;
    let (body, id, mut row) = (order.body(), UploadId::of(order.id), Row::read(&order.row));
    let (mut end, mut took_over) = (0, true);
    for (n, length) in REQUESTS.into_iter().enumerate() {
        end += length;
        let last = n + 1 == REQUESTS.len();
        if row.closed || (row.offset >= end && !last) {
            continue;
        }
        let stored = Stored(row.stored.clone());
        let mut writer = uploads.resume(&id, &stored, row.offset as u64, took_over).await.unwrap();
        for start in (row.offset..end).step_by(MIB) {
            if writer.must_keep() {
                let (offset, stored) = writer.keep().await.unwrap();
                row = Row { offset: usize::try_from(offset).unwrap(), stored: stored.0, ..row };
                row.write(&order.row);
            }
            writer.write(body.slice(start..end.min(start + MIB))).await.unwrap();
        }
        if last {
            let place = writer.finish(&Digest::of(&body)).await.unwrap();
            row = Row { closed: true, place: place.map(|place| place.0), ..row };
        } else {
            row = Row { offset: end, stored: writer.pause().await.unwrap().0, ..row };
        }
        row.write(&order.row);
        took_over = false;
    }
    if let Some(place) = row.place.clone() {
        assert!(uploads.settle(&Place(place), &Digest::of(&body), body.len() as u64).await.unwrap());
    }
}

/// Kills a push at each passing of each point and lets another process end it; how often it was killed.
async fn visit(names: &[&str], root: &Path, s3: Option<(String, String)>) {
    let mut number = 0;
    for name in names {
        for passing in 1..=2 {
            number += 1;
            let case = format!("{name}@{passing}");
            let row = root.join(format!("row-{number}"));
            let id = crate::random::random().unwrap();
            let order = Order { root: root.join("data"), s3: s3.clone(), row, id, number };
            let killed = !order.run(Some(&case)).success();
            assert!(killed || passing > 1, "{case} is never passed");
            assert!(order.run(None).success(), "{case}: another process does not go on");
            let row = Row::read(&order.row);
            assert!(row.closed, "{case}");
            let (body, id, places) = (order.body(), UploadId::of(order.id), Arc::<Places>::default());
            let (blobs, uploads) = order.open(&places).await;
            let digest = Digest::of(&body);
            let read = async || read_all(&*blobs.open(&digest).await.unwrap(), MIB).await;
            assert!(read().await == body, "{case}: in its own place");
            uploads.discard(&id, &Stored(row.stored), row.place.is_some()).await.unwrap();
            if let Some(place) = row.place {
                uploads.remove_place(&Place(place)).await.unwrap();
            }
            assert!(read().await == body, "{case}");
            assert_eq!(
                uploads.list(None, Duration::ZERO, 10).await.unwrap(),
                [],
                "{case}: nothing is left over"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_97_a_push_into_a_directory_survives_its_process() {
    let root = scratch();
    visit(&PUSH_NAMES, root.path(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_97_a_push_to_s3_survives_its_process() {
    let Some(minio) = minio("rs_97_a_push_to_s3_survives_its_process") else { return };
    let (root, settings) = (scratch(), settings(&minio));
    let names = [&PUSH_NAMES[..], &S3_PUSH_NAMES].concat();
    visit(&names, root.path(), Some((settings.endpoint, settings.bucket))).await;
}
