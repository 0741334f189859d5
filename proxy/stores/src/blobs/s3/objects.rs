//! What a push needs of the bucket: multipart uploads that outlive a request and a process, and small objects beside
//! them.
//!
//! `object_store` numbers the parts of a completion without a gap. Ours may have gaps, left for those whom a writer
//! has taken over from, so this request is made here, as are those that it does not have at all. They are signed in
//! their URL.

use std::{io, sync::Arc, time::Duration};

use artifactapi_model::{
    Digest, Hasher, failpoint,
    ports::{BlobError, BlobReader, blobs::MAX_READ},
};
use async_trait::async_trait;
use bytes::Bytes;
use md5::Digest as _;
use object_store::{
    ObjectMeta, ObjectStoreExt, PutPayload,
    client::{HttpRequest, HttpRequestBody},
    list::{PaginatedListOptions, PaginatedListStore},
    multipart::MultipartStore,
    path::Path,
    signer::{SignedUrlOptions, Signer},
};
use reqwest::{
    Method,
    header::{self, HeaderName, HeaderValue},
};

use super::{
    MAX_COPY, S3Blobs, Shared,
    error::{Failure, Refusal},
    place_of,
    settings::RETRIES,
    stream::{ObjectStream, pause},
    upload::{Failed, pieces, settled},
};
use crate::blobs::fs::reader::readable;

const DOING: &str = "writing an upload to S3";
/// How long a signed request may be on its way.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Time for the body of an answer, as a multiple of the patience: some stores assemble an object meanwhile.
const BODY_FACTOR: u32 = 6;
/// Most of an answer that is read.
const MAX_ANSWER: usize = 4 << 20;

/// A part that S3 has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::blobs) struct SentPart {
    /// 1 to 10,000.
    pub(in crate::blobs) number: u32,
    pub(in crate::blobs) e_tag: String,
    pub(in crate::blobs) size: u64,
}

/// Why a part was not sent.
pub(in crate::blobs) enum NotSent {
    /// There is no such upload any more: somebody has completed or aborted it.
    Gone,
    /// Anything else.
    Failed(BlobError),
}

impl From<Failed> for NotSent {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::S3(failure) if failure.is_missing() => NotSent::Gone,
            Failed::S3(failure) => NotSent::Failed(failure.into_blob(DOING)),
            Failed::Reading(error) => NotSent::Failed(error),
        }
    }
}

impl Shared {
    /// One attempt of a request that `object_store` does not know.
    pub(super) async fn signed(
        &self,
        method: Method,
        key: &Path,
        query: &[(&str, &str)],
        condition: Option<(HeaderName, &str)>,
        body: String,
    ) -> Result<Bytes, Failure> {
        let broken = |error: String| Failure::Broken(io::Error::new(io::ErrorKind::InvalidInput, error));
        let options = SignedUrlOptions::new().with_query(query.iter().copied());
        let url = self.store.signed_url_opts(method.clone(), key, SIGNED_FOR, &options).await?;
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(|_| broken("no URI".into()))?;
        if let Some((name, value)) = condition {
            let value = HeaderValue::from_str(value).map_err(|error| broken(error.to_string()))?;
            request.headers_mut().insert(name, value);
        }
        let answer = self.http.execute(request).await.map_err(Failure::from_http)?;
        let status = answer.status();
        let body = tokio::time::timeout(self.patience * BODY_FACTOR, answer.into_body().bytes()).await;
        let late = |_| Failure::Broken(io::ErrorKind::TimedOut.into());
        let body = body.map_err(late)?.map_err(Failure::from_http)?;
        let text = String::from_utf8_lossy(&body[..body.len().min(MAX_ANSWER)]);
        // A completion begins to answer before it knows how it ends.
        if !status.is_success() || text.contains("<Error>") {
            return Err(Failure::Broken(io::Error::other(Refusal::new(status.as_u16(), &text))));
        }
        Ok(body)
    }

    /// Completes a multipart upload, in one attempt.
    async fn complete(&self, key: &Path, id: &str, parts: &[SentPart]) -> Result<(), Failure> {
        let mut body = String::from("<CompleteMultipartUpload>");
        for SentPart { number, e_tag, .. } in parts {
            let e_tag = e_tag.replace('&', "&amp;").replace('<', "&lt;");
            body += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{e_tag}</ETag></Part>");
        }
        body += "</CompleteMultipartUpload>";
        // Of two that were begun, the one completed first stays: a blob may have it for its place.
        let condition = self.conditional_put().then_some((header::IF_NONE_MATCH, "*"));
        self.signed(Method::POST, key, &[("uploadId", id)], condition, body).await.map(|_| ())
    }
}

