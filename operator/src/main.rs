//! `artifactapi-operator`: custom resources of a cluster, made the configuration of ArtifactAPI's proxies.

use std::{io::IsTerminal as _, process::ExitCode};

use artifactapi_operator::{config, run};
use artifactapi_stores::environment::process;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Makes Remotes, Virtuals, Locals and Robots of a Kubernetes cluster the configuration of ArtifactAPI's proxies.
#[derive(Parser)]
#[command(version, after_help = config::HELP)]
struct Line {}

fn main() -> ExitCode {
    let Line {} = Line::parse();
    let settings = match config::Settings::read(&process) {
        Ok(settings) => settings,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("artifactapi-operator: {error}"));
            return ExitCode::from(2);
        }
    };
    install_log();
    // Whoever was first has the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run::run(settings)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("artifactapi-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn install_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    if std::io::stdout().is_terminal() {
        lines.init();
    } else {
        lines.json().flatten_event(true).init();
    }
}
