//! Holds rows against bytes, in both directions and only through the ports (RS-11).
//!
//! Every blob is read and hashed; every artifact and derived row is held against the blob it names. A blob that
//! no row names is no error: a crash between the two steps of a commit leaves one, since bytes come first.
//!
//! What was pushed and lost cannot be had again: it is reported, and stays as it is.
//!
//! Repairing never makes anything up. A damaged blob is moved out of the way, and a row without its bytes is
//! forgotten, so that the next request fetches both anew; the ledger of first digests is left alone.

use std::{collections::HashSet, fmt, sync::Arc};

use artifactapi_engine::scrub::{is_intact, scrub};
use artifactapi_model::{
    ArtifactKey, Digest,
    ports::{BlobError, BlobStore, Housekeeping, MetadataError, MetadataStore, Placements},
};

/// Rows and blobs asked for at once.
const PAGE: usize = 500;

/// Why the check itself could not be done.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The blob store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Artifact rows seen.
    pub artifacts: u64,
    /// Derived rows seen.
    pub derived: u64,
    /// Blobs whose bytes are not what their name says.
    pub damaged: Vec<Digest>,
    /// Blobs that could not be read, so that nothing is known of them.
    pub unread: u64,
    /// Artifact rows whose blob is missing or has another length.
    pub artifacts_without_bytes: Vec<ArtifactKey>,
    /// Derived rows whose blob, plain or gzip, is missing or has another length.
    pub derived_without_bytes: Vec<Digest>,
    /// Pushed blobs whose bytes are missing or of another length.
    pub pushed_without_bytes: Vec<Digest>,
    /// Blobs that no row names.
    pub unreferenced: u64,
    /// Blob rows without bytes: announced by who died before putting them. They go like other garbage.
    pub empty: u64,
    /// Blobs that a collection which died has left half deleted; the next one goes on with them.
    pub deleting: u64,
    /// Whether what was found has been repaired.
    pub repaired: bool,
}

impl Report {
    /// How many things are wrong.
    pub fn problems(&self) -> usize {
        self.damaged.len()
            + self.artifacts_without_bytes.len()
            + self.derived_without_bytes.len()
            + self.pushed_without_bytes.len()
            + usize::try_from(self.unread).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Report {
    /// One line per problem, then one of counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = |what: &'static str| if self.repaired { what } else { "" };
        for digest in &self.damaged {
            writeln!(f, "damaged blob {digest}{}", done(", quarantined"))?;
        }
        if self.unread > 0 {
            writeln!(f, "{} blobs could not be read; the log says why", self.unread)?;
        }
        for key in &self.artifacts_without_bytes {
            writeln!(f, "artifact without its bytes {key:?}{}", done(", forgotten"))?;
        }
        for inputs in &self.derived_without_bytes {
            writeln!(f, "derived document without its bytes {inputs}{}", done(", forgotten"))?;
        }
        for digest in &self.pushed_without_bytes {
            writeln!(f, "pushed blob without its bytes {digest}, to be pushed again")?;
        }
        write!(
            f,
            "{} blobs ({} bytes), {} artifacts, {} derived documents: {} damaged blobs, {} rows without bytes, \
             {} blobs without rows, {} announced without bytes, {} being deleted",
            self.blobs,
            self.bytes,
            self.artifacts,
            self.derived,
            self.damaged.len(),
            self.artifacts_without_bytes.len()
                + self.derived_without_bytes.len()
                + self.pushed_without_bytes.len(),
            self.unreferenced,
            self.empty,
            self.deleting
        )
    }
}

/// A check over two stores.
pub struct Fsck {
    /// The bytes.
    pub blobs: Arc<dyn BlobStore>,
    /// The rows.
    pub metadata: Arc<dyn MetadataStore>,
    /// The same database.
    pub keeper: Arc<dyn Housekeeping>,
    /// The same, for bodies that are not in their own place.
    pub places: Arc<dyn Placements>,
    /// Whether to repair what is found.
    pub repair: bool,
}

impl Fsck {
    /// Checks everything. Nobody else may use the stores meanwhile.
    ///
    /// # Errors
    /// [`FsckError`] when a store cannot be walked; what was found until then is lost.
    pub async fn run(&self) -> Result<Report, FsckError> {
        // As fast as the disk gives.
        let scrubbed = scrub(&*self.blobs, u64::MAX, self.repair).await?;
        let mut report = Report {
            blobs: scrubbed.blobs,
            bytes: scrubbed.bytes,
            damaged: scrubbed.damaged,
            unread: scrubbed.unread,
            repaired: self.repair,
            ..Report::default()
        };
        self.placed(&mut report).await?;
        let damaged: HashSet<Digest> = report.damaged.iter().copied().collect();
        self.artifacts(&mut report, &damaged).await?;
        self.derived(&mut report, &damaged).await?;
        self.unreferenced(&mut report).await?;
        self.empty(&mut report, &damaged).await?;
        report.deleting = self.keeper.blob_states().await?.deleting.count;
        Ok(report)
    }

