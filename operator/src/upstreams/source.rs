//! By which way the proxies tell what they see, and are asked to look: a port with one adapter for the database and one
//! for the directory that a standalone proxy reads.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use artifactapi_model::{
    observation::Observation,
    ports::{Observations, observations::ProbeRequest},
};
use artifactapi_stores::exchange::{Asked, Exchange};
use async_trait::async_trait;

/// Namespace and name of a Remote.
pub type Place = (String, String);
/// What has changed, and up to which version.
pub type News = (i64, Vec<(Place, Observation)>);

/// The proxies, as far as upstreams go. Errors are sentences.
#[async_trait]
pub trait Source: Send + Sync {
    /// What has changed after the version `after`; 0 asks for all.
    async fn news(&self, after: i64) -> Result<News, String>;

    /// Asks for probes.
    async fn ask(&self, wanted: &[ProbeRequest]) -> Result<(), String>;
}

/// The tables of observations and probes.
pub struct Tables(pub Arc<dyn Observations>);

#[async_trait]
impl Source for Tables {
    async fn news(&self, after: i64) -> Result<News, String> {
        let (mut version, mut news) = (after, Vec::new());
        loop {
            let rows = self.0.observed(version).await.map_err(|error| error.to_string())?;
            let Some(last) = rows.last() else { return Ok((version, news)) };
            version = last.version;
            let row = |row: artifactapi_model::ports::observations::Observed| {
                ((row.namespace, row.name.to_string()), row.observation)
            };
            news.extend(rows.into_iter().map(row));
        }
    }

    async fn ask(&self, wanted: &[ProbeRequest]) -> Result<(), String> {
        self.0.request_probes(wanted).await.map_err(|error| error.to_string())
    }
}

/// The files in a directory of manifests.
pub struct Files {
    exchange: Exchange,
    known: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    version: i64,
    told: BTreeMap<Place, Observation>,
    asked: Option<BTreeMap<Place, Asked>>,
}

impl Files {
    /// Those in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Files { exchange: Exchange::new(dir), known: Arc::default() }
    }

    /// Files are small, and read and written where nothing else waits.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Exchange, &mut Shared) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let (exchange, known) = (self.exchange.clone(), self.known.clone());
        let work = move || work(&exchange, &mut known.lock().unwrap_or_else(PoisonError::into_inner));
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
        done.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Source for Files {
    async fn news(&self, after: i64) -> Result<News, String> {
        self.blocking(move |exchange, known| {
            // The proxy writes only where it sees that somebody reads.
            if known.asked.is_none() {
                let asked = exchange.asked()?.unwrap_or_default();
                let place = |one: &Asked| (one.namespace.clone(), one.name.to_string());
                known.asked = Some(asked.into_iter().map(|one| (place(&one), one)).collect());
                let all: Vec<Asked> = known.asked.iter().flat_map(BTreeMap::values).cloned().collect();
                exchange.ask(&all)?;
            }
            let told: BTreeMap<Place, Observation> = exchange
                .told()?
                .into_iter()
                .map(|told| ((told.namespace, told.name.to_string()), told.observation))
                .collect();
            let is_new = |(place, observation): &(&Place, &Observation)| {
                after == 0 || known.told.get(*place) != Some(*observation)
            };
            let news: Vec<_> =
                told.iter().filter(is_new).map(|(place, one)| (place.clone(), one.clone())).collect();
            if !news.is_empty() {
                known.version += 1;
            }
            known.told = told;
            Ok((known.version, news))
        })
        .await
    }

    async fn ask(&self, wanted: &[ProbeRequest]) -> Result<(), String> {
        let wanted = wanted.to_vec();
        self.blocking(move |exchange, known| {
            let mut asked = known.asked.clone().unwrap_or_default();
            for ProbeRequest { namespace, name, token, config: _ } in wanted {
                let place = (namespace.clone(), name.to_string());
                asked.insert(place, Asked { namespace, name, token });
            }
            let all: Vec<Asked> = asked.values().cloned().collect();
            exchange.ask(&all)?;
            known.asked = Some(asked);
            Ok(())
        })
        .await
    }
}
