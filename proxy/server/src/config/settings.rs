//! What the command line and the environment say. Every error is reported, not only the first.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use artifactapi_engine::gc::room::MinFree;
use artifactapi_model::Sealer;
use artifactapi_stores::{
    environment::{Reader, process},
    listen,
};
use clap::Args;
use ipnet::IpNet;

use super::{
    periods::{CollectionFlags, DrainFlag},
    room::RoomFlag,
};
use crate::{
    http::{
        forwarded::{Outside, PublicUrl},
        tls::{Tls, TlsFiles},
    },
    telemetry::logs::LogFormat,
    upkeep::collection::Schedule,
};

/// Where manifests are looked for when nobody says.
const EXAMPLES: &str = "crds/examples";

/// What only the environment says to `standalone`, for `--help`.
pub const HELP: &str = "\
Environment, besides that of the options:
  ARTIFACTAPI_ENCRYPTION_KEY     key under which signing keys are stored: 32 random bytes in base64 or hex, or at
                                 least 32 characters; also as ARTIFACTAPI_ENCRYPTION_KEY_FILE, a file that holds
                                 it [they lie open in the data directory, for the owner of the process only]";

/// Flags of `standalone`; each has an environment variable.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Directory of manifests (YAML); reloaded when they change [default: crds/examples if it exists, else manifests]
    #[arg(long, env = "ARTIFACTAPI_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Waits until the operator that writes these manifests has written all of them: nothing is served before, and
    /// nothing counts as gone
    #[arg(long, env = "ARTIFACTAPI_AWAIT_OPERATOR")]
    pub await_operator: bool,
    /// Directory for the database and the cached files
    #[arg(long, env = "ARTIFACTAPI_DATA_DIR", value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// Address to serve on; a port alone (:8000) is every address, port 0 takes a free one
    #[arg(long, env = "LISTEN_ADDR", value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: String,
    /// Address of the metrics page; port 0 takes a free one
    #[arg(long, env = "ARTIFACTAPI_METRICS_ADDR", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub metrics: String,
    /// TLS certificate chain (PEM), read again when it changes
    #[arg(long, env = "ARTIFACTAPI_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// TLS private key (PEM)
    #[arg(long, env = "ARTIFACTAPI_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// URL under which clients reach this server [default: what their requests say]
    #[arg(long, env = "ARTIFACTAPI_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Networks (CIDR, comma-separated) whose X-Forwarded-* headers are believed
    #[arg(long, env = "ARTIFACTAPI_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',')]
    pub trusted_proxies: Vec<String>,
    /// Form of log lines
    #[arg(long, env = "ARTIFACTAPI_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// The collection in the background.
    #[command(flatten)]
    pub collection: CollectionFlags,
    /// The room that stays free.
    #[command(flatten)]
    pub room: RoomFlag,
    /// The orderly end.
    #[command(flatten)]
    pub drain: DrainFlag,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of manifests.
    pub manifests: PathBuf,
    /// Whether an operator writes them, which is waited for.
    pub await_operator: bool,
    /// Directory for data.
    pub data: PathBuf,
    /// Address to serve on.
    pub listen: SocketAddr,
    /// Address of the metrics page.
    pub metrics: SocketAddr,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// How clients reach us.
    pub outside: Outside,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// The collection in the background.
    pub collection: Schedule,
    /// How much of the file system of `data` stays free.
    pub min_free: MinFree,
    /// How long requests under way may take once told to stop.
    pub drain: Duration,
    /// The key of signing keys at rest: `ARTIFACTAPI_ENCRYPTION_KEY`, which no flag has.
    pub sealer: Option<Sealer>,
}

/// Where manifests are: as told, else the examples of a checkout, else `manifests`.
pub fn manifests_dir(told: Option<&PathBuf>) -> PathBuf {
    match told {
        Some(dir) => dir.clone(),
        None if PathBuf::from(EXAMPLES).is_dir() => EXAMPLES.into(),
        None => "manifests".into(),
    }
}

