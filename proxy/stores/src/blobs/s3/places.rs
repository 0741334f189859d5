//! Where in the bucket a blob's bytes are: in the place of their digest, or where a push has left them until they
//! are copied there. The own place is asked first, so that nothing else is asked for what is there.

use std::io;

use artifactapi_model::{
    Digest,
    ports::{BlobError, Place, UploadId},
};
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};
use reqwest::{Method, header};

use super::{MAX_COPY, Shared, error::Failure, place_of, settings::RETRIES, stream::pause};

/// The keys under which a blob may be, to be tried one after the other.
pub(super) struct Search<'a> {
    s3: &'a Shared,
    digest: Digest,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Own,
    Placed,
    /// It may just have been copied there.
    OwnAgain,
    End,
}

impl Search<'_> {
    /// The next key; `None`: there is no other.
    pub(super) async fn next(&mut self) -> Result<Option<Path>, Failure> {
        match self.step {
            Step::Own => {
                self.step = if self.s3.places.get().is_some() { Step::Placed } else { Step::End };
                return Ok(Some(place_of(&self.digest)));
            }
            Step::Placed => {
                let Some(places) = self.s3.places.get() else { return Ok(None) };
                let place = places.place(&self.digest).await;
                let place = place.map_err(|error| Failure::Broken(io::Error::other(error)))?;
                if let Some(place) = place {
                    self.step = Step::OwnAgain;
                    return Ok(Some(key_of(&place).map_err(Failure::Broken)?));
                }
            }
            Step::OwnAgain => {}
            Step::End => return Ok(None),
        }
        self.step = Step::End;
        Ok(Some(place_of(&self.digest)))
    }
}

/// The key of a place.
pub(in crate::blobs) fn key_of(place: &Place) -> io::Result<Path> {
    let id = place.0.strip_prefix("uploads/").and_then(UploadId::parse);
    let id = id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no place in this store"))?;
    Ok(Path::from(format!("uploads/{id}")))
}

impl Shared {
    /// The keys under which `digest` may be.
    pub(super) fn search(&self, digest: &Digest) -> Search<'_> {
        Search { s3: self, digest: *digest, step: Step::Own }
    }

    /// What is at `key`.
    pub(super) async fn head_at(&self, key: &Path) -> Result<Option<ObjectMeta>, BlobError> {
        match self.store.head(key).await.map_err(Failure::from) {
            Ok(meta) => Ok(Some(meta)),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure.into_blob("looking for an object in S3")),
        }
    }

    /// Removes what is at `key`.
    pub(super) async fn remove_at(&self, key: &Path) -> Result<(), BlobError> {
        match self.store.delete(key).await.map_err(Failure::from) {
            Err(failure) if !failure.is_missing() => Err(failure.into_blob("removing an object from S3")),
            _ => Ok(()),
        }
    }

    /// Where the blob is, and what is there.
    pub(super) async fn find(&self, digest: &Digest) -> Result<Option<ObjectMeta>, BlobError> {
        let mut search = self.search(digest);
        while let Some(key) =
            search.next().await.map_err(|failure| failure.into_blob("looking for a blob"))?
        {
            if let Some(meta) = self.head_at(&key).await? {
                return Ok(Some(meta));
            }
        }
        Ok(None)
    }

    /// Removes the blob wherever it is. S3 does not say whether there was anything, so both places are emptied.
    pub(super) async fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let (own, mut search) = (place_of(digest), self.search(digest));
        self.remove_at(&own).await?;
        while let Some(key) = search.next().await.map_err(|failure| failure.into_blob("removing a blob"))? {
            if key != own {
                self.remove_at(&key).await?;
            }
        }
        Ok(())
    }

    /// Puts aside the blob that is read at present: that in its own place if there is one.
    pub(super) async fn quarantine(&self, digest: &Digest) -> Result<(), BlobError> {
        match self.find(digest).await? {
            Some(meta) => self.quarantine_object(digest, &meta).await,
            None => Ok(()),
        }
    }

    /// Copies `object` aside and removes it, unless it was written anew meanwhile: that one is good, and may be all
    /// there is. The last look and the removal are two requests where the store knows no conditional removal; a
    /// writer whose object falls into this gap misses it when it looks whether it is there, and sends it again. The
    /// removal is never repeated without another look.
    pub(super) async fn quarantine_object(
        &self,
        digest: &Digest,
        object: &ObjectMeta,
    ) -> Result<(), BlobError> {
        const DOING: &str = "quarantining an object in S3";
        let key = &object.location;
        if object.size > MAX_COPY {
            tracing::warn!(blob.digest = %digest, "a damaged object is too large to be kept, and removed");
        } else {
            let aside = Path::from(format!("quarantine/{}", digest.to_hex()));
            match self.store.copy(key, &aside).await.map_err(Failure::from) {
                Err(failure) if failure.is_missing() => return Ok(()),
                copied => copied.map_err(|failure| failure.into_blob(DOING))?,
            }
        }
        let mut tries = 0;
        loop {
            let Some(now) = self.head_at(key).await? else { return Ok(()) };
            let same = now.e_tag == object.e_tag && now.last_modified == object.last_modified;
            if !same || now.size != object.size {
                tracing::info!(blob.digest = %digest, "a damaged object has been replaced meanwhile");
                return Ok(());
            }
            let failure = match self.remove_if(key, now.e_tag.as_deref()).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            tries += 1;
            if tries > RETRIES || !(failure.may_pass() || failure.is_conflict()) {
                return Err(failure.into_blob(DOING));
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    /// Removes what is at `key` in one attempt, if it still is what `e_tag` names; stores that do not know this
    /// condition remove it in any case.
    async fn remove_if(&self, key: &Path, e_tag: Option<&str>) -> Result<(), Failure> {
        let condition = e_tag.map(|e_tag| (header::IF_MATCH, e_tag));
        let answer = match self.signed(Method::DELETE, key, &[], condition, String::new()).await {
            Err(failure) if failure.is_unknown_to_store() => {
                self.signed(Method::DELETE, key, &[], None, String::new()).await
            }
            answer => answer,
        };
        match answer {
            Err(failure) if !failure.is_missing() => Err(failure),
            _ => Ok(()),
        }
    }
}
