//! `probe`: one URL is asked until it answers well, for images in which there is no other program that could.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use reqwest::{Client, Response};

use super::{Failure, runtime};

/// Longest time of one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two.
const PAUSE: Duration = Duration::from_millis(500);
/// As much of an answer as is shown, in bytes.
const SHOWN: usize = 16 << 10;

/// Flags of `probe`.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    /// What to ask
    #[arg(default_value = "http://127.0.0.1:8000/readyz")]
    url: String,
    /// How many seconds it may take until the answer is 200
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    within: u64,
}

/// Asks, and prints the last answer; exit code 1 when it is not 200 in time.
pub(super) fn run(flags: &Flags) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        // Of a certificate it is only asked whether there is one, as kubelet does: the name is that of a Service.
        let client = Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(true)
            .build()?;
        let end = Instant::now() + Duration::from_secs(flags.within);
        loop {
            let told = match client.get(&flags.url).send().await {
                Ok(answer) if answer.status().is_success() => {
                    println!("{}", shown(answer).await);
                    return Ok(ExitCode::SUCCESS);
                }
                Ok(answer) => format!("{} {}", answer.status(), shown(answer).await),
                Err(error) => describe(&error),
            };
            if Instant::now() >= end {
                return Err(format!("{}: {told}", flags.url).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// The beginning of its body.
async fn shown(mut answer: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= SHOWN {
            body.truncate(SHOWN);
            break;
        }
    }
    String::from_utf8_lossy(&body).trim_end().to_owned()
}

/// The whole chain of causes: the first one says only that something went wrong.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
