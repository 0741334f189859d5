//! The second step of a reconcile, and pure: whether an object may be stored, and as what.

use std::{collections::BTreeMap, sync::Arc};

use artifactapi_crds::{
    FieldError,
    manifests::ObjectRef,
    object::{self, Valid},
    schema::Kind,
    validate::{Repositories, Repository},
};
use artifactapi_model::{PublicUrl, account::Robot};
use artifactapi_stores::postgres::Declared;
use serde_json::{Map, Value};

use crate::{
    ceilings::Ceilings,
    conditions::{Outcome, Reason},
    locals,
    memo::Memo,
    names::Vacated,
    picture::{Facts, Kept, Picture, ROOT},
    remotes, robots,
    secrets::Read,
    seen::{MAX_SPEC, Seen},
    sink::Row,
    virtuals,
    world::World,
};

/// What an object is judged by.
pub struct Context<'a> {
    /// All objects.
    pub world: &'a World,
    /// What is stored.
    pub picture: &'a Picture,
    /// How far namespaces may go.
    pub ceilings: &'a Ceilings,
    /// The URL clients use, if it is known.
    pub public_url: Option<&'a PublicUrl>,
    /// Secrets and ConfigMaps that were read for it.
    pub read: &'a Read,
    /// Repositories that Virtuals may have as members.
    pub known: &'a Repositories,
    /// Names whose objects went a moment ago.
    pub vacated: &'a Vacated,
    /// What was found sound before.
    pub memo: &'a Memo,
}

/// What is to happen with an object.
#[derive(Debug)]
pub enum Verdict {
    /// It is stored.
    Accept(Box<Accepted>),
    /// It is not. Its last good version stays, unless that must not stay either.
    Refuse {
        /// Why.
        outcome: Outcome,
        /// Whether its last good version goes too.
        withdraw: bool,
    },
    /// It is no more, or is being deleted.
    Gone,
}

/// An object that may be stored.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What is stored.
    pub row: Row,
    /// What others have to know of it.
    pub facts: Facts,
    /// The repository it is to stores; Robots are none, nor are Virtuals that merge no indexes.
    pub declared: Option<Declared>,
    /// The robot it is.
    pub robot: Option<Robot>,
    /// What its kind adds to the status.
    pub status: Map<String, Value>,
}

/// Judges one object. `batch` holds what was accepted before it in the same change.
pub fn validate(seen: &Seen, context: &Context<'_>, batch: &BTreeMap<ObjectRef, Facts>) -> Verdict {
    if seen.deleting.is_some() {
        return Verdict::Gone;
    }
    if let Some(outcome) = name_conflict(seen, context) {
        return Verdict::Refuse { outcome, withdraw: true };
    }
    // Whatever is wrong with it now, no last version goes on with more than is permitted.
    let refuse = |outcome: Outcome| Verdict::Refuse {
        outcome,
        withdraw: is_of_another(seen, context) || last_goes_too_far(seen, context, batch),
    };
    if seen.is_oversized {
        let message = format!("is larger than {} KiB, which nothing that makes sense is", MAX_SPEC >> 10);
        let outcome = Outcome::refused(&[FieldError::new("spec", "tooLarge", message)]);
        return refuse(outcome);
    }
    if let Some(outcome) = context.read.refusal(seen) {
        return refuse(outcome);
    }
    let manifest = seen.manifest.read();
    let facts = Facts::of(&seen.object, &manifest);
    let row = Row {
        object: seen.object.clone(),
        uid: seen.uid.clone(),
        generation: Some(seen.generation),
        document: document_of(seen).into(),
    };
    // Whether these are sound depends on nothing but themselves.
    let digest = (seen.kind != Kind::Virtual && facts.named.is_empty()).then(|| row.digest());
    let accepted = match digest.and_then(|digest| context.memo.get(&digest)) {
        // Another generation may say the same.
        Some(known) => Accepted { row, ..Accepted::clone(&known) },
        None => match sound(seen, row, manifest, facts.clone(), context) {
            Ok(accepted) => accepted,
            Err(errors) => return refuse(Outcome::refused(&errors)),
        },
    };
    let mut errors = context.ceilings.objections(&facts);
    if errors.is_empty() {
        errors = mirror_conflicts(seen, &facts, context, batch);
    }
    if errors.is_empty() {
        errors = foreign_grants(seen, &facts, context);
    }
    if let Some(digest) = digest {
        context.memo.insert(digest, Arc::new(accepted.clone()));
    }
    if errors.is_empty() { Verdict::Accept(Box::new(accepted)) } else { refuse(Outcome::refused(&errors)) }
}