impl Settings {
    /// Checks `flags`.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn of(flags: &Flags) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let listen = address("--listen (LISTEN_ADDR)", &flags.listen, &mut errors);
        let metrics = address("--metrics (ARTIFACTAPI_METRICS_ADDR)", &flags.metrics, &mut errors);
        // A chart sets every variable, also those that say nothing.
        let public_url = flags.public_url.as_deref().filter(|url| !url.is_empty()).and_then(|url| {
            PublicUrl::parse(url)
                .map_err(|why| errors.push(format!("--public-url (ARTIFACTAPI_PUBLIC_URL) {why}")))
                .ok()
        });
        let mut trusted_proxies: Vec<IpNet> = Vec::new();
        for text in flags.trusted_proxies.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
            match text.parse() {
                Ok(net) => trusted_proxies.push(net),
                Err(_) => errors.push(format!(
                    "--trusted-proxies (ARTIFACTAPI_TRUSTED_PROXIES): {text:?} is no network as 10.0.0.0/8"
                )),
            }
        }
        let tls = tls(flags, &mut errors);
        let manifests = manifests_dir(flags.manifests.as_ref());
        if !manifests.is_dir() {
            errors.push(format!(
                "--manifests (ARTIFACTAPI_MANIFESTS): {} is no directory; crds/examples shows what belongs there",
                manifests.display()
            ));
        }
        let collection = flags.collection.schedule(&mut errors);
        let min_free = flags.room.floor(&mut errors);
        let drain = flags.drain.time(&mut errors);
        let mut reader = Reader::new(&process);
        let sealer = reader.sealer();
        errors.append(&mut reader.errors);
        let (Some(listen), Some(metrics), Some(collection), Some(min_free), Some(drain)) =
            (listen, metrics, collection, min_free, drain)
        else {
            return Err(errors);
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Settings {
            manifests,
            await_operator: flags.await_operator,
            data: flags.data.clone(),
            listen,
            metrics,
            tls,
            outside: Outside { public_url, trusted_proxies },
            log_format: flags.log_format,
            collection,
            min_free,
            drain,
            sealer,
        })
    }
}

/// Certificate and key belong together and must be usable.
fn tls(flags: &Flags, errors: &mut Vec<String>) -> Option<TlsFiles> {
    match (flags.tls_cert.clone(), flags.tls_key.clone()) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate, key };
            if let Err(error) = Tls::load(files.clone()) {
                errors.push(format!("--tls-cert, --tls-key: {error}"));
            }
            Some(files)
        }
        (None, None) => None,
        (Some(_), None) => {
            errors.push("--tls-cert (ARTIFACTAPI_TLS_CERT) needs --tls-key (ARTIFACTAPI_TLS_KEY)".into());
            None
        }
        (None, Some(_)) => {
            errors.push("--tls-key (ARTIFACTAPI_TLS_KEY) needs --tls-cert (ARTIFACTAPI_TLS_CERT)".into());
            None
        }
    }
}

/// `:8000` listens on every address, as the original system read it.
fn address(flag: &str, text: &str, errors: &mut Vec<String>) -> Option<SocketAddr> {
    let address = listen::address(text);
    if address.is_none() {
        errors.push(format!("{flag}: {text:?} is no address as 127.0.0.1:8000, [::1]:8000 or :8000"));
    }
    address
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn settings(arguments: &[&str]) -> Result<Settings, Vec<String>> {
        let line = ["artifactapi", "--manifests", "."].into_iter().chain(arguments.iter().copied());
        Settings::of(&Line::parse_from(line).flags)
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let arguments = [
            "--manifests=/nowhere",
            "--listen=x",
            "--metrics=9090",
            "--public-url=packages.test",
            "--trusted-proxies=10.0.0.0/8,x,10.0.0.0/99",
            "--tls-cert=/nowhere.pem",
            "--gc-interval=0s",
            "--gc-grace=7d",
            "--min-free=much",
            "--drain=0s",
        ];
        let errors =
            Settings::of(&Line::parse_from(["artifactapi"].iter().chain(&arguments)).flags).unwrap_err();
        for flag in [
            "--manifests",
            "--listen",
            "--metrics",
            "--public-url",
            "--trusted-proxies",
            "--tls-cert",
            "--gc-interval",
            "--gc-grace",
            "--min-free",
            "--drain",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(flag)), "{flag} in {errors:?}");
        }
        assert_eq!(errors.len(), 11);
    }

    #[test]
    fn a_port_alone_listens_everywhere() {
        let settings = settings(&["--listen", ":8123", "--trusted-proxies", "10.0.0.0/8, fd00::/8"]).unwrap();
        assert_eq!(settings.listen.to_string(), "[::]:8123");
        assert_eq!(settings.outside.trusted_proxies.len(), 2);
    }
}
