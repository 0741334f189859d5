//! Bodies on their way in: how their end is known, how long a piece may take, and what holds a place in
//! `maxConcurrent` until then.

use std::time::Duration;

use artifactapi_model::{
    ports::upstream::{Framing, Layer, UpstreamBody, UpstreamError, UpstreamMethod},
    repository::Timeouts,
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode, Version, header};
use reqwest::Response;
use url::Url;

use crate::{
    error::{broken, timeout, translate},
    hosts::Ticket,
    limits::Permit,
};

/// How the end of a body will be known.
///
/// # Errors
/// Why the head leaves it unclear.
pub(crate) fn framing(
    method: UpstreamMethod,
    status: StatusCode,
    version: Version,
    headers: &HeaderMap,
) -> Result<Framing, String> {
    if method != UpstreamMethod::Head && matches!(status.as_u16(), 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let is_http1 = version <= Version::HTTP_11;
    if is_http1 && headers.contains_key(header::TRANSFER_ENCODING) {
        // RFC 9112, 6.3: it wins over Content-Length; only a final `chunked` marks the end.
        let ends_chunked = headers
            .get_all(header::TRANSFER_ENCODING)
            .iter()
            .next_back()
            .and_then(|value| value.to_str().ok()?.rsplit(',').next())
            .is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"));
        return Ok(if ends_chunked { Framing::Delimited } else { Framing::Close });
    }
    match content_length(headers)? {
        Some(length) => Ok(Framing::Length(length)),
        None if is_http1 && method != UpstreamMethod::Head => Ok(Framing::Close),
        None => Ok(Framing::Delimited),
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, String> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let parsed: u64 = value
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or("its Content-Length is no number")?;
        if length.is_some_and(|known| known != parsed) {
            return Err("its Content-Length headers contradict each other".into());
        }
        length = Some(parsed);
    }
    Ok(length)
}

/// What a body being read carries along.
pub(crate) struct Reading {
    /// For messages.
    pub(crate) url: Url,
    /// Longest wait for the next piece.
    pub(crate) idle: Duration,
    /// How the body ends.
    pub(crate) framing: Framing,
    /// To report how it ended.
    pub(crate) ticket: Ticket,
    /// The place in `maxConcurrent`.
    pub(crate) _permit: Permit,
}

/// The body as a stream that ends cleanly only when it is whole; its last item is an error otherwise.
/// Nothing is read ahead. The permit is given back with the last item or when the stream is dropped.
pub(crate) fn stream(response: Response, reading: Reading) -> UpstreamBody {
    let status = response.status();
    let pieces = Box::pin(response.bytes_stream());
    let state = Some((pieces, reading, 0u64));
    let pieces = stream::unfold(state, move |state| async move {
        let (mut pieces, mut reading, received) = state?;
        match next_piece(&mut pieces, &reading, received).await {
            Ok(Some(piece)) => {
                let received = received + piece.len() as u64;
                Some((Ok(piece), Some((pieces, reading, received))))
            }
            Ok(None) => {
                reading.ticket.succeeded(status);
                None
            }
            Err(error) => {
                if speaks_against_host(reading.idle, &error) {
                    reading.ticket.failed();
                }
                Some((Err(error), None))
            }
        }
    });
    pieces.fuse().boxed()
}

/// [`is_host_failure`](crate::error::is_host_failure) of `error` in a body that was given `idle` for each piece.
fn speaks_against_host(idle: Duration, error: &UpstreamError) -> bool {
    match error {
        UpstreamError::Timeout { .. } => is_usual(idle),
        _ => true,
    }
}

/// Whether `idle` is no shorter than the usual limit.
fn is_usual(idle: Duration) -> bool {
    idle >= Timeouts::default().idle
}

async fn next_piece(
    pieces: &mut (impl Stream<Item = reqwest::Result<Bytes>> + Unpin),
    reading: &Reading,
    received: u64,
) -> Result<Option<Bytes>, UpstreamError> {
    let next = tokio::time::timeout(reading.idle, pieces.next())
        .await
        .map_err(|_| timeout(&reading.url, Layer::Http, reading.idle))?;
    let piece = next.transpose().map_err(|error| translate(&error, &reading.url, reading.idle, false))?;
    // The client checks this too; a body that is kept for good deserves a second look.
    match (reading.framing, &piece) {
        (Framing::Length(length), None) if received < length => Err(broken(
            &reading.url,
            Layer::Http,
            format!("the body ended after {received} of {length} bytes"),
        )),
        (Framing::Length(length), Some(piece)) if received + piece.len() as u64 > length => Err(broken(
            &reading.url,
            Layer::Http,
            format!("the body is longer than the {length} bytes announced"),
        )),
        _ => Ok(piece),
    }
}

/// Why a small body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    /// A piece came later than it should.
    #[error("its answer stalled")]
    Stalled,
    /// The connection broke.
    #[error("its answer broke off")]
    BrokeOff,
    /// It has more bytes than this.
    #[error("its answer has more than {0} bytes")]
    TooLong(usize),
}

