//! What only one object of a set may claim: a name, a mirrored registry, the root of `/v2/`.

use std::collections::BTreeMap;

use super::{Custom, Problem, Valid, stored::Sound};
use crate::FieldError;

/// Keeps the first claimant of every name and reports both. Repositories of all kinds and namespaces share one
/// space of names, since a name is a URL segment; Robots have one per namespace.
pub(super) fn names(documents: Vec<Custom>) -> (Vec<Custom>, Vec<(usize, Problem)>) {
    let mut claims: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut kept: Vec<Custom> = Vec::with_capacity(documents.len());
    let mut problems = Vec::new();
    for document in documents {
        let space = if document.kind.is_repository() { "" } else { document.object.namespace.as_str() };
        let claim = (space.to_owned(), document.object.name.clone());
        // Without a name there is nothing to claim, and an error of its own.
        let first = if document.object.name.is_empty() { None } else { claims.get(&claim) };
        match first {
            Some(&first) => {
                let first: &Custom = &kept[first];
                problems.push(first.problem(taken(format!(
                    "this name is claimed again by {} at {}, which is not served",
                    document.object, document.origin
                ))));
                problems.push(document.problem(taken(format!(
                    "this name belongs to {} at {}: names are one space for all kinds and namespaces",
                    first.object, first.origin
                ))));
            }
            None => {
                claims.insert(claim, kept.len());
                kept.push(document);
            }
        }
    }
    (kept, problems)
}

fn taken(message: String) -> FieldError {
    FieldError::new("metadata.name", "nameConflict", message)
}

/// Removes Remotes that claim a registry host or the root of `/v2/` after another has.
pub(super) fn mirrors(sound: &mut Vec<(&Custom, Sound)>) -> Vec<(usize, Problem)> {
    let mut problems = Vec::new();
    let mut hosts: BTreeMap<String, String> = BTreeMap::new();
    let mut root: Option<String> = None;
    sound.retain(|(document, found)| {
        let Valid::Remote(remote) = &found.valid else { return true };
        let mut claims = Vec::new();
        for (index, host) in remote.docker.mirror_for.iter().enumerate() {
            if let Some(owner) = hosts.get(host) {
                let path = format!("spec.docker.mirrorFor[{index}]");
                claims.push(FieldError::new(
                    path,
                    "mirrorConflict",
                    format!("{owner} answers for it already"),
                ));
            }
        }
        if let Some(owner) = root.as_ref().filter(|_| remote.docker.root_mirror) {
            let message = format!("{owner} is the root mirror already, and there can be one");
            claims.push(FieldError::new("spec.docker.rootMirror", "mirrorConflict", message));
        }
        let free = claims.is_empty();
        problems.extend(claims.into_iter().map(|error| document.problem(error)));
        if free {
            let owner = document.object.to_string();
            hosts.extend(remote.docker.mirror_for.iter().map(|host| (host.clone(), owner.clone())));
            if remote.docker.root_mirror {
                root = Some(owner);
            }
        }
        free
    });
    problems
}
