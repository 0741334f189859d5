//! What readers that take their time cost (RS-64): many of one large manifest, and many of different ones.

use std::time::Duration;

use artifactapi_tests::{
    Registry,
    http::PATIENCE,
    proxy,
    registry::{Form, Image, NewManifest, Route, image_of},
    replicas::sampler::resident,
    wait,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use super::{World, local};
use crate::Ending;

const MIB: usize = 1 << 20;
/// The largest manifest there may be.
const LARGEST: usize = 4 * MIB;
/// Readers of one.
const READERS: usize = 100;
/// Different ones, of which each has a reader.
const DIFFERENT: usize = 36;
/// What a user would not call a leak: readers of one manifest cost little more than it.
const OF_ONE: u64 = 100 << 10;
/// All readers of different ones together: the bound on those, and as much as their reading may take for a moment.
const OF_MANY: u64 = 250 << 10;

/// The manifest of `number`, with so much white space behind it that it has the largest size.
fn large(config: &Bytes, number: usize) -> NewManifest {
    let manifest = image_of(config, &[]).with("annotations", json!({ "number": number.to_string() }));
    let mut body = manifest.body.to_vec();
    body.resize(LARGEST, b' ');
    NewManifest { body: body.into(), ..manifest }
}

/// Asks for a manifest and takes nothing but the beginning of the answer.
async fn reader(host: &str, image: &Image, reference: &str) -> (TcpStream, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    // The kernel would take it all in the client's place.
    socket.set_recv_buffer_size(4 << 10).expect("an option that every socket has");
    let mut stream = socket.connect(host.parse().expect("an address")).await.expect("a listener");
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let path = format!("/v2/{}/manifests/{reference}", image.name());
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut head = [0; 12];
    let peeked = async {
        while stream.peek(&mut head).await.expect("an answer") < head.len() {
            wait::breathe().await;
        }
    };
    tokio::time::timeout(PATIENCE, peeked).await.expect("an answer");
    let status = String::from_utf8_lossy(&head[9..12]).parse().expect("a status");
    (stream, status)
}

/// See the module.
pub(crate) async fn of_slow_readers() -> Ending {
    let proxy = proxy::Options::new(local("l", &Value::Null)).start().await;
    let registry = Registry::new([proxy.url()], "");
    let world = World { proxy, registry };
    let (image, host, pid) = (world.image("l/app"), world.proxy.host(), world.proxy.pid());
    let held = || resident(pid).expect("it runs");
    let config = Bytes::from_static(b"{}");
    image.push(Form::PostPut, &config, &Route::only(0)).await.expect("a config");
    for number in 0..DIFFERENT {
        let manifest = large(&config, number);
        assert_eq!(manifest.body.len(), LARGEST);
        let put = image.put_manifest(0, &format!("t{number}"), &manifest).await;
        put.unwrap_or_else(|refused| panic!("{number}: {refused}"));
    }
    let idle = held();

    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(reader(&host, &image, "t0").await);
    }
    let statuses: Vec<u16> = readers.iter().map(|(_, status)| *status).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let of_one = held().saturating_sub(idle);
    drop(readers);

    let mut readers = Vec::new();
    for number in 0..DIFFERENT {
        readers.push(reader(&host, &image, &format!("t{number}")).await);
    }
    let served = readers.iter().filter(|(_, status)| *status == 200).count();
    let refused = readers.iter().filter(|(_, status)| *status == 503).count();
    assert_eq!(
        served + refused,
        DIFFERENT,
        "{:?}",
        readers.iter().map(|(_, status)| *status).collect::<Vec<_>>()
    );
    let of_many = held().saturating_sub(idle);
    println!(
        "\nfigure: memory above {} MiB: {READERS} slow readers of one manifest of {} MiB: {} MiB; of {DIFFERENT} \
         different ones: {} MiB, {refused} told to come back",
        idle >> 10,
        LARGEST / MIB,
        of_one >> 10,
        of_many >> 10
    );
    assert!(of_one <= OF_ONE, "{of_one} KiB for readers of one manifest");
    assert!(of_many <= OF_MANY, "{of_many} KiB for readers of {DIFFERENT} manifests");
    // Small ones are served meanwhile, and all of them when the others have gone.
    let small = image_of(&config, &[]);
    image.put_manifest(0, "small", &small).await.expect("a small one");
    image.verify_manifest(0, &small.digest()).await.expect("a small one");
    drop(readers);
    for number in [0, DIFFERENT / 2, DIFFERENT - 1] {
        let digest = large(&config, number).digest();
        let is_there = async || image.verify_manifest(0, &digest).await.is_ok();
        wait::until("a large manifest to be served again", Duration::from_secs(10), is_there).await;
    }
    Ok(())
}
