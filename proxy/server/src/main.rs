//! The `artifactapi` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    artifactapi_server::cli::main()
}
