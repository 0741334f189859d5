//! What the environment says. Names that the proxy has too mean the same; every mistake is told, not only the first.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use artifactapi_crds::duration::DurationString;
use artifactapi_model::{PublicUrl, Sealer};
use artifactapi_stores::{
    environment::{Lookup, Reader},
    postgres::PostgresSettings,
};
use ipnet::IpNet;

use crate::{ceilings::Ceilings, lease, names::GRACE, world::Scope};

/// The variables, for `--help`.
pub const HELP: &str = "\
Environment (secrets also as NAME_FILE, a file that holds the value):
  DBHOST, DBPORT, DBUSER, DBPASS, DBNAME, ARTIFACTAPI_DB_TLS, ARTIFACTAPI_DB_CA
                                 PostgreSQL, as for the proxy
  ARTIFACTAPI_ENCRYPTION_KEY     key under which upstream credentials are stored, the proxy's own
  ARTIFACTAPI_SINK_DIR           directory for manifests, for a standalone proxy beside it, in place of PostgreSQL
  ARTIFACTAPI_PUBLIC_URL         URL under which clients reach the service, for status.url
  ARTIFACTAPI_WATCH_NAMESPACES   namespaces to look after, comma-separated, or * for all [the operator's own]
  ARTIFACTAPI_NAMESPACE          the operator's own namespace, where its Lease is [what Kubernetes says]
  ARTIFACTAPI_LEASE              name of that Lease; operators that share one work for the same proxies, one at a time
                                 [artifactapi-operator]
  ARTIFACTAPI_ALLOW_MIRROR_FOR   registry hosts that docker.mirrorFor may name, comma-separated, or * [none]
  ARTIFACTAPI_ALLOW_ROOT_MIRROR  whether docker.rootMirror may be set [false]
  ARTIFACTAPI_ALLOW_CIDRS        networks within which egress.allowCIDRs must lie, comma-separated [none]
  ARTIFACTAPI_ALLOW_PROXIES      proxies that egress.proxyURL may name, as URLs, comma-separated, or * [none]
  ARTIFACTAPI_RESYNC             how often what is stored is compared with what should be [5m]
  ARTIFACTAPI_NAME_GRACE         how long a namespace keeps the name of a repository that is deleted [2m]
  ARTIFACTAPI_METRICS_ADDR       address of /livez, /readyz and /metrics [:9090]
  KUBECONFIG                     how to reach the Kubernetes API [the pod's service account]
  RUST_LOG                       what is logged [info]";

/// Where accepted objects go.
#[derive(Debug)]
pub enum SinkSettings {
    /// To PostgreSQL, Secrets sealed.
    Postgres {
        /// How to reach it.
        database: PostgresSettings,
        /// The key of credentials at rest.
        sealer: Box<Sealer>,
    },
    /// Into a directory.
    Directory(PathBuf),
}

/// Namespaces to look after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// The operator's own.
    Own,
    /// These, or all.
    These(Scope),
}

/// Everything.
#[derive(Debug)]
pub struct Settings {
    /// Where accepted objects go.
    pub sink: SinkSettings,
    /// The URL clients use.
    pub public_url: Option<PublicUrl>,
    /// Namespaces to look after.
    pub namespaces: Namespaces,
    /// The operator's own namespace, if it was said.
    pub own_namespace: Option<String>,
    /// Name of the Lease that operators of the same proxies share.
    pub lease: String,
    /// How often what is stored is compared with what should be, if it was said.
    pub resync: Option<Duration>,
    /// How long a namespace keeps the name of an object that is deleted.
    pub name_grace: Duration,
    /// How far namespaces may go.
    pub ceilings: Ceilings,
    /// Address of health and metrics.
    pub metrics: SocketAddr,
}

impl Settings {
    /// Reads everything.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, Vec<String>> {
        let mut reader = Reader::new(lookup);
        let sink = sink(&mut reader);
        let public_url = reader.text("ARTIFACTAPI_PUBLIC_URL").and_then(|url| {
            let parsed = PublicUrl::parse(&url);
            parsed.map_err(|why| reader.errors.push(format!("ARTIFACTAPI_PUBLIC_URL {why}"))).ok()
        });
        let namespaces = namespaces(&mut reader);
        let own_namespace = reader.text("ARTIFACTAPI_NAMESPACE");
        let lease = lease(&mut reader);
        let resync = duration(&mut reader, "ARTIFACTAPI_RESYNC");
        let name_grace = duration(&mut reader, "ARTIFACTAPI_NAME_GRACE").unwrap_or(GRACE);
        let ceilings = ceilings(&mut reader);
        let metrics = reader.address("ARTIFACTAPI_METRICS_ADDR", ":9090");
        match sink {
            Some(sink) => reader.finish(Settings {
                sink,
                public_url,
                namespaces,
                own_namespace,
                lease,
                resync,
                name_grace,
                ceilings,
                metrics,
            }),
            None => Err(reader.errors),
        }
    }
}

