//! What the environment says to `serve` and to the commands that work on its stores. Names of the original system
//! are kept; every secret may stand in a file instead (`NAME_FILE`). Every error is reported, not only the first.

use std::{fs, net::SocketAddr, path::PathBuf};

use artifactapi_crds::quantity::ByteQuantity;
use artifactapi_model::Sealer;
use artifactapi_stores::{
    S3Settings,
    postgres::{PostgresSettings, PostgresTls},
};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

use super::periods::CollectionFlags;
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
  LISTEN_ADDR                    address to serve on [:8000]
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
  ARTIFACTAPI_ENCRYPTION_KEY     key under which upstream credentials are stored: 32 random bytes in base64 or
                                 hex, or at least 32 characters
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
  ARTIFACTAPI_LOG_FORMAT         json or text";

/// Where a variable is looked up; tests have their own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

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
}

/// Reads variables and gathers what is wrong with them.
struct Reader<'a> {
    lookup: Lookup<'a>,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn required(&mut self, name: &str, example: &str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.errors.push(format!("{name} is not set; {example}"));
            String::new()
        })
    }

    /// A secret, from the variable or from the file that `NAME_FILE` names.
    fn secret(&mut self, name: &str) -> Option<SecretString> {
        let file_name = format!("{name}_FILE");
        match (self.text(name), self.text(&file_name)) {
            (Some(_), Some(_)) => {
                self.errors.push(format!("{name} and {file_name} are both set; one of them is enough"));
                None
            }
            (Some(value), None) => Some(value.into()),
            (None, Some(file)) => match fs::read_to_string(&file) {
                Ok(text) if text.trim().is_empty() => {
                    self.errors.push(format!("{file_name}: {file} is empty"));
                    None
                }
                Ok(text) => Some(text.trim().to_owned().into()),
                Err(error) => {
                    self.errors.push(format!("{file_name}: {file} cannot be read: {error}"));
                    None
                }
            },
            (None, None) => None,
        }
    }

    fn required_secret(&mut self, name: &str) -> SecretString {
        let before = self.errors.len();
        let secret = self.secret(name);
        if secret.is_none() && self.errors.len() == before {
            self.errors.push(format!("{name} is not set, and neither is {name}_FILE"));
        }
        secret.unwrap_or_else(|| String::new().into())
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &str, default: T, wanted: &str) -> T {
        match self.text(name).map(|text| (text.parse(), text)) {
            None => default,
            Some((Ok(value), _)) => value,
            Some((Err(_), text)) => {
                self.errors.push(format!("{name}: {text:?} is not {wanted}"));
                default
            }
        }
    }

    /// `:8000` listens on every address, as the original system read it.
    fn address(&mut self, name: &str, default: &str) -> SocketAddr {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.clone() };
        full.parse().unwrap_or_else(|_| {
            self.errors.push(format!("{name}: {text:?} is no address as 0.0.0.0:8000 or :8000"));
            SocketAddr::from(([0, 0, 0, 0], 0))
        })
    }

    fn stores(&mut self) -> StoreSettings {
        let database = PostgresSettings {
            host: self.required("DBHOST", "it is PostgreSQL's host name"),
            port: self.parsed("DBPORT", 5432, "a port number"),
            user: self.required("DBUSER", "it is the PostgreSQL role to connect as"),
            password: self.required_secret("DBPASS"),
            database: self.text("DBNAME").unwrap_or_else(|| "artifactapi".into()),
            tls: self.database_tls(),
        };
        let endpoint = self.required("MINIO_ENDPOINT", "it is host:port of the S3 store");
        let bucket = self.text("MINIO_BUCKET").unwrap_or_else(|| "artifactapi".into());
        let (access_key, secret_key) =
            (self.required_secret("MINIO_ACCESS_KEY"), self.required_secret("MINIO_SECRET_KEY"));
        let mut s3 = S3Settings::new(endpoint, bucket, access_key, secret_key);
        s3.secure = self.parsed("MINIO_SECURE", false, "true or false");
        s3.region = self.text("MINIO_REGION").unwrap_or(s3.region);
        s3.public_endpoint = self.text("ARTIFACTAPI_S3_PUBLIC_ENDPOINT");
        StoreSettings {
            database,
            s3,
            redis: self.secret("REDIS_URL"),
            redis_ca: self.file("ARTIFACTAPI_REDIS_CA"),
            sealer: self.sealer(),
            cache_dir: self.text("ARTIFACTAPI_CACHE_DIR").unwrap_or_else(|| "cache".into()).into(),
            cache_bytes: self.bytes("ARTIFACTAPI_CACHE_BYTES", 10 << 30),
        }
    }

    /// The text of the file that a variable names.
    fn file(&mut self, name: &str) -> Option<String> {
        let file = self.text(name)?;
        fs::read_to_string(&file)
            .map_err(|error| self.errors.push(format!("{name}: {file} cannot be read: {error}")))
            .ok()
    }

    fn database_tls(&mut self) -> PostgresTls {
        match self.text("ARTIFACTAPI_DB_TLS").as_deref() {
            None | Some("disable") => PostgresTls::Disable,
            Some("require") => PostgresTls::Require,
            Some("verify") => {
                PostgresTls::Verify { ca: self.file("ARTIFACTAPI_DB_CA").map(String::into_bytes) }
            }
            Some(other) => {
                self.errors.push(format!("ARTIFACTAPI_DB_TLS: {other:?} is not disable, require or verify"));
                PostgresTls::Disable
            }
        }
    }

    fn sealer(&mut self) -> Option<Sealer> {
        let key = self.secret("ARTIFACTAPI_ENCRYPTION_KEY")?;
        match Sealer::new(key.expose_secret()) {
            Ok(sealer) => Some(sealer),
            Err(error) => {
                self.errors.push(format!("ARTIFACTAPI_ENCRYPTION_KEY: {error}"));
                None
            }
        }
    }

    fn bytes(&mut self, name: &str, default: u64) -> u64 {
        let Some(text) = self.text(name) else { return default };
        ByteQuantity::Text(text).parse().unwrap_or_else(|error| {
            self.errors.push(format!("{name} {error}"));
            default
        })
    }

    fn outside(&mut self) -> Outside {
        let public_url = self.text("ARTIFACTAPI_PUBLIC_URL").and_then(|url| {
            PublicUrl::parse(&url)
                .map_err(|why| self.errors.push(format!("ARTIFACTAPI_PUBLIC_URL {why}")))
                .ok()
        });
        let proxies = self.text("ARTIFACTAPI_TRUSTED_PROXIES").unwrap_or_default();
        let mut trusted_proxies: Vec<IpNet> = Vec::new();
        for text in proxies.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match text.parse() {
                Ok(net) => trusted_proxies.push(net),
                Err(_) => self
                    .errors
                    .push(format!("ARTIFACTAPI_TRUSTED_PROXIES: {text:?} is no network as 10.0.0.0/8")),
            }
        }
        Outside { public_url, trusted_proxies }
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        match (self.text("ARTIFACTAPI_TLS_CERT"), self.text("ARTIFACTAPI_TLS_KEY")) {
            (Some(certificate), Some(key)) => {
                let files = TlsFiles { certificate: certificate.into(), key: key.into() };
                if let Err(error) = Tls::load(files.clone()) {
                    self.errors.push(format!("ARTIFACTAPI_TLS_CERT, ARTIFACTAPI_TLS_KEY: {error}"));
                }
                Some(files)
            }
            (None, None) => None,
            _ => {
                self.errors.push("ARTIFACTAPI_TLS_CERT and ARTIFACTAPI_TLS_KEY belong together".into());
                None
            }
        }
    }

    fn collection(&mut self) -> Schedule {
        let text = |name| self.text(name);
        let flags = CollectionFlags::of(text("ARTIFACTAPI_GC_INTERVAL"), text("ARTIFACTAPI_GC_GRACE"));
        flags.schedule(&mut self.errors).unwrap_or_default()
    }

    fn log_format(&mut self) -> LogFormat {
        match self.text("ARTIFACTAPI_LOG_FORMAT").as_deref() {
            None => LogFormat::default(),
            Some(text) => clap::ValueEnum::from_str(text, true).unwrap_or_else(|_| {
                self.errors.push(format!("ARTIFACTAPI_LOG_FORMAT: {text:?} is not json or text"));
                LogFormat::default()
            }),
        }
    }
}

