//! The command line.

mod check;
mod standalone;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Settings, settings::Flags};

/// A caching proxy and registry for ten package types.
///
/// Without a subcommand it runs standalone.
#[derive(Debug, Parser)]
#[command(name = "artifactapi", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the manifests of a directory, with everything it keeps in another
    Standalone(Flags),
    /// Checks the manifests of a directory and says everything that is wrong with them
    CheckConfig {
        /// Directory of manifests [default: crds/examples if it exists, else manifests]
        #[arg(long, env = "ARTIFACTAPI_MANIFESTS", value_name = "DIR")]
        manifests: Option<std::path::PathBuf>,
    },
}

/// Runs the program. Exit codes: 0 as asked, 1 something failed, 2 it was asked wrongly.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::CheckConfig { manifests }) => check::run(manifests.as_ref()),
        Some(Command::Standalone(flags)) => standalone(&flags),
        None => standalone(&cli.flags),
    }
}

fn standalone(flags: &Flags) -> ExitCode {
    let settings = match Settings::of(flags) {
        Ok(settings) => settings,
        Err(errors) => {
            for error in errors {
                eprintln!("artifactapi: {error}");
            }
            return ExitCode::from(2);
        }
    };
    match standalone::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("artifactapi: {error}");
            ExitCode::FAILURE
        }
    }
}
