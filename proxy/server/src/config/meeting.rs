//! Where the operator and the proxy of one pod meet: requests for probes come in through the directory of manifests,
//! what was seen of upstreams goes out there.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use artifactapi_model::{
    RepoName,
    ports::{
        Observations,
        observations::{Observed, ProbeRequest},
    },
};
use artifactapi_stores::exchange::{Asked, Exchange, Told};

use crate::App;

type Place = (String, RepoName);

/// One end of an [`Exchange`].
pub struct Meeting {
    exchange: Exchange,
    store: Arc<dyn Observations>,
    /// Up to which version observations are known.
    version: i64,
    known: BTreeMap<Place, Observed>,
    /// What was asked for and passed on.
    passed_on: BTreeMap<Place, String>,
    /// What the operator has been told.
    told: Option<Vec<Told>>,
}

impl Meeting {
    /// In `dir`, on behalf of `store`.
    pub fn new(dir: PathBuf, store: Arc<dyn Observations>) -> Self {
        Meeting {
            exchange: Exchange::new(dir),
            store,
            version: 0,
            known: BTreeMap::new(),
            passed_on: BTreeMap::new(),
            told: None,
        }
    }

    /// What the operator asks for: to be read before its manifests, which it writes first, and handed to
    /// [`Meeting::answer`] when those are in service.
    pub async fn asked(&self) -> Option<Vec<Asked>> {
        let exchange = self.exchange.clone();
        let read = tokio::task::spawn_blocking(move || exchange.asked()).await;
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).unwrap_or_else(|error| {
            tracing::debug!(error = %error, "requests for probes cannot be read");
            None
        })
    }

    /// Passes on what was `asked`, and tells what there is to tell.
    ///
    /// # Errors
    /// What failed, for the log. The next call does what is left.
    pub async fn answer(&mut self, app: &App, asked: Vec<Asked>) -> Result<(), String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("the operator cannot be told of upstreams: {error}");
        loop {
            let rows = self.store.observed(self.version).await.map_err(|error| failed(&error))?;
            let Some(last) = rows.last() else { break };
            self.version = last.version;
            self.known.extend(rows.into_iter().map(|row| ((row.namespace.clone(), row.name.clone()), row)));
        }
        self.pass_on(app, asked).await.map_err(|error| failed(&error))?;
        let snapshot = app.snapshot.load_full();
        let present: HashSet<_> = snapshot.remotes().map(|repository| repository.remote.identity).collect();
        self.known.retain(|_, row| present.contains(&row.identity));
        let told: Vec<Told> = self.known.values().map(told).collect();
        if self.told.as_ref() != Some(&told) {
            let (exchange, content) = (self.exchange.clone(), told.clone());
            let written = tokio::task::spawn_blocking(move || exchange.tell(&content)).await;
            written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
            self.told = Some(told);
        }
        Ok(())
    }

    async fn pass_on(
        &mut self,
        app: &App,
        asked: Vec<Asked>,
    ) -> Result<(), artifactapi_model::ports::MetadataError> {
        let mut wanted = Vec::new();
        let mut passed_on = BTreeMap::new();
        for Asked { namespace, name, token } in asked {
            let place = (namespace.clone(), name.clone());
            let done = self.known.get(&place).and_then(|row| row.observation.probe.as_ref());
            let is_new = self.passed_on.get(&place) != Some(&token);
            if is_new && done.is_none_or(|done| done.token != token) {
                wanted.push(ProbeRequest { namespace, name, token: token.clone(), config: 0 });
            }
            passed_on.insert(place, token);
        }
        if !wanted.is_empty() {
            self.store.request_probes(&wanted).await?;
            app.metrics.upstreams.wake.notify_one();
        }
        self.passed_on = passed_on;
        Ok(())
    }
}

fn told(row: &Observed) -> Told {
    let Observed { namespace, name, observation, identity: _, version: _ } = row;
    Told { namespace: namespace.clone(), name: name.clone(), observation: observation.clone() }
}
