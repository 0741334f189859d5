//! The ecosystems' own clients through the proxy: directly, cold, warm, and warm with the upstream off.

mod archives;
mod languages;

use std::process::ExitCode;

use artifactapi_tests::scenario::trials;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let clients = [
        trials(archives::Curl),
        trials(archives::Helm),
        trials(languages::Pip),
        trials(languages::Npm),
        trials(languages::Go),
    ];
    libtest_mimic::run(&Arguments::from_args(), clients.into_iter().flatten().collect()).exit_code()
}