fn sink(reader: &mut Reader<'_>) -> Option<SinkSettings> {
    if let Some(directory) = reader.text("ARTIFACTAPI_SINK_DIR") {
        if reader.text("DBHOST").is_some() {
            reader.errors.push("ARTIFACTAPI_SINK_DIR and DBHOST are both set; one of them is enough".into());
        }
        return Some(SinkSettings::Directory(directory.into()));
    }
    let database = reader.postgres();
    let before = reader.errors.len();
    let sealer = reader.sealer();
    if sealer.is_none() && reader.errors.len() == before {
        reader.errors.push(
            "ARTIFACTAPI_ENCRYPTION_KEY is not set, and neither is ARTIFACTAPI_ENCRYPTION_KEY_FILE: credentials are \
             stored only sealed"
                .into(),
        );
    }
    Some(SinkSettings::Postgres { database, sealer: Box::new(sealer?) })
}

fn lease(reader: &mut Reader<'_>) -> String {
    let Some(name) = reader.text("ARTIFACTAPI_LEASE") else { return lease::NAME.to_owned() };
    if !is_dns_subdomain(&name) {
        reader
            .errors
            .push(format!("ARTIFACTAPI_LEASE: {name:?} is no name of a Lease, as packages-operator"));
    }
    name
}

/// Names of objects are DNS subdomains (RFC 1123): labels of small letters, digits and hyphens.
fn is_dns_subdomain(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_inner)
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn namespaces(reader: &mut Reader<'_>) -> Namespaces {
    let names: BTreeSet<String> = list(reader, "ARTIFACTAPI_WATCH_NAMESPACES").into_iter().collect();
    if names.is_empty() {
        return Namespaces::Own;
    }
    if !names.contains("*") {
        return Namespaces::These(Some(names));
    }
    if names.len() > 1 {
        reader.errors.push("ARTIFACTAPI_WATCH_NAMESPACES: * stands for all namespaces: give it alone".into());
    }
    Namespaces::These(None)
}

/// Of a second or more: a look at everything reads everything.
fn duration(reader: &mut Reader<'_>, name: &str) -> Option<Duration> {
    let text = reader.text(name)?;
    let period = DurationString::from(text.as_str()).parse().ok();
    let period = period.filter(|period| *period >= Duration::from_secs(1));
    if period.is_none() {
        reader.errors.push(format!("{name}: {text:?} is no duration of a second or more, as 5m"));
    }
    period
}

fn ceilings(reader: &mut Reader<'_>) -> Ceilings {
    let mirror_for = list(reader, "ARTIFACTAPI_ALLOW_MIRROR_FOR");
    let mut networks: Vec<IpNet> = Vec::new();
    for text in list(reader, "ARTIFACTAPI_ALLOW_CIDRS") {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(_) => {
                reader.errors.push(format!("ARTIFACTAPI_ALLOW_CIDRS: {text:?} is no network as 10.0.0.0/8"));
            }
        }
    }
    let proxies = list(reader, "ARTIFACTAPI_ALLOW_PROXIES");
    for proxy in proxies.iter().filter(|proxy| *proxy != "*" && url::Url::parse(proxy).is_err()) {
        reader
            .errors
            .push(format!("ARTIFACTAPI_ALLOW_PROXIES: {proxy:?} is no URL as http://proxy.example:3128"));
    }
    Ceilings {
        mirror_for: mirror_for.iter().map(|host| host.to_ascii_lowercase()).collect(),
        root_mirror: reader.parsed("ARTIFACTAPI_ALLOW_ROOT_MIRROR", false, "true or false"),
        networks,
        proxies,
    }
}

