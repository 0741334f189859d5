//! What an upstream does wrong, per path. Every behaviour is turned into an [`Answer`] by one pure function.

use std::{fmt, io::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Act, Answer, Framing, Gate, Recorded, answer::well_behaved, tree::Entry};

/// Answers from a test's own function.
pub type Handler = Arc<dyn Fn(&Recorded) -> Answer + Send + Sync>;

/// How a path answers.
#[derive(Clone)]
pub enum Behaviour {
    /// As a good server does: validators, 304, ranges.
    Serve,
    /// This status and body text.
    Status(u16, &'static str),
    /// This status with `Retry-After`.
    RetryAfter(u16, &'static str),
    /// Right length, last byte changed.
    WrongBytes,
    /// These bytes in place of the file's, well framed.
    Other(Bytes),
    /// `Content-Length` tells of the whole, the connection ends (FIN) after this many bytes.
    CutAt(usize),
    /// The same with RST.
    ResetAt(usize),
    /// `Content-Length` tells of fewer bytes than are sent.
    ExtraBytes(Bytes),
    /// Sends this many bytes, then waits for the gate before the rest.
    StallAt(usize, Gate),
    /// Waits for the gate before the head.
    HoldHead(Gate, Box<Behaviour>),
    /// Sends so many bytes at a time with a pause after each.
    Drip(usize, Duration),
    /// Redirects there with this status.
    Redirect(u16, String),
    /// 200 with an HTML page, as a login page or a captive portal answers.
    Html,
    /// Chunked, well ended.
    Chunked,
    /// Chunked, ended by FIN before the final chunk.
    ChunkedNoEnd,
    /// Neither length nor chunks: the connection's end ends the body.
    CloseDelimited,
    /// gzip although `identity` was asked for.
    Gzip,
    /// Neither validators nor ranges.
    Bare,
    /// The file with these headers added or replaced.
    Headers(Vec<(&'static str, String)>),
    /// One after the other, one for each request; the last one stays.
    InTurn(Vec<Behaviour>),
    /// The test's own answer.
    Handler(Handler),
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Behaviour")
    }
}

impl Behaviour {
    /// A behaviour that `handler` decides.
    pub fn handler(handler: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) -> Self {
        Behaviour::Handler(Arc::new(handler))
    }

    /// Contents that change from one request to the next; the last one stays.
    pub fn changing(contents: impl IntoIterator<Item = Bytes>) -> Self {
        Behaviour::InTurn(contents.into_iter().map(Behaviour::Other).collect())
    }

    /// The answer to `request`, the `nth` (from 0) that this behaviour meets, for a path that holds `entry`.
    pub(super) fn answer(&self, request: &Recorded, entry: Option<&Entry>, nth: usize) -> Answer {
        match (self, entry) {
            (Behaviour::Status(code, text), _) => {
                Answer::new(*code, *text).with("content-type", "text/plain")
            }
            (Behaviour::RetryAfter(code, when), _) => Answer::new(*code, "").with("retry-after", *when),
            (Behaviour::Redirect(code, to), _) => Answer::new(*code, "").with("location", to.clone()),
            (Behaviour::Html, _) => {
                Answer::new(200, LOGIN_PAGE).with("content-type", "text/html; charset=utf-8")
            }
            (Behaviour::Handler(handler), _) => handler(request),
            (Behaviour::Other(bytes), _) => {
                well_behaved(request, &Entry::new(request.path(), bytes.clone(), nth as u64 + 1))
            }
            (Behaviour::InTurn(turns), _) => match turns.get(nth).or(turns.last()) {
                Some(turn) => turn.answer(request, entry, nth),
                None => Answer::new(404, ""),
            },
            (Behaviour::HoldHead(gate, then), _) => {
                let mut answer = then.answer(request, entry, nth);
                answer.acts.insert(0, Act::Wait(gate.clone()));
                answer
            }
            (_, None) => Answer::new(404, "not found").with("content-type", "text/plain"),
            (misbehaviour, Some(entry)) => misbehaviour.spoil(well_behaved(request, entry), &entry.bytes),
        }
    }

    /// Makes the good `answer` (of a file with `bytes`) into a bad one. Answers without a body stay good.
    fn spoil(&self, answer: Answer, bytes: &Bytes) -> Answer {
        if answer.status != 200 {
            return answer;
        }
        let framed = |framing, acts| Answer { framing, acts, ..answer.clone() };
        let whole = Framing::Length(bytes.len() as u64);
        let part = |k: usize| bytes.slice(..k.min(bytes.len()));
        match self {
            Behaviour::WrongBytes => framed(whole, vec![Act::Send(spoiled(bytes))]),
            Behaviour::CutAt(k) => framed(whole, vec![Act::Send(part(*k)), Act::Cut]),
            Behaviour::ResetAt(k) => framed(whole, vec![Act::Send(part(*k)), Act::Reset]),
            Behaviour::ExtraBytes(extra) => {
                framed(whole, vec![Act::Send(bytes.clone()), Act::Send(extra.clone())])
            }
            Behaviour::StallAt(k, gate) => {
                let rest = bytes.slice((*k).min(bytes.len())..);
                framed(whole, vec![Act::Send(part(*k)), Act::Wait(gate.clone()), Act::Send(rest)])
            }
            Behaviour::Drip(size, pause) => {
                let pieces = bytes.chunks((*size).max(1));
                let acts = pieces.flat_map(|p| [Act::Send(bytes.slice_ref(p)), Act::Pause(*pause)]).collect();
                framed(whole, acts)
            }
            Behaviour::Chunked => framed(Framing::Chunked, vec![Act::Send(bytes.clone())]),
            Behaviour::ChunkedNoEnd => framed(Framing::Chunked, vec![Act::Send(bytes.clone()), Act::Cut]),
            Behaviour::CloseDelimited => framed(Framing::Close, vec![Act::Send(bytes.clone())]),
            Behaviour::Gzip => {
                let packed = gzip(bytes);
                framed(Framing::Length(packed.len() as u64), vec![Act::Send(packed)])
                    .with("content-encoding", "gzip")
            }
            Behaviour::Bare => {
                let mut answer = answer;
                answer.headers.retain(|(name, _)| name == "content-type");
                answer
            }
            Behaviour::Headers(headers) => {
                headers.iter().fold(answer, |answer, (name, value)| answer.with(name, value.clone()))
            }
            _ => answer,
        }
    }
}

/// A page that answers 200 where a file was asked for.
const LOGIN_PAGE: &str =
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in</body></html>";

/// The same length, another last byte.
pub fn spoiled(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x20;
    }
    bytes.into()
}

/// `bytes` as one gzip member.
///
/// # Panics
/// Never: memory takes every write.
pub fn gzip(bytes: &[u8]) -> Bytes {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).expect("memory takes every write");
    packer.finish().expect("memory takes every write").into()
}
