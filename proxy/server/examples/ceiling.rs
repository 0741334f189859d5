//! The ceiling: what axum reaches when it only writes a body from memory. `hack/bench` holds our hit path
//! against it, so that the ratio shows our own overhead apart from hyper's.
//!
//! Usage: `ceiling ADDRESS FILE…`, each file served at `/{file name}`.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{Router, body::Body, extract::Path, http::StatusCode, response::IntoResponse, routing::get};
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tower_service::Service as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let mut files = HashMap::new();
    for path in args {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        files.insert(name, Bytes::from(std::fs::read(&path)?));
    }
    let files = Arc::new(files);
    let serve = move |Path(name): Path<String>| {
        let body = files.get(&name).cloned();
        async move {
            Ok::<_, Infallible>(match body {
                Some(bytes) => Body::from(bytes).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            })
        }
    };
    let router = Router::new().route("/{name}", get(serve));
    let listener = tokio::net::TcpListener::bind(&address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let router = router.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| router.clone().call(request));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
