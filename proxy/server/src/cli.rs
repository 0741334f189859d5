//! The command line.

mod apply;
mod change;
mod check;
mod data;
mod descriptors;
mod fsck;
mod gc;
mod migrate;
mod probe;
mod purge;
mod running;
mod serve;
mod setup;
mod standalone;
mod token;

use std::process::ExitCode;

use artifactapi_model::ports::housekeeping::Change;
use clap::{Parser, Subcommand};

use crate::config::{
    Settings,
    environment::{self, ServeSettings},
    settings::{self, Flags},
};

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
    #[command(after_help = settings::HELP)]
    Standalone(Flags),
    /// Serves as one of many replicas over PostgreSQL, S3 and Redis; configured by the environment
    #[command(after_help = environment::HELP)]
    Serve,
    /// Brings the schema of the PostgreSQL database up to date; safe to run at any time
    #[command(after_help = environment::DATABASE_HELP)]
    Migrate(migrate::Flags),
    /// Puts the manifests of a directory into the database, for all replicas
    #[command(after_help = environment::HELP)]
    Apply {
        /// Directory of manifests
        #[arg(short = 'f', long = "manifests", value_name = "DIR")]
        manifests: std::path::PathBuf,
        /// Removes what is in the database and not in the directory
        #[arg(long)]
        prune: bool,
    },
    /// Checks the manifests of a directory and says everything that is wrong with them
    CheckConfig {
        /// Directory of manifests [default: crds/examples if it exists, else manifests]
        #[arg(long, env = "ARTIFACTAPI_MANIFESTS", value_name = "DIR")]
        manifests: Option<std::path::PathBuf>,
    },
    /// Reads everything that is stored and holds it against the database; nothing may be running on it
    #[command(after_help = environment::HELP)]
    Fsck(fsck::Flags),
    /// Deletes bytes that nothing has named for long; a running proxy does so by itself
    #[command(after_help = environment::HELP)]
    Gc(gc::Flags),
    /// Forgets what is stored at a path, so that it is fetched anew; a proxy may be running
    #[command(after_help = environment::HELP)]
    Evict(change::Flags),
    /// Lets what is stored at a path be revalidated when it is next asked for; a proxy may be running
    #[command(after_help = environment::HELP)]
    Refresh(change::Flags),
    /// Deletes everything that was pushed to a Local, for good; a proxy may be running
    #[command(after_help = environment::HELP)]
    Purge(purge::Flags),
    /// Clears the digests first seen at a path: upstream may say something else there once more
    #[command(after_help = environment::HELP)]
    Unpin(change::Flags),
    /// Makes, lists and revokes tokens of robots; a proxy may be running
    #[command(subcommand, after_help = environment::HELP)]
    Token(token::Command),
    /// Prints what the container runtime of a node is told so that it pulls through this service
    #[command(after_help = environment::DATABASE_HELP)]
    Setup(setup::Flags),
    /// Asks a running proxy until it says that it is ready
    Probe(probe::Flags),
}

/// Why a command failed, in words for whoever called it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the program. Exit codes: 0 as asked, 1 something failed, 2 it was asked wrongly.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::CheckConfig { manifests }) => check::run(manifests.as_ref()),
        Some(Command::Fsck(flags)) => told(fsck::run(&flags)),
        Some(Command::Gc(flags)) => told(gc::run(&flags)),
        Some(Command::Evict(flags)) => told(change::run(&flags, Change::Evict)),
        Some(Command::Refresh(flags)) => told(change::run(&flags, Change::Refresh)),
        Some(Command::Purge(flags)) => told(purge::run(&flags)),
        Some(Command::Unpin(flags)) => told(change::run(&flags, Change::Unpin)),
        Some(Command::Token(command)) => told(token::run(&command)),
        Some(Command::Setup(flags)) => told(setup::run(&flags)),
        Some(Command::Probe(flags)) => told(probe::run(&flags)),
        Some(Command::Standalone(flags)) => standalone(&flags),
        None => standalone(&cli.flags),
        Some(Command::Serve) => match ServeSettings::read(&environment::process) {
            Ok(settings) => ended(serve::run(settings)),
            Err(errors) => wrong(&errors),
        },
        Some(Command::Migrate(flags)) => ended(migrate::run(&flags)),
        Some(Command::Apply { manifests, prune }) => ended(apply::run(&manifests, prune)),
    }
}

fn told(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|error| failed(&error))
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Exit code for being asked wrongly, after everything that is wrong.
fn wrong(errors: &[String]) -> ExitCode {
    for error in errors {
        eprintln!("artifactapi: {error}");
    }
    ExitCode::from(2)
}

/// Settings, or all that is wrong with them as one failure.
fn settings<T>(read: Result<T, Vec<String>>) -> Result<T, Failure> {
    read.map_err(|errors| errors.join("\nartifactapi: ").into())
}

/// The executor of every command, with our one TLS provider.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // The first provider in a process wins; a second call says so and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn standalone(flags: &Flags) -> ExitCode {
    match Settings::of(flags) {
        Ok(settings) => ended(standalone::run(settings)),
        Err(errors) => wrong(&errors),
    }
}

fn failed(error: &Failure) -> ExitCode {
    eprintln!("artifactapi: {error}");
    ExitCode::FAILURE
}