/// What is stored of a manifest that is sound.
fn sound(
    seen: &Seen,
    row: Row,
    manifest: Value,
    mut facts: Facts,
    context: &Context<'_>,
) -> Result<Accepted, Vec<FieldError>> {
    let (manifest, valid) =
        object::check(seen.kind, manifest, None, context.known, context.read.references())?;
    // As it is after defaults.
    facts.repository = facts.repository.map(|_| Repository::of(seen.kind, &manifest));
    let mut accepted = Accepted { row, facts, declared: None, robot: None, status: Map::new() };
    match &valid {
        Valid::Remote(remote) => remotes::describe(remote, context.public_url, &mut accepted),
        Valid::Virtual(virt) => virtuals::describe(virt, context.public_url, &mut accepted),
        Valid::Local(local) => locals::describe(local, context.public_url, &mut accepted),
        Valid::Robot(robot) => robots::describe(robot, &mut accepted),
    }
    Ok(accepted)
}

/// What a Robot is granted by name that exists in another namespace and not in its own. Names that exist nowhere yet are
/// granted when they come, and a pattern with `*` never reaches beyond the namespace.
fn foreign_grants(seen: &Seen, facts: &Facts, context: &Context<'_>) -> Vec<FieldError> {
    let is_foreign = |name: &String| {
        let mut stored = context.picture.called(name).map(|(object, _)| object).peekable();
        let mut is_own = |object: &ObjectRef| object.namespace == seen.object.namespace;
        stored.peek().is_some()
            && !stored.any(&mut is_own)
            && context.world.owner_within(name, &seen.object.namespace).is_none()
    };
    let foreign = facts.granted.iter().filter(|(_, name)| is_foreign(name));
    let error = |(path, name): (&String, &String)| {
        let message = format!(
            "{name} is a repository of another namespace, and a Robot is granted only those of its own: make the Robot \
             in that namespace"
        );
        FieldError::new(path.clone(), "notPermitted", message)
    };
    foreign.map(error).collect()
}

/// What is stored: the manifest, with the identity by which a proxy tells that an object was made anew.
fn document_of(seen: &Seen) -> String {
    let mut document = seen.manifest.read();
    document["metadata"]["uid"] = seen.uid.clone().into();
    document.to_string()
}

/// Whether what is stored under its name is from an object that is no more.
fn is_of_another(seen: &Seen, context: &Context<'_>) -> bool {
    let stored = context.picture.row(&seen.object).and_then(|kept| kept.uid.as_deref());
    stored.is_some_and(|uid| uid != seen.uid)
}

/// Whether the last good version is beyond what is permitted by now, or in somebody's way.
fn last_goes_too_far(seen: &Seen, context: &Context<'_>, batch: &BTreeMap<ObjectRef, Facts>) -> bool {
    context.picture.row(&seen.object).is_some_and(|kept| {
        !context.ceilings.objections(&kept.facts).is_empty()
            || !mirror_conflicts(seen, &kept.facts, context, batch).is_empty()
    })
}

