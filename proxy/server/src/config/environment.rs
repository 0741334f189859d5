//! What the environment says to `serve` and to the commands that work on its stores. Names of the original system
//! are kept; every secret may stand in a file instead (`NAME_FILE`). Every error is reported, not only the first.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use artifactapi_crds::quantity::ByteQuantity;
use artifactapi_model::Sealer;
pub use artifactapi_stores::environment::{Lookup, process};
use artifactapi_stores::{S3Settings, environment::Reader, postgres::PostgresSettings};
use ipnet::IpNet;
use secrecy::SecretString;

use super::periods::{CollectionFlags, DrainFlag};
use crate::{
    http::{
        forwarded::{Outside, PublicUrl},
        tls::{Tls, TlsFiles},
    },
    telemetry::logs::LogFormat,
    upkeep::collection::Schedule,
};

/// The variables, for `--help`.
pub const HELP: &str = "\
Environment (secrets also as NAME_FILE, a file that holds the value):
  LISTEN_ADDR                    address to serve on; a port alone is every address, of IPv4 and IPv6 [:8000]
  DBHOST, DBPORT, DBUSER, DBPASS, DBNAME
                                 PostgreSQL [port 5432, database artifactapi]
  ARTIFACTAPI_DB_TLS             disable, require or verify [disable]
  ARTIFACTAPI_DB_CA              file of authorities (PEM) for verify [the system's]
  REDIS_URL                      redis://, rediss://, redis-sentinel:// or redis-cluster://; without it
                                 this must be the only replica
  ARTIFACTAPI_REDIS_CA           file of authorities (PEM) for rediss:// [the system's]
  MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY, MINIO_BUCKET, MINIO_SECURE, MINIO_REGION
                                 S3 store as host:port [bucket artifactapi, false, us-east-1]
  ARTIFACTAPI_S3_PUBLIC_ENDPOINT URL under which clients reach the S3 store, for `delivery: redirect`
  ARTIFACTAPI_ENCRYPTION_KEY     key under which upstream credentials and signing keys are stored: 32 random
                                 bytes in base64 or hex, or at least 32 characters
  ARTIFACTAPI_CACHE_DIR          directory for copies of large bodies [cache]
  ARTIFACTAPI_CACHE_BYTES        how much it may hold, as 20Gi [10Gi]
  ARTIFACTAPI_PEER_ADDR          address for the other replicas only [:8001]
  ARTIFACTAPI_PEER_ADVERTISE     host:port where they reach it [found out]
  ARTIFACTAPI_PEER_KEY           secret that replicas share [one kept in the database]
  ARTIFACTAPI_METRICS_ADDR       address of the metrics page [:9090]
  ARTIFACTAPI_PUBLIC_URL         URL under which clients reach this service [what their requests say]
  ARTIFACTAPI_TRUSTED_PROXIES    networks (CIDR, comma-separated) whose X-Forwarded-* headers are believed
  ARTIFACTAPI_TLS_CERT, ARTIFACTAPI_TLS_KEY
                                 certificate chain and private key (PEM), read again when they change
  ARTIFACTAPI_GC_INTERVAL        how often what is no longer needed is collected [1h]
  ARTIFACTAPI_GC_GRACE           how long bytes that nothing names are kept, in each of two phases [24h]
  ARTIFACTAPI_DRAIN              how long requests under way may take once told to stop; whoever kills what does
                                 not end (terminationGracePeriodSeconds) has to wait longer [60s]
  ARTIFACTAPI_LOG_FORMAT         json or text";

/// Those of the database alone, for `--help`.
pub const DATABASE_HELP: &str = "\
Environment (the password also as DBPASS_FILE, a file that holds it):
  DBHOST, DBPORT, DBUSER, DBPASS, DBNAME
                                 PostgreSQL [port 5432, database artifactapi]
  ARTIFACTAPI_DB_TLS             disable, require or verify [disable]
  ARTIFACTAPI_DB_CA              file of authorities (PEM) for verify [the system's]";

/// What concerns the stores.
#[derive(Debug)]
pub struct StoreSettings {
    /// PostgreSQL.
    pub database: PostgresSettings,
    /// S3.
    pub s3: S3Settings,
    /// Redis.
    pub redis: Option<SecretString>,
    /// Authorities (PEM) to trust at Redis, besides the system's.
    pub redis_ca: Option<String>,
    /// The key of credentials at rest.
    pub sealer: Option<Sealer>,
    /// Directory of the disk tier.
    pub cache_dir: PathBuf,
    /// Its bound in bytes.
    pub cache_bytes: u64,
}

/// All of `serve`.
#[derive(Debug)]
pub struct ServeSettings {
    /// The stores.
    pub stores: StoreSettings,
    /// Address to serve on.
    pub listen: SocketAddr,
    /// Address of the metrics page.
    pub metrics: SocketAddr,
    /// Address for twins.
    pub peer_listen: SocketAddr,
    /// Where twins reach it, if it was said.
    pub peer_advertise: Option<String>,
    /// The secret that twins share, if it was said.
    pub peer_key: Option<SecretString>,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// How clients reach us.
    pub outside: Outside,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// The collection in the background.
    pub collection: Schedule,
    /// How long requests under way may take once told to stop.
    pub drain: Duration,
}

fn stores(reader: &mut Reader<'_>) -> StoreSettings {
    let database = reader.postgres();
    let endpoint = reader.required("MINIO_ENDPOINT", "it is host:port of the S3 store");
    let bucket = reader.text("MINIO_BUCKET").unwrap_or_else(|| "artifactapi".into());
    let (access_key, secret_key) =
        (reader.required_secret("MINIO_ACCESS_KEY"), reader.required_secret("MINIO_SECRET_KEY"));
    let mut s3 = S3Settings::new(endpoint, bucket, access_key, secret_key);
    s3.secure = reader.parsed("MINIO_SECURE", false, "true or false");
    s3.region = reader.text("MINIO_REGION").unwrap_or(s3.region);
    s3.public_endpoint = reader.text("ARTIFACTAPI_S3_PUBLIC_ENDPOINT");
    StoreSettings {
        database,
        s3,
        redis: reader.secret("REDIS_URL"),
        redis_ca: reader.file("ARTIFACTAPI_REDIS_CA"),
        sealer: reader.sealer(),
        cache_dir: reader.text("ARTIFACTAPI_CACHE_DIR").unwrap_or_else(|| "cache".into()).into(),
        cache_bytes: bytes(reader, "ARTIFACTAPI_CACHE_BYTES", 10 << 30),
    }
}

fn bytes(reader: &mut Reader<'_>, name: &str, default: u64) -> u64 {
    let Some(text) = reader.text(name) else { return default };
    ByteQuantity::Text(text).parse().unwrap_or_else(|error| {
        reader.errors.push(format!("{name} {error}"));
        default
    })
}

fn outside(reader: &mut Reader<'_>) -> Outside {
    let public_url = reader.text("ARTIFACTAPI_PUBLIC_URL").and_then(|url| {
        PublicUrl::parse(&url).map_err(|why| reader.errors.push(format!("ARTIFACTAPI_PUBLIC_URL {why}"))).ok()
    });
    let proxies = reader.text("ARTIFACTAPI_TRUSTED_PROXIES").unwrap_or_default();
    let mut trusted_proxies: Vec<IpNet> = Vec::new();
    for text in proxies.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(net) => trusted_proxies.push(net),
            Err(_) => reader
                .errors
                .push(format!("ARTIFACTAPI_TRUSTED_PROXIES: {text:?} is no network as 10.0.0.0/8")),
        }
    }
    Outside { public_url, trusted_proxies }
}