impl StoreSettings {
    /// Reads what concerns the stores.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, Vec<String>> {
        let mut reader = Reader { lookup, errors: Vec::new() };
        let stores = reader.stores();
        if reader.errors.is_empty() { Ok(stores) } else { Err(reader.errors) }
    }
}

impl ServeSettings {
    /// Reads everything.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, Vec<String>> {
        let mut reader = Reader { lookup, errors: Vec::new() };
        let settings = ServeSettings {
            stores: reader.stores(),
            listen: reader.address("LISTEN_ADDR", ":8000"),
            metrics: reader.address("ARTIFACTAPI_METRICS_ADDR", ":9090"),
            peer_listen: reader.address("ARTIFACTAPI_PEER_ADDR", ":8001"),
            peer_advertise: reader.text("ARTIFACTAPI_PEER_ADVERTISE"),
            peer_key: reader.secret("ARTIFACTAPI_PEER_KEY"),
            tls: reader.tls(),
            outside: reader.outside(),
            log_format: reader.log_format(),
            collection: reader.collection(),
        };
        if reader.errors.is_empty() { Ok(settings) } else { Err(reader.errors) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

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
        assert_eq!(settings.listen.to_string(), "0.0.0.0:8000");
        assert_eq!(settings.peer_listen.port(), 8001);
        assert_eq!(settings.stores.database.place(), "db:5432");
        assert_eq!(settings.stores.cache_bytes, 10 << 30);
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
            ("ARTIFACTAPI_ENCRYPTION_KEY", "too-short-to-tell"),
            ("ARTIFACTAPI_CACHE_BYTES", "many"),
            ("ARTIFACTAPI_DB_TLS", "on"),
            ("ARTIFACTAPI_TRUSTED_PROXIES", "10.0.0.0/8,x"),
            ("ARTIFACTAPI_TLS_CERT", "/x"),
            ("ARTIFACTAPI_LOG_FORMAT", "xml"),
            ("ARTIFACTAPI_GC_INTERVAL", "0s"),
            ("ARTIFACTAPI_GC_GRACE", "1d"),
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
            "ARTIFACTAPI_ENCRYPTION_KEY:",
            "ARTIFACTAPI_CACHE_BYTES ",
            "ARTIFACTAPI_DB_TLS:",
            "ARTIFACTAPI_TRUSTED_PROXIES:",
            "ARTIFACTAPI_TLS_CERT and",
            "ARTIFACTAPI_LOG_FORMAT:",
            "--gc-interval (ARTIFACTAPI_GC_INTERVAL)",
            "--gc-grace (ARTIFACTAPI_GC_GRACE)",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(name)), "{name} in {errors:#?}");
        }
        assert_eq!(errors.len(), 17, "{errors:#?}");
        assert!(!errors.concat().contains("too-short-to-tell"));
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "from-file\n").unwrap();
        let mut pairs: Vec<_> = NEEDED.into_iter().filter(|(name, _)| *name != "DBPASS").collect();
        pairs.push(("DBPASS_FILE", file.to_str().unwrap()));
        assert_eq!(read(&pairs).unwrap().stores.database.password.expose_secret(), "from-file");
        fs::write(&file, "\n").unwrap();
        assert_eq!(read(&pairs).unwrap_err().len(), 1);
    }
}
