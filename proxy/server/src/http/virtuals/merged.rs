//! Requests that a merged index decides about: the index itself, the files beside it, and what it advertises.

use artifactapi_engine::merged::Found;
use artifactapi_formats::subject;
use http::Response;

use super::Asked;
use crate::{
    config::Member,
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

impl Asked<'_> {
    /// The answer, when `path` is a merged index's business.
    pub(super) async fn merged(
        &self,
        visible: &[bool],
        record: &mut Record,
    ) -> Result<Option<Response<ReplyBody>>, Refused> {
        let Asked { app, connection, parts, repository, .. } = *self;
        let Ok(path) = subject::path(repository.face.package_type, self.path) else { return Ok(None) };
        let union = repository.union(visible).map_err(|name| super::missing(&name))?;
        let base = public_base(app, connection, parts, &self.prefix)?;
        let accept = fetched::accept(parts);
        let request = fetched::format_request(parts, self.path, self.query, &accept);
        let found = app.engine.merged(&union, &base, &path, &request).await;
        let Some(found) = found else { return Ok(None) };
        let found = found.map_err(|error| self.refused(error.into(), None, record))?;
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
}
