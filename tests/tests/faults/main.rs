//! What goes wrong upstream, for each of the ten types, end to end over HTTP against the built proxy: one
//! test per cell of types and faults, called `{type}::{fault}`, and further ones for what only some types know.

mod bench;
mod blocked;
mod broken;
mod expired;
mod kinds;
mod refused;

use std::{future::Future, pin::Pin, process::ExitCode};

use artifactapi_tests::proxy;
use kinds::Kind;
use libtest_mimic::{Arguments, Completion, Trial};

/// One cell's test.
type Cell = fn(Kind) -> Pin<Box<dyn Future<Output = ()>>>;

/// Faults that every type knows.
const FAULTS: [(&str, Cell); 9] = [
    ("expired_304", |kind| Box::pin(expired::unchanged(kind))),
    ("expired_changed", |kind| Box::pin(expired::changed(kind))),
    ("404", |kind| Box::pin(refused::missing(kind))),
    ("429", |kind| Box::pin(refused::rate_limited(kind))),
    ("500", |kind| Box::pin(refused::failing(kind))),
    ("timeout", |kind| Box::pin(refused::silent(kind))),
    ("truncated", |kind| Box::pin(broken::truncated(kind))),
    ("wrong_digest", |kind| Box::pin(broken::wrong_bytes(kind))),
    ("blocked", |kind| Box::pin(blocked::blocklist(kind))),
];

fn trial(kind: Kind, name: &str, cell: Cell) -> Trial {
    let run = move || {
        if let Err(why) = proxy::binary() {
            return Ok(Completion::ignored_with(why));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(cell(kind));
        Ok(Completion::Completed)
    };
    Trial::ignorable_test(format!("{}::{name}", kind.package_type), run)
}

fn main() -> ExitCode {
    let cells = kinds::ALL.into_iter().flat_map(|kind| FAULTS.map(|(name, cell)| trial(kind, name, cell)));
    let further = broken::further().into_iter().chain(blocked::further());
    let further = further.map(|(package_type, name, cell)| trial(kinds::of(package_type), name, cell));
    libtest_mimic::run(&Arguments::from_args(), cells.chain(further).collect()).exit_code()
}
