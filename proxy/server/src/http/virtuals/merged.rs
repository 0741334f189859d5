//! Requests that a merged index decides about: the index itself, the files beside it, and what it advertises.

use std::sync::Arc;

use artifactapi_engine::{
    FetchError,
    merged::{Found, Union},
};
use artifactapi_formats::{
    PlanError,
    merge::{merge_of, unqualified},
    subject,
};
use artifactapi_model::RepoPath;
use http::Response;

use super::Asked;
use crate::{
    config::{Member, Repository},
    http::{body::ReplyBody, errors::Refused, fetched, handle::public_base, respond, target::Target},
    telemetry::Record,
};

/// What a merged index answers.
enum Answer {
    /// This.
    Response(Response<ReplyBody>),
    /// The file of the member at this place, at its own path.
    Member(usize, RepoPath),
}

impl Asked<'_> {
    /// The answer, when `path` is a merged index's business.
    pub(super) async fn merged(
        &self,
        visible: &[bool],
        record: &mut Record,
    ) -> Result<Option<Response<ReplyBody>>, Refused> {
        let union = self.repository.union(visible).map_err(|name| super::missing(&name))?;
        let Some(found) = self.look(&union, record).await? else { return Ok(None) };
        let found = found.map_err(|error| match error {
            FetchError::NotFound { .. } => self.unlisted(),
            error => self.refused(error.into(), None, record),
        })?;
        match found {
            Answer::Response(response) => Ok(Some(response)),
            Answer::Member(place, path) => {
                let members = self.repository.members.iter().zip(visible);
                let shown = members.filter(|(_, shown)| **shown).nth(place);
                let Some((Member::Remote(remote), _)) = shown else { return Err(self.nobody()) };
                self.listed(remote, &path, record).await.map(Some)
            }
        }
    }

    /// What no generation has: no upstream was asked for it.
    fn unlisted(&self) -> Refused {
        let package_type = self.repository.face.package_type;
        let path = subject::path(package_type, self.path).ok();
        let index = path.as_ref().and_then(|path| merge_of(package_type)?.index_of(path));
        if index.is_some() && index == path {
            return self.nobody();
        }
        Refused { message: "no member's index lists it".into(), ..self.nobody() }
    }

    /// The answer of the member at `owner` where its policy hides something, which its own indexes do not know: it comes
    /// from an index made of that member alone. `None` where nothing is hidden, and for files, about which the policy
    /// itself decides; those that such an index has given out lead to the member for as long as it owns the name.
    pub(super) async fn filtered(
        &self,
        owner: usize,
        record: &mut Record,
    ) -> Result<Option<Response<ReplyBody>>, Refused> {
        let Member::Remote(remote) = &self.repository.members[owner] else { return Ok(None) };
        let is_qualified = unqualified(self.path).is_some();
        if !remote.remote.spec.hides() && !is_qualified {
            return Ok(None);
        }
        // A file that is not hidden itself may belong to something that is.
        if let Ok(path) = subject::path(self.repository.face.package_type, self.path) {
            let decided = self.app.engine.lets_have(&remote.remote, &path);
            decided.map_err(|error| self.refused(error.into(), Some(owner), record))?;
        }
        let union = self.repository.alone(owner).map_err(|name| super::missing(&name))?;
        let Some(found) = self.look(&union, record).await? else { return Ok(None) };
        match found {
            Ok(Answer::Response(response)) => Ok(Some(response)),
            Ok(Answer::Member(_, path)) => self.listed(remote, &path, record).await.map(Some),
            // Not every file is in an index under the path that is asked for.
            Err(FetchError::NotFound { .. } | FetchError::Plan(PlanError::NotFound(_)))
                if !is_qualified && self.asks_for_package(remote) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.refused(error.into(), Some(owner), record)),
        }
    }

    /// What the merges of `union` make of the path.
    async fn look(
        &self,
        union: &Arc<Union>,
        record: &mut Record,
    ) -> Result<Option<Result<Answer, FetchError>>, Refused> {
        let Asked { app, connection, parts, repository, .. } = *self;
        let Ok(path) = subject::path(repository.face.package_type, self.path) else { return Ok(None) };
        let base = public_base(app, connection, parts, &self.prefix)?;
        let accept = fetched::accept(parts);
        let request = fetched::format_request(parts, self.path, self.query, &accept);
        let mut again = true;
        loop {
            let answer = match app.engine.merged(union, &base, &path, &request).await {
                None => return Ok(None),
                Some(Err(error)) => Err(error),
                Some(Ok(Found::Member(place, path))) => Ok(Answer::Member(place, path)),
                Some(Ok(Found::Content(content))) => {
                    self.served(*content, record).await.map(Answer::Response)
                }
            };
            match answer {
                // The engine has forgotten them by now, and makes the index anew.
                Err(error) if again && error.is_loss() => {
                    tracing::error!(virtual.name = %repository.face.name, %error, "stored bytes were lost");
                    again = false;
                }
                answer => return Ok(Some(answer)),
            }
        }
    }

    /// Whether it is a file, rather than an index, as far as `remote` can tell by its path.
    fn asks_for_package(&self, remote: &Repository) -> bool {
        let accept = fetched::accept(self.parts);
        let request = fetched::format_request(self.parts, self.path, self.query, &accept);
        self.app.engine.asks_for_package(&remote.remote, &request)
    }

    async fn served(
        &self,
        content: artifactapi_engine::Content,
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, FetchError> {
        let Asked { app, parts, repository, .. } = *self;
        if let Some(entry) = record.entry() {
            entry.canonical = Some(content.key.path.clone());
            entry.outcome = content.outcome.into();
        }
        let (method, version, headers) = (&parts.method, parts.version, &parts.headers);
        let asked = respond::Asked { method, version, headers, repository: &repository.face };
        respond::content(&app.engine, &app.budget, asked, content).await
    }

    /// The file of `remote` at its own `path`, which a merged index advertises.
    async fn listed(
        &self,
        remote: &Arc<Repository>,
        path: &RepoPath,
        record: &mut Record,
    ) -> Result<Response<ReplyBody>, Refused> {
        let Asked { app, connection, parts, .. } = *self;
        let path = path.encode();
        let target = Target { path: &path, ..self.target(remote) };
        let answer = fetched::attempt(app, connection, parts, &target, None, record).await;
        answer.map_err(|failed| failed.refused(&target, record))
    }
}
