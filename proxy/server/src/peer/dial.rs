//! The asker's side: twins over HTTP, found in the roster of live replicas.

use std::{collections::HashSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use artifactapi_model::{
    ArtifactKey,
    ports::{MetadataError, Part, Parts, PeerError, Peers},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{StatusCode, header::AUTHORIZATION};
use reqwest::Client;
use tokio::{sync::Mutex, time::Instant};

use super::{
    code::{LENGTH, PeerKey, Question},
    frames::Decoder,
    listen::SCHEME,
};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_millis(500);
/// A replica that has not registered for so long is not dialled.
const ALIVE: Duration = Duration::from_secs(30);
/// How often a replica registers.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// Shortest time between two looks at the roster for an unknown address.
const LOOK: Duration = Duration::from_secs(1);

/// Where live replicas are written down.
#[async_trait]
pub trait Roster: Send + Sync + 'static {
    /// Says that the replica `id` lives and is reached at `address`.
    async fn register(&self, id: &str, address: &str) -> Result<(), MetadataError>;

    /// Addresses of those who said so within `age`.
    async fn live(&self, age: Duration) -> Result<Vec<String>, MetadataError>;
}

/// Twins over HTTP.
pub struct HttpPeers {
    address: String,
    key: PeerKey,
    client: Client,
    roster: Arc<dyn Roster>,
    live: ArcSwap<HashSet<String>>,
    looked: Mutex<Option<Instant>>,
}

impl HttpPeers {
    /// Reached at `address` (`host:port`) by its twins, which `roster` knows.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new(address: String, key: PeerKey, roster: Arc<dyn Roster>) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(HttpPeers { address, key, client, roster, live: ArcSwap::default(), looked: Mutex::default() })
    }

    /// Says that the replica `id` lives, and learns which others do. To be called every [`HEARTBEAT`].
    ///
    /// # Errors
    /// When the roster does not answer; those who lived last stay known.
    pub async fn heartbeat(&self, id: &str) -> Result<(), MetadataError> {
        self.roster.register(id, &self.address).await?;
        self.look().await
    }

    async fn look(&self) -> Result<(), MetadataError> {
        let live = self.roster.live(ALIVE).await?;
        self.live.store(Arc::new(live.into_iter().collect()));
        Ok(())
    }

    /// Whether a live replica has registered `address`; asks again for one that is not known yet.
    async fn is_live(&self, address: &str) -> bool {
        if self.live.load().contains(address) {
            return true;
        }
        {
            let mut looked = self.looked.lock().await;
            if looked.is_some_and(|looked| looked.elapsed() < LOOK) {
                return self.live.load().contains(address);
            }
            *looked = Some(Instant::now());
        }
        if let Err(error) = self.look().await {
            tracing::warn!(error = %error, "the roster of replicas cannot be read");
        }
        self.live.load().contains(address)
    }
}

#[async_trait]
impl Peers for HttpPeers {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn follow(&self, address: &str, key: &ArtifactKey) -> Result<Parts, PeerError> {
        let error = |reason: &str| PeerError { address: address.to_owned(), reason: reason.to_owned() };
        if address == self.address {
            return Err(error("it is this replica itself, before it was restarted"));
        }
        if !self.is_live(address).await {
            return Err(error("no live replica has registered it"));
        }
        let question = Question::new(key).ok_or_else(|| error("there are no random numbers"))?;
        let query = question.to_query();
        let code = format!("{SCHEME}{}", self.key.of_question(&query));
        let request = self.client.get(format!("http://{address}/fill?{query}")).header(AUTHORIZATION, code);
        let response = request.send().await.map_err(|cause| error(&cause.without_url().to_string()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(error("no such fill runs there")),
            StatusCode::UNAUTHORIZED => {
                return Err(error("it has another ARTIFACTAPI_PEER_KEY"));
            }
            status => return Err(error(&format!("it answered {status}"))),
        }
        let answer = Answer {
            bytes: Box::pin(response.bytes_stream()),
            decoder: Decoder::default(),
            key: self.key.clone(),
            nonce: question.nonce,
            head: Bytes::new(),
            address: address.to_owned(),
            over: false,
        };
        let parts = futures_util::stream::unfold(answer, async |mut answer| {
            let part = answer.next().await?;
            Some((part, answer))
        });
        Ok(Box::pin(parts))
    }
}

/// An answer on its way in.
struct Answer<S> {
    bytes: S,
    decoder: Decoder,
    key: PeerKey,
    nonce: String,
    head: Bytes,
    address: String,
    over: bool,
}

impl<S: Stream<Item = reqwest::Result<Bytes>> + Unpin> Answer<S> {
    async fn next(&mut self) -> Option<Result<Part, PeerError>> {
        if self.over {
            return None;
        }
        let part = self.read().await;
        self.over = matches!(part, None | Some(Err(_) | Ok(Part::End(_))));
        part
    }

    async fn read(&mut self) -> Option<Result<Part, PeerError>> {
        loop {
            match self.decoder.next() {
                Ok(Some(Part::Head(mut head))) => {
                    let code = head.split_to(LENGTH.min(head.len()));
                    if !self.key.is_of_answer(&self.nonce, &head, b"", &code) {
                        return Some(Err(self.error("its answer is not from a twin")));
                    }
                    self.head = head.clone();
                    return Some(Ok(Part::Head(head)));
                }
                Ok(Some(Part::End(mut end))) => {
                    let code = end.split_to(LENGTH.min(end.len()));
                    if !self.key.is_of_answer(&self.nonce, &self.head, &end, &code) {
                        return Some(Err(self.error("its answer is not from a twin")));
                    }
                    return Some(Ok(Part::End(end)));
                }
                Ok(Some(part)) => return Some(Ok(part)),
                Ok(None) => {}
                Err(_) => return Some(Err(self.error("its answer makes no sense"))),
            }
            match self.bytes.next().await? {
                Ok(bytes) => self.decoder.push(&bytes),
                Err(cause) => return Some(Err(self.error(&cause.without_url().to_string()))),
            }
        }
    }

    fn error(&self, reason: &str) -> PeerError {
        PeerError { address: self.address.clone(), reason: reason.to_owned() }
    }
}
