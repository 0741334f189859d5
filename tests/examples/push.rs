//! Pushes one blob to a registry and prints how long that took: the client of hack/lib/bench-push.
//!
//! push URL IMAGE MIB CHUNK-MIB SEED: `CHUNK-MIB` 0 is one PUT with everything. Prints the seconds from the first
//! request to the last answer, those of the closing PUT, and the digest.

use std::{env, process::ExitCode, time::Instant};

use artifactapi_tests::{
    fixtures::Blocks,
    registry::{Image, Refused, Registry},
};
use bytes::Bytes;
use reqwest::Body;

const MIB: usize = 1 << 20;

/// Seconds of the whole and of the close.
async fn push(image: &Image, blocks: &Blocks, chunk: usize, digest: &str) -> Result<(f64, f64), Refused> {
    let began = Instant::now();
    let mut session = image.begin(0).await?;
    if chunk == 0 {
        let closing = Instant::now();
        let all = blocks.clone().pieces(MIB).map(Ok::<_, std::convert::Infallible>);
        let body = Body::wrap_stream(futures_util::stream::iter(all));
        image.close_body(0, &session, digest, body, blocks.length() as u64).await?;
        return Ok((began.elapsed().as_secs_f64(), closing.elapsed().as_secs_f64()));
    }
    for piece in blocks.clone().pieces(chunk) {
        image.patch(0, &mut session, piece).await?;
    }
    let closing = Instant::now();
    image.close(0, &session, digest, Bytes::new()).await?;
    Ok((began.elapsed().as_secs_f64(), closing.elapsed().as_secs_f64()))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, name, size, chunk, seed] = &arguments[..] else {
        eprintln!("push URL IMAGE MIB CHUNK-MIB SEED");
        return ExitCode::from(2);
    };
    let number = |text: &String| text.parse::<usize>().unwrap_or_else(|e| panic!("{text}: {e}"));
    let blocks = Blocks::new(number(seed) as u64, number(size) * MIB);
    let digest = blocks.digest();
    let image = Registry::new([url.clone()], "").image(name);
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    match runtime.block_on(push(&image, &blocks, number(chunk) * MIB, &digest)) {
        Ok((whole, close)) => println!("{whole:.3} {close:.3} {digest}"),
        Err(refused) => {
            eprintln!("{refused}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
