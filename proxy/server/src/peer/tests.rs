//! The line between replicas under hostile hands: who may ask, who may answer, and who is dialled at all.

use std::{sync::Arc, time::Duration};

use artifactapi_engine::{Engine, Options, Ports};
use artifactapi_model::{
    ArtifactKey, Epoch, RepoId, SystemClock,
    ports::{MetadataError, NoPeers, Part, Peers as _},
};
use artifactapi_stores::{LocalCoordinator, MemoryBlobs, MemoryMetadata};
use artifactapi_upstream::{HttpUpstream, NoObserver};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use http::header::AUTHORIZATION;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;

use super::{
    code::{PeerKey, Question},
    dial::{HttpPeers, Roster},
    frames,
    listen::{self, SCHEME},
};

struct Fixed(Vec<String>);

#[async_trait]
impl Roster for Fixed {
    async fn register(&self, _id: &str, _address: &str) -> Result<(), MetadataError> {
        Ok(())
    }

    async fn live(&self, _age: Duration) -> Result<Vec<String>, MetadataError> {
        Ok(self.0.clone())
    }
}

fn key() -> ArtifactKey {
    ArtifactKey { repo: RepoId(1), epoch: Epoch(1), path: "file".into() }
}

fn peers(live: &[&str]) -> HttpPeers {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roster = Fixed(live.iter().map(|address| (*address).to_owned()).collect());
    HttpPeers::new("127.0.0.1:1".into(), PeerKey::new(b"secret"), Arc::new(roster)).unwrap()
}

/// A server that answers one request with what `make` makes of its query.
async fn impostor(make: impl Fn(&str) -> Vec<Part> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 8192];
        let length = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let query = request.split(['?', ' ']).nth(2).unwrap_or_default().to_owned();
        let body: Vec<u8> = make(&query).iter().flat_map(frames::encode).flatten().collect();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    });
    address
}

async fn followed(address: &str) -> Vec<Result<Part, String>> {
    let parts = peers(&[address]).follow(address, &key()).await.unwrap();
    parts.map(|part| part.map_err(|error| error.reason)).collect().await
}

#[tokio::test]
async fn only_addresses_of_live_replicas_are_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (live, asked) in [(vec![], address.as_str()), (vec!["127.0.0.1:1"], "127.0.0.1:1")] {
        assert!(peers(&live).follow(asked, &key()).await.is_err());
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "nobody was connected to");
}

#[tokio::test]
async fn an_answer_without_the_key_is_no_answer() {
    let strangers = PeerKey::new(b"another secret");
    let signed = move |query: &str, head: &[u8], end: &[u8]| {
        let question = Question::of_query(query).unwrap();
        [strangers.of_answer(&question.nonce, head, end).as_ref(), end].concat()
    };
    let refused = Err("its answer is not from a twin".to_owned());
    let address = impostor(|_| vec![Part::End("{\"unstored\":null}".into())]).await;
    assert_eq!(followed(&address).await, std::slice::from_ref(&refused));
    let address = impostor(move |query| vec![Part::End(signed(query, b"", b"\"unstored\"").into())]).await;
    assert_eq!(followed(&address).await, std::slice::from_ref(&refused));
    let address = impostor(|_| vec![Part::Data("bytes".into()), Part::Head("{}".into())]).await;
    assert_eq!(followed(&address).await, [Ok(Part::Data("bytes".into())), refused]);

    let ours = PeerKey::new(b"secret");
    let replayed = ours.of_answer("another nonce", b"", b"end");
    let end = [replayed.as_ref(), b"end"].concat();
    let address = impostor(move |_| vec![Part::End(end.clone().into())]).await;
    assert!(followed(&address).await[0].is_err(), "an answer to another question");
}

#[tokio::test]
async fn a_question_without_the_key_is_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = Arc::new(SystemClock);
    let ports = Ports {
        blobs: Arc::new(MemoryBlobs::default()),
        metadata: Arc::new(MemoryMetadata::default()),
        coordinator: Arc::new(LocalCoordinator::default()),
        peers: Arc::new(NoPeers),
        upstream: Arc::new(HttpUpstream::new(clock.clone(), Arc::new(NoObserver))),
        clock,
    };
    let engine = Engine::new(ports, Options::default(), [0; 32], "replica");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listen::serve(engine, PeerKey::new(b"secret"), listener, stop.clone()));
    let query = Question::new(&key()).unwrap().to_query();
    let ask = async |path: &str, code: Option<String>| {
        let request =
            reqwest::Client::builder().no_proxy().build().unwrap().get(format!("http://{address}{path}"));
        let request = match code {
            Some(code) => request.header(AUTHORIZATION, format!("{SCHEME}{code}")),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    let (ours, theirs) = (PeerKey::new(b"secret"), PeerKey::new(b"guess"));
    let fill = format!("/fill?{query}");
    assert_eq!(ask(&fill, None).await, 401);
    assert_eq!(ask(&fill, Some(theirs.of_question(&query))).await, 401);
    assert_eq!(ask("/fill?repo=1", Some(ours.of_question(&query))).await, 401, "of another question");
    assert_eq!(ask(&format!("/else?{query}"), Some(ours.of_question(&query))).await, 404);
    assert_eq!(ask("/fill?repo=1", Some(ours.of_question("repo=1"))).await, 400);
    assert_eq!(ask(&fill, Some(ours.of_question(&query))).await, 404, "no such fill runs");
    stop.cancel();
    serving.await.unwrap();
}
