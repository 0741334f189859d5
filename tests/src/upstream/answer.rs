//! How an answer goes over the wire: a head, a framing, and the acts that follow it. Both protocol writers
//! perform the same acts, so that a misbehaviour is written once.

use std::time::Duration;

use bytes::Bytes;

use super::{Gate, Recorded, tree::Entry};

/// How the end of a body is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length` with this value, true or not.
    Length(u64),
    /// `Transfer-Encoding: chunked` (HTTP/2: no length).
    Chunked,
    /// The connection's end is the body's end (HTTP/2: no length).
    Close,
}

/// One step after the head.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes bytes of the body.
    Send(Bytes),
    /// Waits for the test.
    Wait(Gate),
    /// Waits for time to pass: a slow sender, not a synchronisation.
    Pause(Duration),
    /// Ends the connection in order (FIN, without TLS close_notify) where it stands.
    Cut,
    /// Ends the connection by RST.
    Reset,
}

/// One whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers besides those of the framing, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Announced end.
    pub framing: Framing,
    /// What follows the head; the body ends cleanly after the last one unless that ended the connection.
    pub acts: Vec<Act>,
}

impl Answer {
    /// An answer with a body of known length.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Answer {
            status,
            headers: Vec::new(),
            framing: Framing::Length(body.len() as u64),
            acts: if body.is_empty() { Vec::new() } else { vec![Act::Send(body)] },
        }
    }

    /// An answer whose body is `value`.
    pub fn json(value: &serde_json::Value) -> Self {
        Answer::new(200, value.to_string()).with("content-type", "application/json")
    }

    /// Adds a header, in place of one of the same name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same head without a body, as HEAD is answered.
    #[must_use]
    pub(super) fn headless(mut self) -> Self {
        self.acts.retain(|act| matches!(act, Act::Wait(_)));
        self
    }
}

/// What a correct upstream answers for `entry`: validators, conditional requests, single ranges.
pub(super) fn well_behaved(request: &Recorded, entry: &Entry) -> Answer {
    let described = |answer: Answer| {
        let mut answer = answer
            .with("etag", entry.etag.clone())
            .with("last-modified", entry.last_modified.clone())
            .with("accept-ranges", "bytes")
            .with("content-type", entry.content_type.clone());
        for (name, value) in &entry.headers {
            answer = answer.with(name, value.clone());
        }
        answer
    };
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::new(405, "").with("allow", "GET, HEAD");
    }
    if unchanged(request, entry) {
        return described(Answer::new(304, ""));
    }
    match range(request, entry) {
        Wanted::Whole => described(Answer::new(200, entry.bytes.clone())),
        Wanted::Part(start, end) => {
            let total = entry.bytes.len();
            described(Answer::new(206, entry.bytes.slice(start..end)))
                .with("content-range", format!("bytes {start}-{}/{total}", end - 1))
        }
        Wanted::Nothing => {
            described(Answer::new(416, "")).with("content-range", format!("bytes */{}", entry.bytes.len()))
        }
    }
}

fn unchanged(request: &Recorded, entry: &Entry) -> bool {
    match request.header("if-none-match") {
        Some(list) => list.split(',').any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.trim_start_matches("W/") == entry.etag
        }),
        None => request.header("if-modified-since").is_some_and(|since| since == entry.last_modified),
    }
}

enum Wanted {
    Whole,
    Part(usize, usize),
    Nothing,
}

fn range(request: &Recorded, entry: &Entry) -> Wanted {
    let valid = request.header("if-range").is_none_or(|v| v == entry.etag || v == entry.last_modified);
    let Some(spec) = request.header("range").and_then(|r| r.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    if !valid || spec.contains(',') {
        return Wanted::Whole;
    }
    let total = entry.bytes.len();
    let Some((from, to)) = spec.split_once('-') else { return Wanted::Whole };
    match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), _) if from >= total => Wanted::Nothing,
        (Ok(from), Ok(to)) if to >= from => Wanted::Part(from, total.min(to + 1)),
        (Ok(from), Err(_)) if to.is_empty() => Wanted::Part(from, total),
        (Err(_), Ok(last)) if from.is_empty() && last > 0 => Wanted::Part(total.saturating_sub(last), total),
        _ => Wanted::Whole,
    }
}