fn list(reader: &Reader<'_>, name: &str) -> Vec<String> {
    let text = reader.text(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let map: HashMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::read(&|name| map.get(name).cloned())
    }

    const NEEDED: [(&str, &str); 4] = [
        ("DBHOST", "db"),
        ("DBUSER", "u"),
        ("DBPASS", "secret-1"),
        ("ARTIFACTAPI_ENCRYPTION_KEY", "secret-2, of at least thirty-two characters"),
    ];

    #[test]
    fn nothing_but_the_database_is_needed_and_nothing_is_allowed_by_itself() {
        let settings = read(&NEEDED).unwrap();
        assert!(
            matches!(&settings.sink, SinkSettings::Postgres { database, .. } if database.place() == "db:5432")
        );
        assert_eq!(settings.namespaces, Namespaces::Own);
        assert_eq!(settings.ceilings, Ceilings::default());
        assert_eq!(settings.metrics.port(), 9090);
        assert_eq!(settings.lease, "artifactapi-operator");
        let shown = format!("{settings:?}");
        assert!(!shown.contains("secret-1") && !shown.contains("secret-2"), "{shown}");
        let directory = read(&[("ARTIFACTAPI_SINK_DIR", "/manifests")]).unwrap();
        assert!(matches!(directory.sink, SinkSettings::Directory(_)));
    }

    #[test]
    fn namespaces_and_ceilings_are_lists() {
        let mut pairs = NEEDED.to_vec();
        pairs.extend([
            ("ARTIFACTAPI_WATCH_NAMESPACES", "b, a"),
            ("ARTIFACTAPI_ALLOW_MIRROR_FOR", "Docker.io,quay.io"),
            ("ARTIFACTAPI_ALLOW_ROOT_MIRROR", "true"),
            ("ARTIFACTAPI_ALLOW_CIDRS", "10.0.0.0/8"),
        ]);
        let settings = read(&pairs).unwrap();
        let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(settings.namespaces, Namespaces::These(Some(both)));
        assert_eq!(settings.ceilings.mirror_for, ["docker.io", "quay.io"]);
        assert!(settings.ceilings.root_mirror);
        let mut pairs = NEEDED.to_vec();
        pairs.push(("ARTIFACTAPI_WATCH_NAMESPACES", "*"));
        assert_eq!(read(&pairs).unwrap().namespaces, Namespaces::These(None));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let errors = read(&[
            ("DBHOST", "db"),
            ("ARTIFACTAPI_PUBLIC_URL", "packages"),
            ("ARTIFACTAPI_WATCH_NAMESPACES", "*,a"),
            ("ARTIFACTAPI_ALLOW_CIDRS", "10.0.0.0/99"),
            ("ARTIFACTAPI_ALLOW_ROOT_MIRROR", "perhaps"),
            ("ARTIFACTAPI_METRICS_ADDR", "9090"),
            ("ARTIFACTAPI_LEASE", "Packages_operator"),
        ])
        .unwrap_err();
        for name in [
            "DBUSER ",
            "DBPASS ",
            "ARTIFACTAPI_ENCRYPTION_KEY ",
            "ARTIFACTAPI_PUBLIC_URL ",
            "ARTIFACTAPI_WATCH_NAMESPACES:",
            "ARTIFACTAPI_ALLOW_CIDRS:",
            "ARTIFACTAPI_ALLOW_ROOT_MIRROR:",
            "ARTIFACTAPI_METRICS_ADDR:",
            "ARTIFACTAPI_LEASE:",
        ] {
            assert!(errors.iter().any(|error| error.starts_with(name)), "{name} in {errors:#?}");
        }
        assert_eq!(errors.len(), 9, "{errors:#?}");
        let both = read(&[("ARTIFACTAPI_SINK_DIR", "/m"), ("DBHOST", "db")]).unwrap_err();
        assert_eq!(both.len(), 1, "{both:?}");
    }
}
