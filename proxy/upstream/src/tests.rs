//! The whole client against real listeners on loopback.

mod addresses;
mod auth;
mod framing;
mod limits;
mod outcomes;
mod secrets;
mod shared;
mod tls;

use std::{collections::HashMap, io, net::IpAddr, sync::Arc, sync::Mutex};

use artifactapi_model::{
    Clock, Timestamp,
    clock::ManualClock,
    ports::upstream::{
        Upstream, UpstreamError, UpstreamMethod, UpstreamRequest, UpstreamResponse, UrlSource,
    },
    repository::RemoteSpec,
};
use async_trait::async_trait;
use futures_util::StreamExt;
use url::Url;

use crate::{HttpUpstream, Lookup, NoObserver, testing::remote_of};

/// Names that a test invents; every look-up takes the next of a name's answers, the last one for ever.
#[derive(Default)]
struct Names(Mutex<HashMap<&'static str, Vec<Vec<IpAddr>>>>);

impl Names {
    fn new(names: &[(&'static str, &[&[&str]])]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        let answers =
            names.iter().map(|(name, answers)| (*name, answers.iter().rev().map(parse).collect())).collect();
        Arc::new(Names(Mutex::new(answers)))
    }
}

#[async_trait]
impl Lookup for Names {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(host).ok_or(io::ErrorKind::NotFound)?;
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        Ok(answer.unwrap_or_default())
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)))
}

fn upstream() -> HttpUpstream {
    upstream_with(clock(), Names::new(&[]))
}

fn upstream_with(clock: Arc<dyn Clock>, names: Arc<Names>) -> HttpUpstream {
    HttpUpstream::with_resolver(clock, Arc::new(NoObserver), names)
}

fn get(url: &str) -> UpstreamRequest {
    UpstreamRequest::get(Url::parse(url).unwrap())
}

fn head(url: &str) -> UpstreamRequest {
    UpstreamRequest { method: UpstreamMethod::Head, ..get(url) }
}

fn from_index(url: &str) -> UpstreamRequest {
    UpstreamRequest { url_source: UrlSource::Index, ..get(url) }
}

async fn send(
    upstream: &HttpUpstream,
    spec: &RemoteSpec,
    request: UpstreamRequest,
) -> Result<UpstreamResponse, UpstreamError> {
    upstream.send(&remote_of(spec.clone()), request).await
}

/// The error that was expected.
fn refused(result: Result<UpstreamResponse, UpstreamError>) -> UpstreamError {
    match result {
        Ok(response) => panic!("answered with {}", response.status),
        Err(error) => error,
    }
}

/// The bytes of a body, and the error it ended in.
async fn read(response: UpstreamResponse) -> (Vec<u8>, Option<UpstreamError>) {
    let mut body = response.body;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => {
                assert!(body.next().await.is_none(), "an error is the last item");
                return (bytes, Some(error));
            }
        }
    }
    assert!(body.next().await.is_none(), "asking on after the end is harmless");
    (bytes, None)
}