/// Names are one space for all kinds of repositories and all namespaces. Whoever is stored under one keeps it as long as
/// it is there, so that no restored backup and no adoption moves a name. One that is deleted and made again is younger
/// than who waits for its name, and has it all the same: its namespace keeps the name as long as an object there claims it,
/// and for a while when none does ([`Vacated`]). Otherwise the oldest object has it, and what people stored without
/// Kubernetes was there before.
fn name_conflict(seen: &Seen, context: &Context<'_>) -> Option<Outcome> {
    if !seen.kind.is_repository() {
        return None;
    }
    let name = &seen.object.name;
    let conflict = |text: String| Outcome {
        reason: Reason::NameConflict,
        message: format!(
            "metadata.name: the name {text}: names of repositories are one space for all kinds and namespaces, since \
             they stand in URLs; choose another"
        ),
    };
    let mut vacated = context.vacated.namespace(name);
    let mut holder = None;
    for (object, kept) in context.picture.called(name) {
        let live = context.world.get(object).filter(|live| live.deleting.is_none());
        let why = match &kept.uid {
            None => "which was stored without Kubernetes",
            Some(_) if !context.world.covers(&object.namespace) => "whose namespace is not watched any more",
            Some(uid) if live.is_some_and(|live| live.uid == *uid) => "which had it first",
            // Its object is gone, and so is it in a moment.
            Some(_) => {
                vacated = Some(&object.namespace);
                continue;
            }
        };
        holder = holder.or(Some((object, why)));
    }
    if holder.is_none()
        && let Some(namespace) = vacated
    {
        match context.world.owner_within(name, namespace) {
            Some(heir) => holder = Some((heir, "whose namespace had it first")),
            None => {
                let grace = context.vacated.grace().as_secs();
                return Some(conflict(format!(
                    "belonged to namespace {namespace:?} until now, which keeps it for {grace} s in case its object is \
                     made again"
                )));
            }
        }
    }
    let (owner, why) = holder.or_else(|| Some((context.world.owner(name)?, "which is older")))?;
    (*owner != seen.object).then(|| conflict(format!("belongs to {owner}, {why}")))
}

/// What it would mirror and another Remote mirrors already. Whoever answers for a host keeps it as long as it is there and
/// wants it, however old the others are: nobody takes a mirror over by an edit. Of those that want what nobody has, the
/// oldest is looked at first.
fn mirror_conflicts(
    seen: &Seen,
    facts: &Facts,
    context: &Context<'_>,
    batch: &BTreeMap<ObjectRef, Facts>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, mirrored) in facts.mirrors.iter().enumerate() {
        let holders =
            || context.picture.mirroring(mirrored).filter(|(object, kept)| holds(object, kept, context));
        let has_it = holders().any(|(object, _)| *object == seen.object);
        let stored = holders().map(|(object, _)| object).find(|object| **object != seen.object && !has_it);
        let mut accepted =
            batch.iter().filter(|(other, facts)| **other != seen.object && facts.mirrors.contains(mirrored));
        let Some(owner) = stored.or_else(|| accepted.next().map(|(object, _)| object)) else { continue };
        errors.push(if mirrored == ROOT {
            let message = format!("{owner} is the root mirror already, and there can be one");
            FieldError::new("spec.docker.rootMirror", "mirrorConflict", message)
        } else {
            let path = format!("spec.docker.mirrorFor[{index}]");
            FieldError::new(path, "mirrorConflict", format!("{owner} answers for {mirrored} already"))
        });
    }
    errors
}

/// Whether a stored object is still the one that is there.
fn holds(object: &ObjectRef, kept: &Kept, context: &Context<'_>) -> bool {
    match (&kept.uid, context.world.get(object)) {
        // Stored without Kubernetes.
        (None, _) => true,
        (Some(uid), Some(live)) => live.deleting.is_none() && live.uid == *uid,
        (Some(_), None) => false,
    }
}

/// Repositories as Virtuals see them: Remotes and Locals that are stored, and Virtuals that are there.
pub fn known(world: &World, picture: &Picture) -> Repositories {
    let mut known = Repositories::default();
    for (object, kept) in picture.rows() {
        if let Some(repository) = &kept.facts.repository {
            known.insert(&object.namespace, &object.name, repository.clone());
        }
    }
    for seen in world.objects().filter(|seen| seen.kind == Kind::Virtual && seen.deleting.is_none()) {
        if known.get(&seen.object.namespace, &seen.object.name).is_none() {
            let repository = Repository::of(seen.kind, &seen.manifest.read());
            known.insert(&seen.object.namespace, &seen.object.name, repository);
        }
    }
    known
}