fn tls(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    match (reader.text("ARTIFACTAPI_TLS_CERT"), reader.text("ARTIFACTAPI_TLS_KEY")) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate: certificate.into(), key: key.into() };
            if let Err(error) = Tls::load(files.clone()) {
                reader.errors.push(format!("ARTIFACTAPI_TLS_CERT, ARTIFACTAPI_TLS_KEY: {error}"));
            }
            Some(files)
        }
        (None, None) => None,
        _ => {
            reader.errors.push("ARTIFACTAPI_TLS_CERT and ARTIFACTAPI_TLS_KEY belong together".into());
            None
        }
    }
}

fn collection(reader: &mut Reader<'_>) -> Schedule {
    let text = |name| reader.text(name);
    let flags = CollectionFlags::of(text("ARTIFACTAPI_GC_INTERVAL"), text("ARTIFACTAPI_GC_GRACE"));
    flags.schedule(&mut reader.errors).unwrap_or_default()
}

fn drain(reader: &mut Reader<'_>) -> Duration {
    let flag = DrainFlag::of(reader.text("ARTIFACTAPI_DRAIN"));
    flag.time(&mut reader.errors).unwrap_or_default()
}

fn log_format(reader: &mut Reader<'_>) -> LogFormat {
    match reader.text("ARTIFACTAPI_LOG_FORMAT").as_deref() {
        None => LogFormat::default(),
        Some(text) => clap::ValueEnum::from_str(text, true).unwrap_or_else(|_| {
            reader.errors.push(format!("ARTIFACTAPI_LOG_FORMAT: {text:?} is not json or text"));
            LogFormat::default()
        }),
    }
}

/// Reads what concerns the database, and nothing else: who works on it alone needs no other secret.
///
/// # Errors
/// A sentence for each thing that is wrong.
pub fn database(lookup: Lookup<'_>) -> Result<PostgresSettings, Vec<String>> {
    let mut reader = Reader::new(lookup);
    let database = reader.postgres();
    reader.finish(database)
}

impl StoreSettings {
    /// Reads what concerns the stores.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(lookup);
        let stores = stores(&mut reader);
        reader.finish(stores)
    }
}