impl S3Blobs {
    /// Begins a multipart upload.
    pub(in crate::blobs) async fn begin_parts(&self, key: &Path) -> Result<String, BlobError> {
        let begun = self.0.store.create_multipart(key).await;
        begun.map_err(|error| Failure::from(error).into_blob(DOING))
    }

    /// Sends one part, made of the first bytes of each of `bodies`; its ETag.
    pub(in crate::blobs) async fn send_part(
        &self,
        key: &Path,
        id: &str,
        number: u32,
        bodies: &[(Arc<dyn BlobReader>, u64)],
    ) -> Result<SentPart, NotSent> {
        let size: u64 = bodies.iter().map(|(_, length)| length).sum();
        let _memory = self.0.memory.take(size).await;
        let mut body = Vec::new();
        for (reader, length) in bodies {
            pieces(&**reader, 0, *length, &mut body).await?;
        }
        let (body, id) = (body.into_iter().collect::<PutPayload>(), id.to_owned());
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        let mut tries = 0;
        loop {
            let sent = self.0.store.put_part(key, &id, index, body.clone()).await.map_err(Failure::from);
            let failure = match sent {
                Ok(part) => {
                    failpoint("upload.write.after_part");
                    return Ok(SentPart { number, e_tag: part.content_id, size });
                }
                Err(failure) => failure,
            };
            tries += 1;
            if tries > RETRIES || !failure.may_pass() {
                return Err(Failed::S3(failure).into());
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    /// Makes the parts an object of `size` bytes and returns when it is there. An unknown outcome is settled by
    /// asking (RS-89): an object of this length and of these parts is it, and so is one that has `digest`.
    pub(in crate::blobs) async fn complete_parts(
        &self,
        key: &Path,
        id: &str,
        parts: &[SentPart],
        digest: Option<&Digest>,
    ) -> Result<(), BlobError> {
        let size: u64 = parts.iter().map(|part| part.size).sum();
        let mut tries = 0;
        loop {
            let failure = self.0.complete(key, id, parts).await.err();
            let there = self.0.head_at(key).await?;
            if let Some(there) = there.filter(|there| there.size == size) {
                let ours = e_tag_of(parts).is_some_and(|e_tag| there.e_tag.as_ref() == Some(&e_tag));
                let sure = failure.is_none() || ours;
                if sure || self.has_digest(key, digest).await? {
                    return Ok(());
                }
            }
            let failure = failure.unwrap_or_else(|| {
                Failure::Broken(io::Error::other("S3 took the object and does not have it"))
            });
            tries += 1;
            if tries > RETRIES || !failure.may_pass() {
                return Err(failure.into_blob(DOING));
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    /// Whether there is an object of `size` bytes at `key`, and they have `digest`. Reads all of it: only for a body
    /// that somebody else has completed.
    pub(in crate::blobs) async fn is_body(
        &self,
        key: &Path,
        size: u64,
        digest: &Digest,
    ) -> Result<bool, BlobError> {
        let there = self.0.head_at(key).await?.is_some_and(|there| there.size == size);
        Ok(there && self.has_digest(key, Some(digest)).await?)
    }

    async fn has_digest(&self, key: &Path, digest: Option<&Digest>) -> Result<bool, BlobError> {
        let Some(digest) = digest else { return Ok(false) };
        let Some(mut stream) = ObjectStream::open_at(self.0.clone(), key.clone()).await? else {
            return Ok(false);
        };
        let mut hasher = Hasher::for_checksums(&[]);
        while let Some(bytes) = stream.next().await? {
            hasher.update(&bytes);
        }
        Ok(hasher.finish().digest == *digest)
    }

    /// Gives up a multipart upload; no error when there is none.
    pub(in crate::blobs) async fn abort_parts(&self, key: &Path, id: &str) -> Result<(), BlobError> {
        match self.0.store.abort_multipart(key, &id.to_owned()).await.map_err(Failure::from) {
            Err(failure) if !failure.is_missing() => Err(failure.into_blob("aborting an upload to S3")),
            _ => Ok(()),
        }
    }

    /// Ids of the multipart uploads under way to exactly `key`, also those that nobody has written down.
    pub(in crate::blobs) async fn begun_parts(&self, key: &Path) -> Result<Vec<String>, BlobError> {
        let query = [("uploads", ""), ("prefix", key.as_ref())];
        let answer = self.0.signed(Method::GET, &Path::default(), &query, None, String::new()).await;
        let answer = match answer {
            Ok(answer) => answer,
            // Not every store can, and not every key may.
            Err(failure @ Failure::Refused(_)) => {
                tracing::debug!(%failure, "S3 does not list the uploads under way");
                return Ok(Vec::new());
            }
            Err(failure) => return Err(failure.into_blob("listing uploads to S3")),
        };
        let text = String::from_utf8_lossy(&answer);
        let element = |text: &str, name: &str| {
            let inner = text.split_once(&format!("<{name}>"))?.1;
            Some(inner.split_once(&format!("</{name}>"))?.0.replace("&quot;", "\"").replace("&amp;", "&"))
        };
        let uploads = text.split("<Upload>").skip(1);
        let ours = uploads.filter(|upload| element(upload, "Key").as_deref() == Some(key.as_ref()));
        Ok(ours.filter_map(|upload| element(upload, "UploadId")).collect())
    }

    /// Writes a small object.
    pub(in crate::blobs) async fn put_object(
        &self,
        key: &Path,
        reader: &dyn BlobReader,
        size: u64,
    ) -> Result<(), BlobError> {
        let _memory = self.0.memory.take(size).await;
        let mut body = Vec::new();
        match pieces(reader, 0, size, &mut body).await {
            Err(Failed::Reading(error)) => return Err(error),
            Err(Failed::S3(failure)) => return Err(failure.into_blob(DOING)),
            Ok(()) => {}
        }
        let put = self.0.store.put(key, body.into_iter().collect()).await;
        put.map(|_| ()).map_err(|error| Failure::from(error).into_blob(DOING))
    }

    /// Length of the object at `key`.
    pub(in crate::blobs) async fn object_size(&self, key: &Path) -> Result<Option<u64>, BlobError> {
        Ok(self.0.head_at(key).await?.map(|meta| meta.size))
    }

    /// Length of the blob in its own place, wherever else it may be.
    pub(in crate::blobs) async fn own_size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.object_size(&place_of(digest)).await
    }

    /// The object at `key` from its begin; `None` when there is none.
    pub(in crate::blobs) async fn stream_object(
        &self,
        key: &Path,
    ) -> Result<Option<ObjectStream>, BlobError> {
        ObjectStream::open_at(self.0.clone(), key.clone()).await
    }

    /// A reader of the object at `key`, which has `size` bytes; every read is a request.
    pub(in crate::blobs) fn object_reader(&self, key: Path, size: u64) -> Arc<dyn BlobReader> {
        Arc::new(ObjectReader { s3: self.0.clone(), key, size })
    }

    /// Removes an object; no error when there is none.
    pub(in crate::blobs) async fn remove_object(&self, key: &Path) -> Result<(), BlobError> {
        self.0.remove_at(key).await
    }

    /// A page of the objects whose keys begin with `prefix`, after the key `after`; `true`: there are more.
    pub(in crate::blobs) async fn page_of_objects(
        &self,
        prefix: &str,
        after: Option<String>,
    ) -> Result<(Vec<ObjectMeta>, bool), BlobError> {
        let options = PaginatedListOptions { offset: after, ..PaginatedListOptions::default() };
        let page = self.0.store.list_paginated(Some(prefix), options).await;
        let page = page.map_err(|error| Failure::from(error).into_blob("listing S3"))?;
        Ok((page.result.objects, page.page_token.is_some()))
    }

    /// Copies the object at `from` to the own place of `digest`, within the store; `false`: it is too large for one
    /// request.
    pub(in crate::blobs) async fn settle_object(
        &self,
        from: &Path,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, BlobError> {
        if settled(&self.0, digest, size).await? {
            return Ok(true);
        }
        if size > MAX_COPY {
            return Ok(false);
        }
        let copied = self.0.store.copy(from, &place_of(digest)).await.map_err(Failure::from);
        failpoint("upload.settle.after_copy");
        // It may be done all the same.
        if settled(&self.0, digest, size).await? {
            return Ok(true);
        }
        let failure = copied.err();
        let failure = failure
            .unwrap_or_else(|| Failure::Broken(io::Error::other("S3 has copied other bytes than it has")));
        Err(failure.into_blob("copying an object in S3"))
    }
}

/// The ETag that S3 gives to an object of these parts, where ETags are MD5; `None` where they are not.
fn e_tag_of(parts: &[SentPart]) -> Option<String> {
    let mut all = md5::Md5::new();
    for part in parts {
        let mut md5 = [0; 16];
        hex::decode_to_slice(part.e_tag.trim_matches('"'), &mut md5).ok()?;
        all.update(md5);
    }
    Some(format!("\"{}-{}\"", hex::encode(all.finalize()), parts.len()))
}

/// One object, read by ranges.
struct ObjectReader {
    s3: Arc<Shared>,
    key: Path,
    size: u64,
}

#[async_trait]
impl BlobReader for ObjectReader {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, BlobError> {
        let length = readable(self.size, offset, length.min(MAX_READ));
        if length == 0 {
            return Ok(Bytes::new());
        }
        let read = self.s3.store.get_range(&self.key, offset..offset + length as u64).await;
        read.map_err(|error| Failure::from(error).into_blob("reading an upload from S3"))
    }
}
