//! Uploads on a real MinIO, seen by two replicas, and what goes wrong on the way (RS-87, RS-89, RS-110).

use artifactapi_model::ports::{Placements, Stored, UploadId, UploadStore, UploadWriter};
use object_store::path::Path;

use super::*;
use crate::blobs::uploads_suite::{self, Places};

/// Two replicas on one bucket.
struct Replicas {
    _roots: [TempDir; 2],
    faulty: Faulty,
    blobs: [TieredBlobs; 2],
    places: Arc<Places>,
}

impl Replicas {
    async fn new(minio: &Minio) -> Self {
        let (roots, faulty) = ([TempDir::new().unwrap(), TempDir::new().unwrap()], Faulty::new());
        let (settings, places) = (settings(minio), Arc::<Places>::default());
        let mut blobs = Vec::new();
        for root in &roots {
            let s3 = faulty.blobs(settings.clone());
            s3.check().await.unwrap();
            s3.follow(places.clone());
            blobs.push(TieredBlobs::open(s3, root.path(), ROOMY).await.unwrap());
        }
        Replicas { _roots: roots, faulty, blobs: blobs.try_into().unwrap_or_else(|_| unreachable!()), places }
    }

    fn bench(&self) -> uploads_suite::Bench {
        let uploads = self.blobs.each_ref().map(|blobs| Arc::new(blobs.uploads()) as Arc<dyn UploadStore>);
        uploads_suite::Bench { blobs: Arc::new(self.blobs[0].clone()), uploads, places: self.places.clone() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conform() {
    let Some(minio) = minio("uploads::conform") else { return };
    let kept = std::sync::Mutex::new(Vec::new());
    uploads_suite::suite(async || {
        let replicas = Replicas::new(&minio).await;
        let bench = replicas.bench();
        kept.lock().unwrap().push(replicas);
        bench
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_110_random_schedules() {
    let Some(minio) = minio("uploads::rs_110_random_schedules") else { return };
    let replicas = Replicas::new(&minio).await;
    uploads_suite::schedules(async || replicas.bench(), 0..24).await;
    let s3 = replicas.blobs[0].s3();
    let (left, _) = s3.page_of_objects("uploads/", None).await.unwrap();
    assert!(left.iter().all(|object| !object.location.as_ref().contains('.')), "no tails are left: {left:?}");
}
