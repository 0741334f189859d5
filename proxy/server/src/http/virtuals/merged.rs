//! Requests that a merged index decides about: the index itself, the files beside it, and what it advertises.

use std::sync::Arc;

use artifactapi_engine::merged::{Found, Union};
use artifactapi_formats::merge::Rules;
use artifactapi_model::{RepoName, RepoPath, Spelling};
use http::Response;

use super::Asked;
use crate::{
    config::{Member, VirtualRepository},
    http::{
        body::ReplyBody,
        errors::{Refused, refusal},
        fetched,
        handle::public_base,
        respond,
        target::Target,
    },
    telemetry::Record,
};

/// The rules of a Virtual, with its members by their places among those that whoever asks may see.
struct Shown {
    repository: Arc<VirtualRepository>,
    /// Of each member its place among those shown.
    places: Vec<Option<usize>>,
    names_first: bool,
}

impl Rules for Shown {
    fn names_first(&self) -> bool {
        self.names_first
    }

    fn owner(&self, name: &str) -> Option<usize> {
        // What belongs to a member that is not shown is nobody's: a place that nobody has.
        self.repository.reserved(name).map(|member| self.places[member].unwrap_or(usize::MAX))
    }
}

impl Asked<'_> {
    /// The answer, when `path` is a merged index's business.
    pub(super) async fn merged(
        &self,
        visible: &[bool],
        record: &mut Record,
    ) -> Result<Option<Response<ReplyBody>>, Refused> {
        let Asked { app, connection, parts, repository, .. } = *self;
        let Ok(path) = RepoPath::parse(self.path, Spelling::Plain) else { return Ok(None) };
        let union = Arc::new(self.union(visible)?);
        let Some(found) = app.engine.merged(&union, &path).await else { return Ok(None) };
        let found = found.map_err(|error| self.refused(error.into(), record))?;
        match found {
            Found::Content(content) => {
                if let Some(entry) = record.entry() {
                    entry.canonical = Some(content.key.path.clone());
                    entry.outcome = content.outcome.into();
                }
                let (method, version, headers) = (&parts.method, parts.version, &parts.headers);
                let asked = respond::Asked { method, version, headers, repository: &repository.face };
                let response = respond::content(&app.engine, &app.budget, asked, *content).await;
                response.map(Some).map_err(|error| refusal(&error, self.path))
            }
            Found::Member(place, path) => {
                let shown = repository.members.iter().zip(visible).filter(|(_, shown)| **shown);
                let Some((Member::Remote(remote), _)) = shown.into_iter().nth(place) else {
                    return Err(self.nobody());
                };
                let path = path.encode();
                let target = Target { path: &path, ..self.target(remote) };
                let answer = fetched::attempt(app, connection, parts, &target, None, record).await;
                answer.map(Some).map_err(|failed| failed.refused(&target, record))
            }
        }
    }

    /// What is merged for whoever asks.
    fn union(&self, visible: &[bool]) -> Result<Union, Refused> {
        let Asked { app, connection, parts, repository, .. } = *self;
        let mut members = Vec::with_capacity(visible.len());
        let mut places = Vec::with_capacity(visible.len());
        for (member, shown) in repository.members.iter().zip(visible) {
            places.push(shown.then_some(members.len()));
            match member {
                _ if !shown => {}
                Member::Remote(remote) => members.push(remote.remote.clone()),
                Member::Missing(name) => return Err(super::missing(name)),
                // No Local has an index that could be merged yet.
                Member::Local(local) => return Err(super::missing(&local.face.name)),
            }
        }
        let names_first = repository.spec.resolution == artifactapi_crds::virtuals::Resolution::FirstMatch;
        let fingerprint = fingerprint(repository, &members, names_first);
        let base = public_base(app, connection, parts, &self.prefix)?;
        let rules = Shown { repository: repository.clone(), places, names_first };
        Ok(Union {
            package_type: repository.face.package_type,
            identity: repository.identity,
            members,
            rules: Box::new(rules),
            fingerprint,
            base,
        })
    }
}

/// Everything of the configuration that a merge depends on.
fn fingerprint(
    repository: &VirtualRepository,
    members: &[artifactapi_model::Remote],
    names_first: bool,
) -> String {
    let names: Vec<&RepoName> = members.iter().map(|member| &member.spec.name).collect();
    let policies: Vec<_> = members.iter().map(|member| (&member.identity, &member.spec.policy)).collect();
    let (namespace, name) = (&repository.spec.namespace, &repository.spec.name);
    format!("{namespace}/{name} {names_first} {names:?} {policies:?} {:?}", repository.spec.reserved)
}
