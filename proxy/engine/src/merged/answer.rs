//! What a generation has for a request, and how it is described.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use artifactapi_formats::merge::Asked;
use artifactapi_model::{
    ArtifactKey, Epoch, Mutability, RepoId, RepoPath, Timestamp, repository::RepoIdentity,
};

use super::{
    Found, Union,
    generation::{File, Generation},
    state::Current,
};
use crate::{
    Engine,
    content::{Body, CacheOutcome, Content},
};

/// How sure what is found is: the index's own standing.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    /// `None`: no date is its own.
    since: Option<Timestamp>,
    checked_at: Timestamp,
    until: Timestamp,
    outcome: CacheOutcome,
}

impl Standing {
    /// That of what is current.
    pub(super) fn of(current: &Current, outcome: CacheOutcome) -> Self {
        let (checked_at, until) = (current.checked_at, Timestamp(current.until.load(Relaxed)));
        Standing { since: Some(current.since), checked_at, until, outcome }
    }

    /// That of what another generation has, as sure as the current one.
    fn past(self) -> Self {
        Standing { since: None, ..self }
    }

    /// That of what any generation has while none is current.
    fn alone(now: Timestamp) -> Self {
        Standing { since: None, checked_at: now, until: now, outcome: CacheOutcome::Stale }
    }
}

impl Engine {
    /// What `generation`, the current one, has for `asked`.
    pub(super) fn in_current(
        &self,
        union: &Union,
        asked: &Asked,
        generation: &Generation,
        standing: Standing,
    ) -> Option<Found> {
        let path = asked.path.as_str();
        if let Some(file) = generation.file(path) {
            return Some(self.found(union, asked, file, standing));
        }
        // Before what is listed: a member may list what another one's tag is called.
        let named = || generation.named(path).and_then(|(name, own)| of_member(union, name, &own));
        named().or_else(|| listed(union, generation, asked))
    }

    /// What another `generation` than the current one has for `asked`: files, and what they name.
    pub(super) fn in_other(
        &self,
        union: &Union,
        asked: &Asked,
        generation: &Generation,
        standing: Option<Standing>,
    ) -> Option<Found> {
        let standing = standing.map_or_else(|| Standing::alone(self.ports.clock.now()), Standing::past);
        let file = generation.file(asked.path.as_str());
        let found = file.map(|file| self.found(union, asked, file, standing));
        found.or_else(|| listed(union, generation, asked))
    }

    fn found(&self, union: &Union, asked: &Asked, file: &File, standing: Standing) -> Found {
        let now = self.ports.clock.now();
        let identity = union.identity.unwrap_or(RepoIdentity { id: RepoId(0), epoch: Epoch(0) });
        let Standing { since, checked_at, until, outcome } = standing;
        // A date may lie ahead where generations follow each other within a second; such a one is not sent.
        let stored_at = since.filter(|since| *since <= now);
        let body = |kept: &Option<bytes::Bytes>, digest| match kept {
            Some(bytes) => Body::Memory(bytes.clone()),
            None => Body::Stored(digest),
        };
        let row = &file.row;
        Found::Content(Box::new(Content {
            key: ArtifactKey::new(identity.id, identity.epoch, &asked.path, ""),
            size: Some(row.size),
            digest: Some(row.digest),
            content_type: row.content_type.clone(),
            last_modified: stored_at.is_none().then(String::new),
            headers: Vec::new(),
            mutability: Mutability::Mutable,
            age: now.since(checked_at),
            fresh_for: Some(if outcome == CacheOutcome::Stale { Duration::ZERO } else { until.since(now) }),
            stored_at: stored_at.unwrap_or(now),
            is_dated_exactly: true,
            outcome,
            varies_by_accept: asked.is_negotiated,
            gzip: row.gzip.map(|(digest, size)| (body(&file.gzip, digest), digest, size)),
            body: body(&file.body, row.digest),
        }))
    }
}

/// The member and its own path of a file that `generation` advertises, or that lies beside one.
fn listed(union: &Union, generation: &Generation, asked: &Asked) -> Option<Found> {
    let path = asked.path.as_str();
    let beside = || Some((generation.listed(asked.beside.as_deref()?)?.0, path.to_owned()));
    let (name, own) = generation.listed(path).or_else(beside)?;
    of_member(union, name, &own)
}

/// What the member called `name` has at canonical `path`.
fn of_member(union: &Union, name: &str, path: &str) -> Option<Found> {
    let member = union.members.iter().position(|member| member.spec.name.as_str() == name)?;
    Some(Found::Member(member, RepoPath::from_canonical(path).ok()?))
}
