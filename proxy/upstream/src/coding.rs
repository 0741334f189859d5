//! Content codings that upstream applies although it was asked not to (RS-10). What is handed on is always
//! the identity representation: that is what indexes publish digests of and what clients without
//! `Accept-Encoding` are given.
//!
//! gzip is taken off as the body streams. Many file servers, however, label a `.tar.gz` as `Content-Encoding:
//! gzip` and mean the file itself; so under such a name the label is dropped, unless what lies under the
//! first layer is gzip again, which only a doubled coding produces. Other codings are an error: nobody is
//! known to send them unasked, and guessing would break digests.

use std::io::Write as _;

use artifactapi_model::ports::upstream::{Framing, Layer, UpstreamBody, UpstreamError};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, header};
use url::Url;

use crate::error::broken;

/// Compressed bytes expanded in one step: at gzip's best ratio of about 1000 a step yields 4 MiB.
const STEP: usize = 4 * 1024;
/// Compressed bytes looked at to see what lies under a label; a gzip header rarely needs thirty.
const PEEK: usize = 64 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What a response says about its coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// None.
    Identity,
    /// gzip over something else.
    Gzip,
    /// gzip, on a name that is gzip itself.
    GzipNamed,
}

/// Reads `Content-Encoding`.
///
/// # Errors
/// The coding that cannot be taken off.
pub(crate) fn coding(headers: &HeaderMap, url: &Url) -> Result<Coding, String> {
    let codings: Vec<String> = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    match codings.as_slice() {
        [] => Ok(Coding::Identity),
        [one] if matches!(one.as_str(), "gzip" | "x-gzip") => {
            let path = url.path().to_ascii_lowercase();
            let named = [".gz", ".tgz", ".taz", ".svgz"].iter().any(|suffix| path.ends_with(suffix));
            Ok(if named { Coding::GzipNamed } else { Coding::Gzip })
        }
        _ => Err("upstream compressed the body with something other than gzip though asked not to".into()),
    }
}

/// Takes `coding` off `body`, and out of the headers. The framing becomes that of the decoded body, whose
/// length nobody announced; a gzip stream that is cut ends in an error item.
///
/// # Errors
/// The body's own error, if it comes with the first bytes.
pub(crate) async fn take_off(
    coding: Coding,
    headers: &mut HeaderMap,
    framing: &mut Framing,
    mut body: UpstreamBody,
    url: &Url,
) -> Result<UpstreamBody, UpstreamError> {
    if coding == Coding::Identity {
        return Ok(body);
    }
    headers.remove(header::CONTENT_ENCODING);
    if coding == Coding::GzipNamed {
        let (seen, doubled) = peek(&mut body).await?;
        body = stream::iter(seen.into_iter().map(Ok)).chain(body).boxed();
        if !doubled {
            return Ok(body);
        }
    }
    forget_length(headers, framing);
    Ok(gunzip(body, url.clone()))
}

/// Takes `coding` out of the head of an answer without body. Under a name that is gzip itself only the
/// body could tell what the length is the length of.
pub(crate) fn take_off_head(coding: Coding, headers: &mut HeaderMap, framing: &mut Framing) {
    if coding != Coding::Identity {
        headers.remove(header::CONTENT_ENCODING);
        forget_length(headers, framing);
    }
}

fn forget_length(headers: &mut HeaderMap, framing: &mut Framing) {
    headers.remove(header::CONTENT_LENGTH);
    if matches!(framing, Framing::Length(_)) {
        *framing = Framing::Delimited;
    }
}

/// The pieces at the front of `body`, and whether they are gzip within gzip.
async fn peek(body: &mut UpstreamBody) -> Result<(Vec<Bytes>, bool), UpstreamError> {
    let (mut seen, mut total) = (Vec::new(), 0);
    let mut decoder = MultiGzDecoder::new(Vec::new());
    while total < PEEK && decoder.get_ref().len() < GZIP_MAGIC.len() {
        let Some(piece) = body.next().await.transpose()? else { break };
        total += piece.len();
        let written = decoder.write_all(&piece[..piece.len().min(STEP)]);
        seen.push(piece);
        if written.is_err() || decoder.flush().is_err() {
            return Ok((seen, false));
        }
    }
    Ok((seen, decoder.get_ref().starts_with(&GZIP_MAGIC)))
}

struct Gunzip {
    body: UpstreamBody,
    pending: Bytes,
    decoder: MultiGzDecoder<Vec<u8>>,
    began: bool,
    url: Url,
}

fn gunzip(body: UpstreamBody, url: Url) -> UpstreamBody {
    let decoder = MultiGzDecoder::new(Vec::new());
    let state = Gunzip { body, pending: Bytes::new(), decoder, began: false, url };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.step().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(state))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .fuse()
    .boxed()
}

impl Gunzip {
    /// The next piece that is not empty.
    async fn step(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            if self.pending.is_empty() {
                match self.body.next().await.transpose()? {
                    Some(piece) => self.pending = piece,
                    None => return self.finish(),
                }
            }
            self.began |= !self.pending.is_empty();
            let slice = self.pending.split_to(self.pending.len().min(STEP));
            self.decoder.write_all(&slice).and_then(|()| self.decoder.flush()).map_err(|_| self.corrupt())?;
            if !self.decoder.get_ref().is_empty() {
                return Ok(Some(std::mem::take(self.decoder.get_mut()).into()));
            }
        }
    }

    /// Checks the trailer, which also tells a cut stream from a whole one.
    fn finish(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if !self.began {
            // An empty body needs no coding; that it is whole, its framing has said.
            return Ok(None);
        }
        self.decoder.try_finish().map_err(|_| self.corrupt())?;
        let rest = std::mem::take(self.decoder.get_mut());
        Ok((!rest.is_empty()).then(|| rest.into()))
    }

    fn corrupt(&self) -> UpstreamError {
        broken(&self.url, Layer::Http, "the body is labelled as gzip but is cut or is none")
    }
}

#[cfg(test)]
#[path = "coding/tests.rs"]
mod tests;