impl Unread {
    /// Whether it speaks against the host that was given `idle` for each piece.
    pub(crate) fn is_host_failure(self, idle: Duration) -> bool {
        match self {
            Unread::Stalled => is_usual(idle),
            Unread::BrokeOff => true,
            Unread::TooLong(_) => false,
        }
    }
}

/// Reads a small body whole, for documents that are parsed and thrown away.
///
/// # Errors
/// A body over `limit` bytes, a piece later than `idle`, a broken connection.
pub(crate) async fn read_small(
    mut response: Response,
    limit: usize,
    idle: Duration,
) -> Result<Bytes, Unread> {
    let mut body = BytesMut::new();
    loop {
        let piece = tokio::time::timeout(idle, response.chunk()).await;
        match piece.map_err(|_| Unread::Stalled)?.map_err(|_| Unread::BrokeOff)? {
            Some(piece) if body.len() + piece.len() > limit => {
                return Err(Unread::TooLong(limit));
            }
            Some(piece) => body.extend_from_slice(&piece),
            None => return Ok(body.freeze()),
        }
    }
}

/// Reads the rest of an answer nobody wants (a redirect, a challenge), so that its connection can be used
/// again; larger or slower ones are cut off.
pub(crate) async fn discard(response: Response) {
    const WORTH_READING: usize = 16 * 1024;
    const PATIENCE: Duration = Duration::from_millis(200);
    let _ = tokio::time::timeout(PATIENCE, read_small(response, WORTH_READING, PATIENCE)).await;
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn rs_05_framing_is_read_from_the_head() {
        use Framing::{Close, Delimited, Length};
        use UpstreamMethod::{Get, Head};
        const H1: Version = Version::HTTP_11;
        const H2: Version = Version::HTTP_2;
        const TE: &str = "transfer-encoding";
        const CL: &str = "content-length";
        type Pairs = &'static [(&'static str, &'static str)];
        type Case = (UpstreamMethod, u16, Version, Pairs, Option<Framing>);
        const CASES: &[Case] = &[
            (Get, 200, H1, &[(CL, "5")], Some(Length(5))),
            (Get, 200, H1, &[(TE, "chunked")], Some(Delimited)),
            (Get, 200, H1, &[(TE, "Chunked"), (CL, "5")], Some(Delimited)),
            (Get, 200, H1, &[(TE, "gzip, chunked")], Some(Delimited)),
            (Get, 200, H1, &[(TE, "chunked, gzip")], Some(Close)),
            (Get, 200, H1, &[], Some(Close)),
            (Get, 200, Version::HTTP_10, &[], Some(Close)),
            (Get, 200, H2, &[], Some(Delimited)),
            (Get, 200, H2, &[(CL, "0")], Some(Length(0))),
            (Get, 304, H1, &[(CL, "5")], Some(Length(0))),
            (Get, 204, H1, &[], Some(Length(0))),
            (Head, 200, H1, &[(CL, "5")], Some(Length(5))),
            (Head, 200, H1, &[], Some(Delimited)),
            (Get, 200, H1, &[(CL, "5"), (CL, "5")], Some(Length(5))),
            (Get, 200, H1, &[(CL, "5"), (CL, "6")], None),
            (Get, 200, H1, &[(CL, "+5")], None),
            (Get, 200, H1, &[(CL, "")], None),
        ];
        for (method, status, version, pairs, want) in CASES {
            let mut headers = HeaderMap::new();
            for (name, value) in *pairs {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(*status).unwrap();
            assert_eq!(framing(*method, status, *version, &headers).ok(), *want, "{pairs:?}");
        }
    }
}
