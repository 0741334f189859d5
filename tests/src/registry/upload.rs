//! Every form in which a blob can be pushed.

use bytes::Bytes;
use reqwest::{Body, Method};

use super::{Image, Refused, Route, location, pieces, refused, sha256};

/// How the bytes of a blob get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One POST with everything.
    Post,
    /// POST, then PUT with everything.
    PostPut,
    /// PATCH for each chunk of such a length, with `Content-Range`; PUT without a body.
    Chunked(usize),
    /// The same, the last chunk with the PUT.
    LastInPut(usize),
    /// One PATCH of unknown length, as docker and podman send it.
    Streamed,
}

impl Form {
    /// One of each, with chunks of `size` bytes.
    pub fn all(size: usize) -> [Form; 5] {
        [Form::Post, Form::PostPut, Form::Chunked(size), Form::LastInPut(size), Form::Streamed]
    }
}

/// An upload session: where its next request goes.
#[derive(Clone, Debug)]
pub struct Session {
    /// Path and query, as the registry gave it last.
    pub location: String,
    /// Bytes it has acknowledged.
    pub offset: u64,
}

impl Session {
    fn closing(&self, digest: &str) -> String {
        let join = if self.location.contains('?') { '&' } else { '?' };
        format!("{}{join}digest={digest}", self.location)
    }
}

impl Image {
    /// Opens a session.
    ///
    /// # Errors
    /// [`Refused`] when the answer is no 202 with a `Location`.
    pub async fn begin(&self, entry: usize) -> Result<Session, Refused> {
        let answer = self.expect(entry, Method::POST, "blobs/uploads/", &[], "", &[202]).await?;
        let location = location(&answer.headers);
        let location = location.ok_or_else(|| refused(Method::POST, "without a Location", &answer))?;
        Ok(Session { location, offset: 0 })
    }

    /// Sends the next chunk.
    ///
    /// # Errors
    /// [`Refused`] when it is not taken.
    pub async fn patch(&self, entry: usize, session: &mut Session, chunk: Bytes) -> Result<(), Refused> {
        let length = chunk.len() as u64;
        self.patch_body(entry, session, chunk, length).await
    }

    /// The same with a body that says how long it is and takes its time to come.
    ///
    /// # Errors
    /// [`Refused`] when it is not taken.
    pub async fn patch_body(
        &self,
        entry: usize,
        session: &mut Session,
        body: impl Into<Body>,
        length: u64,
    ) -> Result<(), Refused> {
        let range = format!("{}-{}", session.offset, (session.offset + length).saturating_sub(1));
        let length_text = length.to_string();
        let headers = [("content-range", range.as_str()), ("content-length", &length_text), OCTETS];
        self.append(entry, session, &headers, body).await?;
        session.offset += length;
        Ok(())
    }

    /// Sends a body whose length is not told, without a range.
    ///
    /// # Errors
    /// [`Refused`] when it is not taken.
    pub async fn stream(&self, entry: usize, session: &mut Session, bytes: &Bytes) -> Result<(), Refused> {
        let parts = pieces(bytes, 64 << 10).into_iter().map(Ok::<_, std::convert::Infallible>);
        let body = Body::wrap_stream(futures_util::stream::iter(parts));
        self.append(entry, session, &[OCTETS], body).await?;
        session.offset += bytes.len() as u64;
        Ok(())
    }

