//! The command line.

mod check;
mod descriptors;
mod fsck;
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
    /// Reads everything that is stored and holds it against the database; nothing may be running on it
    Fsck {
        /// Directory for the database and the cached files
        #[arg(long, env = "ARTIFACTAPI_DATA_DIR", value_name = "DIR", default_value = "data")]
        data: std::path::PathBuf,
        /// Moves damaged files out of the way and forgets entries without their bytes, so that they are
        /// fetched anew
        #[arg(long)]
        repair: bool,
    },
}

/// Why a command failed, in words for whoever called it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the program. Exit codes: 0 as asked, 1 something failed, 2 it was asked wrongly.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::CheckConfig { manifests }) => check::run(manifests.as_ref()),
        Some(Command::Fsck { data, repair }) => {
            fsck::run(&data, repair).unwrap_or_else(|error| failed(&error))
        }
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
        Err(error) => failed(&error),
    }
}

fn failed(error: &Failure) -> ExitCode {
    eprintln!("artifactapi: {error}");
    ExitCode::FAILURE
}