impl ServeSettings {
    /// Reads everything.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(lookup);
        let settings = ServeSettings {
            stores: stores(&mut reader),
            listen: reader.address("LISTEN_ADDR", ":8000"),
            metrics: reader.address("ARTIFACTAPI_METRICS_ADDR", ":9090"),
            peer_listen: reader.address("ARTIFACTAPI_PEER_ADDR", ":8001"),
            peer_advertise: reader.reached("ARTIFACTAPI_PEER_ADVERTISE"),
            peer_key: reader.secret("ARTIFACTAPI_PEER_KEY"),
            tls: tls(&mut reader),
            outside: outside(&mut reader),
            log_format: log_format(&mut reader),
            collection: collection(&mut reader),
            drain: drain(&mut reader),
        };
        reader.finish(settings)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs};

    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<ServeSettings, Vec<String>> {
        let map: HashMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ServeSettings::read(&|name| map.get(name).cloned())
    }

    const NEEDED: [(&str, &str); 6] = [
        ("DBHOST", "db"),
        ("DBUSER", "u"),
        ("DBPASS", "secret-1"),
        ("MINIO_ENDPOINT", "s3:9000"),
        ("MINIO_ACCESS_KEY", "k"),
        ("MINIO_SECRET_KEY", "secret-2"),
    ];

    #[test]
    fn the_original_names_suffice() {
        let settings = read(&NEEDED).unwrap();
        assert_eq!(settings.listen.to_string(), "[::]:8000");
        assert_eq!(settings.peer_listen.port(), 8001);
        assert_eq!(settings.stores.database.place(), "db:5432");
        assert_eq!(settings.stores.cache_bytes, 10 << 30);
        assert_eq!(settings.drain, Duration::from_secs(60));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("secret-1") && !shown.contains("secret-2"), "{shown}");
    }

    #[test]
    fn every_mistake_is_told_at_once_and_no_secret_with_it() {
        let errors = read(&[
            ("DBPORT", "x"),
            ("DBPASS", "p"),
            ("DBPASS_FILE", "/nowhere"),
            ("MINIO_SECRET_KEY_FILE", "/nowhere"),
            ("MINIO_SECURE", "maybe"),
            ("LISTEN_ADDR", "8000"),
            ("ARTIFACTAPI_PEER_ADVERTISE", "fd00::5"),
            ("ARTIFACTAPI_ENCRYPTION_KEY", "too-short-to-tell"),
            ("ARTIFACTAPI_CACHE_BYTES", "many"),
            ("ARTIFACTAPI_DB_TLS", "on"),
            ("ARTIFACTAPI_TRUSTED_PROXIES", "10.0.0.0/8,x"),
            ("ARTIFACTAPI_TLS_CERT", "/x"),
            ("ARTIFACTAPI_LOG_FORMAT", "xml"),
            ("ARTIFACTAPI_GC_INTERVAL", "0s"),
            ("ARTIFACTAPI_GC_GRACE", "1d"),
            ("ARTIFACTAPI_DRAIN", "999ms"),
        ])
        .unwrap_err();
        for name in [
            "DBHOST ",
            "DBPORT:",
            "DBUSER ",
            "DBPASS and DBPASS_FILE",
            "MINIO_ENDPOINT ",
            "MINIO_ACCESS_KEY ",
            "MINIO_SECRET_KEY_FILE:",
            "MINIO_SECURE:",
            "LISTEN_ADDR:",
            "ARTIFACTAPI_PEER_ADVERTISE:",
            "ARTIFACTAPI_ENCRYPTION_KEY:",
            "ARTIFACTAPI_CACHE_BYTES ",
            "ARTIFACTAPI_DB_TLS:",
            "ARTIFACTAPI_TRUSTED_PROXIES:",
            "ARTIFACTAPI_TLS_CERT and",
            "ARTIFACTAPI_LOG_FORMAT:",
            "--gc-interval (ARTIFACTAPI_GC_INTERVAL)",
            "--gc-grace (ARTIFACTAPI_GC_GRACE)",
            "--drain (ARTIFACTAPI_DRAIN)",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(name)), "{name} in {errors:#?}");
        }
        assert_eq!(errors.len(), 19, "{errors:#?}");
        assert!(!errors.concat().contains("too-short-to-tell"));
    }

    #[test]
    fn the_database_needs_nothing_of_the_other_stores() {
        let asked = std::cell::RefCell::new(Vec::new());
        let look = |name: &str| {
            asked.borrow_mut().push(name.to_owned());
            NEEDED.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(database(&look).unwrap().place(), "db:5432");
        let others: Vec<_> = asked.take().into_iter().filter(|name| !DATABASE_HELP.contains(name)).collect();
        assert_eq!(others, [""; 0]);
        assert_eq!(database(&|_| None).unwrap_err().len(), 3);
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "from-file\n").unwrap();
        let mut pairs: Vec<_> = NEEDED.into_iter().filter(|(name, _)| *name != "DBPASS").collect();
        pairs.push(("DBPASS_FILE", file.to_str().unwrap()));
        assert_eq!(read(&pairs).unwrap().stores.database.password.at_first().expose_secret(), "from-file");
        fs::write(&file, "\n").unwrap();
        assert_eq!(read(&pairs).unwrap_err().len(), 1);
    }
}