    async fn append(
        &self,
        entry: usize,
        session: &mut Session,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Result<(), Refused> {
        let answer = self.registry.send(entry, Method::PATCH, &session.location, headers, body).await?;
        if answer.status != 202 {
            return Err(refused(Method::PATCH, &session.location, &answer));
        }
        session.location = location(&answer.headers).unwrap_or_else(|| session.location.clone());
        Ok(())
    }

    /// Asks how far a session is, and goes on from there.
    ///
    /// # Errors
    /// [`Refused`] when the answer is not 204 with a range.
    pub async fn resume(&self, entry: usize, session: &mut Session) -> Result<(), Refused> {
        let answer = self.registry.send(entry, Method::GET, &session.location, &[], "").await?;
        let range = answer.header("range").split_once('-').and_then(|(_, last)| last.parse::<u64>().ok());
        let (204, Some(last)) = (answer.status, range) else {
            return Err(refused(Method::GET, &session.location, &answer));
        };
        session.location = location(&answer.headers).unwrap_or_else(|| session.location.clone());
        // `0-0` is said of nothing, and of one byte.
        session.offset = if last == 0 { 0 } else { last + 1 };
        Ok(())
    }

    /// Closes a session with a last chunk, which may be empty.
    ///
    /// # Errors
    /// [`Refused`] when the answer is no 201.
    pub async fn close(
        &self,
        entry: usize,
        session: &Session,
        digest: &str,
        last: Bytes,
    ) -> Result<(), Refused> {
        let length = last.len() as u64;
        let range = format!("{}-{}", session.offset, (session.offset + length).saturating_sub(1));
        let ranged = [("content-range", range.as_str()), OCTETS];
        // Without a chunk before it this is the monolithic form, which has no range.
        let headers = if length == 0 || session.offset == 0 { &ranged[1..] } else { &ranged[..] };
        let path = session.closing(digest);
        let answer = self.registry.send(entry, Method::PUT, &path, headers, last).await?;
        if answer.status == 201 { Ok(()) } else { Err(refused(Method::PUT, &path, &answer)) }
    }

    /// Closes a session that has nothing yet with a body that comes piece by piece.
    ///
    /// # Errors
    /// [`Refused`] when the answer is no 201.
    pub async fn close_body(
        &self,
        entry: usize,
        session: &Session,
        digest: &str,
        body: impl Into<Body>,
        length: u64,
    ) -> Result<(), Refused> {
        let (path, length) = (session.closing(digest), length.to_string());
        let headers = [OCTETS, ("content-length", length.as_str())];
        let answer = self.registry.send(entry, Method::PUT, &path, &headers, body).await?;
        if answer.status == 201 { Ok(()) } else { Err(refused(Method::PUT, &path, &answer)) }
    }

    /// Ends a session without a blob.
    ///
    /// # Errors
    /// [`Refused`] when the answer is not 204.
    pub async fn cancel(&self, entry: usize, session: &Session) -> Result<(), Refused> {
        let answer = self.registry.send(entry, Method::DELETE, &session.location, &[], "").await?;
        if answer.status == 204 { Ok(()) } else { Err(refused(Method::DELETE, &session.location, &answer)) }
    }

    /// Pushes `bytes` in one form, each request along `route`; its digest.
    ///
    /// # Errors
    /// [`Refused`] when any request is.
    pub async fn push(&self, form: Form, bytes: &Bytes, route: &Route) -> Result<String, Refused> {
        let digest = sha256(bytes);
        if form == Form::Post {
            let rest = format!("blobs/uploads/?digest={digest}");
            let answer =
                self.expect(route.next(), Method::POST, &rest, &[OCTETS], bytes.clone(), &[201, 202]).await?;
            if answer.status == 201 {
                return Ok(digest);
            }
            // A registry may decline to take it at once, and open a session.
            let location = location(&answer.headers).ok_or_else(|| refused(Method::POST, &rest, &answer))?;
            let session = Session { location, offset: 0 };
            return self.close(route.next(), &session, &digest, bytes.clone()).await.map(|()| digest);
        }
        let mut session = self.begin(route.next()).await?;
        let mut last = Bytes::new();
        match form {
            Form::Post | Form::PostPut => last = bytes.clone(),
            Form::Streamed => self.stream(route.next(), &mut session, bytes).await?,
            Form::Chunked(size) | Form::LastInPut(size) => {
                let mut chunks = pieces(bytes, size);
                if matches!(form, Form::LastInPut(_)) {
                    last = chunks.pop().unwrap_or_default();
                }
                for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
                    self.patch(route.next(), &mut session, chunk).await?;
                }
            }
        }
        self.close(route.next(), &session, &digest, last).await.map(|()| digest)
    }

    /// Takes over a blob from `from` (any image, when there is none); `false`: a session was opened instead, and
    /// cancelled.
    ///
    /// # Errors
    /// [`Refused`] for any answer but 201 and 202.
    pub async fn mount(&self, entry: usize, digest: &str, from: Option<&Image>) -> Result<bool, Refused> {
        let from = from.map(|image| format!("&from={}", image.name)).unwrap_or_default();
        let rest = format!("blobs/uploads/?mount={digest}{from}");
        let answer = self.expect(entry, Method::POST, &rest, &[], "", &[201, 202]).await?;
        if answer.status == 201 {
            return Ok(true);
        }
        if let Some(location) = location(&answer.headers) {
            // Whether it can be cancelled is the registry's affair.
            let _ = self.cancel(entry, &Session { location, offset: 0 }).await;
        }
        Ok(false)
    }
}

const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");