    async fn artifacts(&self, report: &mut Report, damaged: &HashSet<Digest>) -> Result<(), FsckError> {
        let mut after = None;
        loop {
            let page = self.metadata.artifacts_after(after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, row) in page {
                report.artifacts += 1;
                if self.has(&row.digest, row.size, damaged).await? {
                    continue;
                }
                if self.repair {
                    self.metadata.forget_artifact(&key, &row.digest).await?;
                }
                report.artifacts_without_bytes.push(key);
            }
        }
    }

    async fn derived(&self, report: &mut Report, damaged: &HashSet<Digest>) -> Result<(), FsckError> {
        let mut after = None;
        loop {
            let page = self.metadata.derived_after(after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            for (inputs, row) in page {
                report.derived += 1;
                let mut whole = self.has(&row.digest, row.size, damaged).await?;
                if let Some((gzip, size)) = row.gzip {
                    whole &= self.has(&gzip, size, damaged).await?;
                }
                if whole {
                    continue;
                }
                if self.repair {
                    self.metadata.forget_derived(&inputs).await?;
                }
                report.derived_without_bytes.push(inputs);
            }
        }
    }

    async fn unreferenced(&self, report: &mut Report) -> Result<(), FsckError> {
        let mut after = None;
        loop {
            let page = self.blobs.list(after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            let digests: Vec<Digest> = page.iter().map(|(digest, _)| *digest).collect();
            let named: HashSet<Digest> = self.metadata.referenced(&digests).await?.into_iter().collect();
            report.unreferenced += digests.iter().filter(|digest| !named.contains(digest)).count() as u64;
        }
    }

    /// Reads the bodies of pushes that the walk over the blob store does not find.
    async fn placed(&self, report: &mut Report) -> Result<(), FsckError> {
        let mut after = None;
        loop {
            let page = self.places.placed(after.as_ref(), PAGE).await?;
            let Some((last, ..)) = page.last() else { return Ok(()) };
            after = Some(*last);
            for (digest, size, _) in page {
                // Of a pushed body there is no other copy.
                let is_damaged = match is_intact(&*self.blobs, &digest, u64::MAX).await {
                    Ok(is_intact) => !is_intact,
                    // Whether anybody misses it is looked at later.
                    Err(BlobError::NotFound(_)) => continue,
                    Err(error) => {
                        tracing::warn!(blob.digest = %digest, %error, "a pushed blob cannot be read");
                        report.unread += 1;
                        false
                    }
                };
                report.blobs += 1;
                report.bytes += size;
                if is_damaged && !report.damaged.contains(&digest) {
                    report.damaged.push(digest);
                }
            }
        }
    }

    /// Blob rows without bytes: announced by who died before putting them, or missed by someone.
    async fn empty(&self, report: &mut Report, damaged: &HashSet<Digest>) -> Result<(), FsckError> {
        let mut after = None;
        loop {
            let page = self.keeper.blobs_after(after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            let mut missing = Vec::new();
            for (digest, size) in page {
                report.empty += u64::from(self.blobs.size(&digest).await?.is_none());
                if !self.has(&digest, size, damaged).await? {
                    missing.push(digest);
                }
            }
            let pushed = self.places.pushed(&missing).await?;
            report.pushed_without_bytes.extend(pushed);
        }
    }

    /// Whether the bytes of a row are there, of the right length, and sound.
    async fn has(&self, digest: &Digest, size: u64, damaged: &HashSet<Digest>) -> Result<bool, FsckError> {
        Ok(!damaged.contains(digest) && self.blobs.size(digest).await? == Some(size))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use artifactapi_model::{
        Epoch, Mutability, RepoId, Timestamp,
        ports::{
            ImageKey, UploadId, UploadSessions,
            metadata::{ArtifactRow, DerivedRow},
            registry::{ClosedUpload, Linking, UploadLimits},
        },
    };
    use artifactapi_stores::{FsBlobs, MemoryMetadata};

    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        blobs: Arc<FsBlobs>,
        metadata: Arc<MemoryMetadata>,
    }

    fn key(path: &str) -> ArtifactKey {
        ArtifactKey { repo: RepoId(1), epoch: Epoch(1), path: path.into() }
    }

    impl Bench {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let blobs = Arc::new(FsBlobs::open(dir.path()).await.unwrap());
            Bench { dir, blobs, metadata: Arc::default() }
        }

        async fn blob(&self, bytes: &'static [u8]) -> Digest {
            let mut staged = self.blobs.stage(None).await.unwrap();
            staged.write(bytes.into()).await.unwrap();
            staged.commit(&Digest::of(bytes)).await.unwrap();
            Digest::of(bytes)
        }

        async fn artifact(&self, path: &str, digest: Digest, size: u64) {
            let row = ArtifactRow {
                digest,
                size,
                mutability: Mutability::Mutable,
                headers: Vec::new().into(),
                source_url: "http://up.test/".into(),
                verified: false,
                stored_at: Timestamp(0),
                checked_at: Timestamp(0),
                fetch_seq: self.metadata.next_fetch_seq().await.unwrap(),
            };
            self.metadata.commit_artifact(&key(path), &row).await.unwrap();
        }

        async fn derived(&self, inputs: &str, digest: Digest, gzip: Option<(Digest, u64)>) {
            let row = DerivedRow { digest, size: 5, gzip, content_type: "text/html".into() };
            self.metadata.put_derived(&Digest::of(inputs.as_bytes()), &row, Timestamp(0)).await.unwrap();
        }

        async fn check(&self, repair: bool) -> Report {
            let (blobs, metadata) = (self.blobs.clone(), self.metadata.clone());
            let (keeper, places) = (self.metadata.clone(), self.metadata.clone());
            Fsck { blobs, metadata, keeper, places, repair }.run().await.unwrap()
        }

        fn file(&self, digest: &Digest) -> std::path::PathBuf {
            let hex = digest.to_hex();
            self.dir.path().join("blobs/sha256").join(&hex[..2]).join(hex)
        }
    }

    #[tokio::test]
    async fn rs_11_a_sound_store_has_no_problems() {
        let bench = Bench::new().await;
        let (plain, packed) = (bench.blob(b"plain").await, bench.blob(b"zip").await);
        bench.artifact("a", plain, 5).await;
        bench.derived("d", plain, Some((packed, 3))).await;
        bench.blob(b"nobody's").await;
        let report = bench.check(false).await;
        assert_eq!((report.problems(), report.unreferenced), (0, 1), "{report}");
        assert_eq!((report.blobs, report.bytes, report.artifacts, report.derived), (3, 16, 1, 1));
    }

    #[tokio::test]
    async fn rs_11_a_push_that_was_lost_is_told_and_left_alone() {
        let bench = Bench::new().await;
        let image = ImageKey { repo: RepoId(7), name: "app".parse().unwrap() };
        let limits = UploadLimits { sessions: 9, quota: None };
        for (number, bytes) in [(1, b"there"), (2, b"gone!"), (3, b"short")] {
            let id = UploadId::of([number; 16]);
            bench.metadata.begin_upload(&image, &id, &limits).await.unwrap();
            bench.metadata.claim_upload(&image, &id, "w", Duration::from_secs(9)).await.unwrap();
            let blob = Digest::of(bytes);
            let size = if number == 3 { 4 } else { 5 };
            let body = ClosedUpload { digest: blob.into(), blob, size, place: None };
            let linked = bench.metadata.close_upload(&image, &id, "w", &body, None).await.unwrap();
            assert_eq!(linked, Linking::Linked);
        }
        bench.blob(b"there").await;
        bench.blob(b"short").await;
        let report = bench.check(true).await;
        let mut lost = vec![Digest::of(b"gone!"), Digest::of(b"short")];
        lost.sort_unstable();
        assert_eq!((report.problems(), &report.pushed_without_bytes), (2, &lost), "{report}");
        assert!(report.to_string().contains("to be pushed again"), "{report}");
        assert_eq!(bench.check(false).await.problems(), 2, "repairing makes nothing up");
    }

    #[tokio::test]
    async fn rs_11_blobs_on_their_way_in_or_out_are_counted_and_no_problem() {
        let bench = Bench::new().await;
        let (gone, stays) = (bench.blob(b"gone").await, bench.blob(b"stays").await);
        for digest in [gone, stays, Digest::of(b"never put")] {
            bench.metadata.announce_blob(&digest, 5).await.unwrap();
        }
        bench.artifact("a", stays, 5).await;
        let report = bench.check(true).await;
        assert_eq!((report.problems(), report.unreferenced, report.empty, report.deleting), (0, 1, 1, 0));
        assert_eq!(bench.metadata.condemn_blobs(Duration::ZERO, 9, false).await.unwrap().len(), 2);
        assert_eq!(bench.metadata.claim_blobs(Duration::ZERO, 9).await.unwrap().len(), 2);
        let report = bench.check(true).await;
        assert_eq!((report.problems(), report.unreferenced, report.empty, report.deleting), (0, 1, 0, 2));
        let counts = "1 blobs without rows, 0 announced without bytes, 2 being deleted";
        assert!(report.to_string().ends_with(counts), "{report}");
    }

    #[tokio::test]
    async fn rs_11_finds_damage_in_both_directions_and_repairs_it_once() {
        let bench = Bench::new().await;
        let (good, bad) = (bench.blob(b"12345").await, bench.blob(b"abcde").await);
        let gone = Digest::of(b"gone!");
        bench.artifact("good", good, 5).await;
        bench.artifact("damaged", bad, 5).await;
        bench.artifact("gone", gone, 5).await;
        bench.artifact("short", good, 4).await;
        bench.derived("damaged", bad, None).await;
        bench.derived("gzip gone", good, Some((gone, 5))).await;
        bench.derived("good", good, None).await;
        std::fs::write(bench.file(&bad), b"abcdX").unwrap();

        let report = bench.check(false).await;
        assert_eq!(report.damaged, [bad]);
        assert_eq!(report.artifacts_without_bytes, [key("damaged"), key("gone"), key("short")]);
        assert_eq!(report.derived_without_bytes.len(), 2);
        assert_eq!(bench.check(false).await, report, "looking changes nothing");

        let repaired = bench.check(true).await;
        assert_eq!(repaired.problems(), report.problems());
        assert!(repaired.to_string().contains("quarantined"), "{repaired}");
        let after = bench.check(false).await;
        assert_eq!((after.problems(), after.artifacts, after.derived), (0, 1, 1), "{after}");
        assert!(bench.metadata.artifact(&key("good")).await.unwrap().is_some());
        assert!(bench.dir.path().join("quarantine").join(bad.to_hex()).exists());
    }
}
