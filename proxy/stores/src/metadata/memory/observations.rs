//! Observations and probes in memory.

use std::{collections::BTreeMap, time::Duration};

use artifactapi_model::{
    Epoch, RepoId, RepoName, Timestamp,
    observation::Observation,
    ports::{
        MetadataError, Observations,
        observations::{DueProbe, Observed, ProbeRequest, Seen, TAKEN},
    },
    repository::RepoIdentity,
};
use async_trait::async_trait;

use super::MemoryMetadata;
use crate::metadata::observation_rows::{Known, Merged, PAGE, merge};

/// The tables of observations.
#[derive(Debug, Default)]
pub(super) struct Rows {
    observations: BTreeMap<RepoId, Row>,
    probes: BTreeMap<RepoId, Probe>,
    version: i64,
}

#[derive(Debug)]
struct Row {
    epoch: Epoch,
    observation: Observation,
    version: i64,
    written_at: Timestamp,
}

#[derive(Debug)]
struct Probe {
    epoch: Epoch,
    due_at: Timestamp,
    token: Option<String>,
    config: i64,
}

#[async_trait]
impl Observations for MemoryMetadata {
    async fn observe(&self, seen: &[Seen], spacing: Duration) -> Result<Vec<RepoIdentity>, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let rows = &mut tables.observations;
        let Merged { writes, settled } = merge(seen, |repo| {
            rows.observations.get(&repo).map(|row| Known {
                epoch: row.epoch,
                observation: row.observation.clone(),
                is_fresh: now.since(row.written_at) < spacing,
            })
        });
        for write in writes {
            let RepoIdentity { id, epoch } = write.identity;
            if let Some(probe) = rows.probes.get_mut(&id).filter(|probe| probe.epoch == epoch)
                && probe.token.as_deref().is_none_or(|token| Some(token) == write.token())
            {
                (probe.due_at, probe.token) = (now + write.probe_in(), None);
            }
            rows.version += 1;
            let (observation, version) = (write.observation, rows.version);
            rows.observations.insert(id, Row { epoch, observation, version, written_at: now });
        }
        Ok(settled)
    }

    async fn observed(&self, after: i64) -> Result<Vec<Observed>, MetadataError> {
        let tables = self.tables()?;
        let mut observed = Vec::new();
        for ((namespace, name, _), (identity, _)) in &tables.repositories {
            let row = tables.observations.observations.get(&identity.id);
            let row = row.filter(|row| row.epoch == identity.epoch && row.version > after);
            if let (Some(row), Ok(name), false) =
                (row, RepoName::try_from(name.as_str()), tables.retired.contains_key(&identity.id))
            {
                let (observation, version) = (row.observation.clone(), row.version);
                let namespace = namespace.clone();
                observed.push(Observed { namespace, name, identity: *identity, version, observation });
            }
        }
        observed.sort_by_key(|row| row.version);
        observed.truncate(PAGE);
        Ok(observed)
    }

    async fn request_probes(&self, wanted: &[ProbeRequest]) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        for ProbeRequest { namespace, name, token, config } in wanted {
            let named =
                |(there, called, _): &(String, String, _)| there == namespace && called == name.as_str();
            let found: Vec<RepoIdentity> = tables
                .repositories
                .iter()
                .filter(|(key, (identity, _))| named(key) && !tables.retired.contains_key(&identity.id))
                .map(|(_, (identity, _))| *identity)
                .collect();
            for RepoIdentity { id, epoch } in found {
                let probe = Probe { epoch, due_at: now, token: Some(token.clone()), config: *config };
                tables.observations.probes.insert(id, probe);
            }
        }
        Ok(())
    }

    async fn schedule_probes(
        &self,
        remotes: &[RepoIdentity],
        config: i64,
        after: Duration,
    ) -> Result<(), MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        for RepoIdentity { id, epoch } in remotes {
            let known = tables.observations.probes.get(id);
            if known.is_none_or(|probe| probe.epoch < *epoch) {
                let probe = Probe { epoch: *epoch, due_at: now + after, token: None, config };
                tables.observations.probes.insert(*id, probe);
            }
        }
        Ok(())
    }

    async fn take_probes(&self, config: i64, limit: usize) -> Result<Vec<DueProbe>, MetadataError> {
        let mut tables = self.tables()?;
        let now = tables.now();
        let probes = &mut tables.observations.probes;
        let mut due: Vec<_> =
            probes.iter_mut().filter(|(_, probe)| probe.due_at <= now && probe.config <= config).collect();
        due.sort_by_key(|(repo, probe)| (probe.due_at, **repo));
        due.truncate(limit);
        let take = |(id, probe): (&RepoId, &mut Probe)| {
            probe.due_at = now + TAKEN;
            let identity = RepoIdentity { id: *id, epoch: probe.epoch };
            DueProbe { identity, token: probe.token.clone() }
        };
        Ok(due.into_iter().map(take).collect())
    }

    async fn forget_probes(&self, remotes: &[RepoIdentity]) -> Result<(), MetadataError> {
        let probes = &mut self.tables()?.observations.probes;
        for RepoIdentity { id, epoch } in remotes {
            if probes.get(id).is_some_and(|probe| probe.epoch <= *epoch) {
                probes.remove(id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use artifactapi_model::clock::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_probe_of_which_nobody_tells_is_due_again() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let store = MemoryMetadata::with_clock(clock.clone());
        let identity = RepoIdentity { id: RepoId(1), epoch: Epoch(1) };
        store.schedule_probes(&[identity], 0, Duration::ZERO).await.unwrap();
        let due = [DueProbe { identity, token: None }];
        for _ in 0..2 {
            assert_eq!(store.take_probes(0, 9).await.unwrap(), due);
            assert_eq!(store.take_probes(0, 9).await.unwrap(), []);
            clock.advance(TAKEN);
        }
    }
}
