//! A pass: everything that waits is reconciled, and what is stored compared with what should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use artifactapi_crds::{manifests::ObjectRef, object::named_by, schema::Kind, validate::Repositories};
use artifactapi_model::failpoint;
use futures_util::{StreamExt as _, stream};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{MAX_PAUSE, Operator, PAUSE, SYNC, Stop, Term};
use crate::{
    behind,
    besides::touched,
    conditions::{Outcome, Reason},
    picture::{Facts, Picture},
    plan::{Plan, plan},
    purge,
    secrets::Read,
    seen::{Seen, custom_kind},
    sink::{Delta, SinkError, Written},
    validate::{Context, Verdict, known, validate},
};

/// Most objects in one transaction.
const BATCH: usize = 500;
/// Finalizers set at the same time.
const AT_ONCE: usize = 16;
/// How soon an object is looked at again that names what the operator may not read.
const FORBIDDEN: Duration = Duration::from_secs(60);
/// Objects of one batch that a sink refuses before it is taken to refuse everything.
const MAX_REFUSED: usize = 16;
/// Failures in a row after which objects say that the sink is away.
const TRIES: u32 = 3;

impl Operator {
    /// Begins a term where there is none, compares when it is time, and reconciles what waits.
    pub(super) async fn lead(&mut self, epoch: i64) -> Result<(), Stop> {
        if self.term.as_ref().is_none_or(|term| term.epoch != epoch) {
            self.resign();
            let fence = self.sink.raise(epoch).await?;
            if fence > epoch {
                return Err(Stop::Deposed(fence));
            }
            failpoint("operator.fence.after");
            let picture = Picture::default();
            self.term = Some(Term { epoch, picture, next_sync: Instant::now(), is_complete: false });
            self.world.touch_all();
            self.besides.begin();
            self.delayed.clear();
        }
        let now = Instant::now();
        if self.term.as_ref().is_some_and(|term| now >= term.next_sync) {
            self.sync().await?;
        }
        let due: Vec<ObjectRef> =
            self.delayed.iter().filter(|(_, (at, _))| now >= *at).map(|(object, _)| object.clone()).collect();
        for object in due {
            self.world.touch(&object);
            if let Some(delay) = self.delayed.get_mut(&object) {
                // Not again before it was looked at.
                delay.0 = now + SYNC;
            }
        }
        // One batch at a time: whatever else is due has its turn in between, however busy somebody keeps this.
        let batch = self.world.next(BATCH);
        if batch.is_empty() {
            if let Some(term) = &mut self.term {
                if !term.is_complete {
                    self.sink.complete().await?;
                    term.is_complete = true;
                }
                self.besides.look(&self.world, |object| term.picture.row(object).is_some()).await;
            }
            return Ok(());
        }
        let batch = self.in_time(batch);
        let begun = Instant::now();
        self.reconcile(batch).await?;
        self.metrics.passed(begun.elapsed());
        Ok(())
    }

    /// Those of a batch that may be looked at now; the others are delayed.
    fn in_time(&mut self, batch: Vec<ObjectRef>) -> Vec<ObjectRef> {
        let (pace, delayed) = (&mut self.pace, &mut self.delayed);
        let is_due = |object: &ObjectRef| match pace.look(object) {
            None => true,
            Some(at) => {
                delayed.insert(object.clone(), (at, 0));
                false
            }
        };
        batch.into_iter().filter(is_due).collect()
    }

    /// Loads what is stored, and has everything looked at again that is not as it was left.
    async fn sync(&mut self) -> Result<(), Stop> {
        let contents = self.sink.load().await?;
        let picture = Picture::of(contents);
        let Some(term) = &mut self.term else { return Ok(()) };
        for object in term.picture.differences(&picture) {
            self.world.touch(&object);
            picture.users(&object).for_each(|user| self.world.touch(user));
        }
        term.picture = picture;
        // Stored for objects that went while nobody watched.
        let orphans: Vec<ObjectRef> = term
            .picture
            .rows()
            .filter(|(object, kept)| {
                kept.uid.is_some()
                    && self.world.covers(&object.namespace)
                    && custom_kind(object.kind).is_some()
                    && self.world.get(object).is_none()
            })
            .map(|(object, _)| object.clone())
            .collect();
        // Whose finalizer could not be set or taken away before.
        let held = self.world.objects().filter(|seen| {
            matches!(seen.kind, Kind::Remote | Kind::Local)
                && seen.is_held() != (seen.purges && seen.deleting.is_none())
                && !self.purges.has(&seen.object)
        });
        let again: Vec<ObjectRef> = held.map(|seen| seen.object.clone()).chain(orphans).collect();
        again.iter().for_each(|object| self.world.touch(object));
        let delta = Delta {
            retire: term.picture.strays(),
            robots_gone: term.picture.stray_robots(),
            deletes: term.picture.unused(),
            ..Delta::default()
        };
        if !delta.is_empty() {
            self.write(&delta, &BTreeMap::new()).await?;
        }
        if let Some(term) = &mut self.term {
            term.next_sync = Instant::now() + self.sync_every;
        }
        self.pace.tidy();
        Ok(())
    }

    /// Reconciles a batch; on failure all of it waits again.
    async fn reconcile(&mut self, batch: Vec<ObjectRef>) -> Result<(), Stop> {
        let batch = self.believed(batch).await;
        let named: BTreeSet<ObjectRef> = batch
            .iter()
            .filter_map(|object| self.world.get(object))
            .filter(|seen| seen.kind == Kind::Remote && seen.deleting.is_none())
            .flat_map(|seen| named_by(&seen.manifest.read()))
            .collect();
        let read = Read::all(&self.client, named).await;
        failpoint("operator.dereference.after");
        for (named, version) in read.versions() {
            self.world.note_read(named, version.clone());
        }
        self.hold(&batch).await;
        let verdicts = self.judge(&batch, &read);
        let result = self.settle_all(verdicts, &read).await;
        if let Err(stop) = &result {
            batch.iter().for_each(|object| self.world.touch(object));
            if let Stop::Failed(error) = stop
                && self.failures + 1 >= TRIES
            {
                self.report_failure(&batch, error);
            }
        }
        result
    }

    /// Those of a batch that are what the cluster has, and not what it had before something that is stored; the others
    /// are delayed.
    async fn believed(&mut self, mut batch: Vec<ObjectRef>) -> Vec<ObjectRef> {
        let Some(term) = &self.term else { return batch };
        let seen = batch.iter().filter_map(|object| self.world.get(object));
        let older = seen.filter(|seen| seen.deleting.is_none() && term.picture.is_ahead_of(seen));
        let older: Vec<Seen> = older.cloned().collect();
        let doubtful = behind::doubtful(&self.client, older).await;
        batch.retain(|object| !doubtful.contains_key(object));
        for (object, error) in doubtful {
            tracing::warn!(object = %object, error, "an earlier generation than the one stored is not believed yet");
            self.put_off(object);
        }
        batch
    }

    /// Has an object looked at again after a pause, which doubles.
    fn put_off(&mut self, object: ObjectRef) {
        let failures = self.delayed.get(&object).map_or(0, |(_, failures)| *failures);
        let pause = (PAUSE * 2_u32.pow(failures.min(8))).min(MAX_PAUSE);
        self.delayed.insert(object, (Instant::now() + pause, failures + 1));
    }

    /// Puts the finalizer on objects whose end is to be the end of their bytes, before they are stored; and takes it from
    /// those that have changed their mind.
    async fn hold(&mut self, batch: &[ObjectRef]) {
        let seen = batch.iter().filter_map(|object| self.world.get(object));
        let has_bytes =
            |seen: &&Seen| matches!(seen.kind, Kind::Remote | Kind::Local) && seen.deleting.is_none();
        let changes: Vec<(ObjectRef, String, bool, Vec<String>)> = seen
            .filter(has_bytes)
            .filter(|seen| seen.purges != seen.is_held())
            .map(|seen| (seen.object.clone(), seen.uid.clone(), seen.purges, seen.finalizers.clone()))
            .collect();
        let client = self.client.clone();
        let holds = changes.into_iter().map(|(object, uid, purges, finalizers)| {
            let client = client.clone();
            async move {
                let result = match purges {
                    true => purge::hold(&client, &object, &uid).await,
                    false => purge::release(&client, &object, &uid, &finalizers).await,
                };
                (result, object)
            }
        });
        let mut holds = stream::iter(holds).buffer_unordered(AT_ONCE);
        while let Some((result, object)) = holds.next().await {
            if let Err(failure) = result {
                tracing::warn!(
                    object = %object, error = %failure,
                    "its finalizer could not be set or taken away: until it is, its end leaves bytes behind or waits"
                );
            }
        }
    }

    /// Validates; what could not be read for it is left for later.
    fn judge(&mut self, batch: &[ObjectRef], read: &Read) -> BTreeMap<ObjectRef, Verdict> {
        let Some(term) = &self.term else { return BTreeMap::new() };
        let has_virtuals = batch.iter().any(|object| object.kind == Kind::Virtual.as_str());
        let known = if has_virtuals { known(&self.world, &term.picture) } else { Repositories::default() };
        let context = Context {
            world: &self.world,
            picture: &term.picture,
            ceilings: &self.ceilings,
            public_url: self.public_url.as_ref(),
            read,
            known: &known,
            vacated: &self.vacated,
            memo: &self.memo,
        };
        let mut verdicts = BTreeMap::new();
        let mut accepted: BTreeMap<ObjectRef, Facts> = BTreeMap::new();
        let mut later = Vec::new();
        for object in batch {
            let verdict = match self.world.get(object) {
                // Nobody knows what is there.
                None if !self.world.covers(&object.namespace) => continue,
                None => Verdict::Gone,
                Some(seen) => match read.failure(seen) {
                    Some(error) if seen.deleting.is_none() => {
                        later.push((object.clone(), error.to_owned()));
                        continue;
                    }
                    _ => validate(seen, &context, &accepted),
                },
            };
            if let Verdict::Accept(one) = &verdict {
                accepted.insert(object.clone(), one.facts.clone());
            }
            self.delayed.remove(object);
            if self.world.get(object).is_some_and(|seen| read.refusal(seen).is_some()) {
                // Nothing tells when a role is given.
                self.delayed.insert(object.clone(), (Instant::now() + FORBIDDEN, 0));
            }
            if let Verdict::Refuse { outcome: Outcome { reason: Reason::NameConflict, .. }, .. } = &verdict
                && let Some(until) = self.vacated.until(&object.name)
            {
                self.delayed.insert(object.clone(), (until, 0));
            }
            verdicts.insert(object.clone(), verdict);
        }
        for (object, error) in later {
            tracing::warn!(object = %object, error, "what it names could not be read, and is tried again");
            self.put_off(object);
        }
        verdicts
    }

    /// Settles a batch. What the sink refuses is divided until it is known which objects it refuses: the others are stored.
    async fn settle_all(&mut self, verdicts: BTreeMap<ObjectRef, Verdict>, read: &Read) -> Result<(), Stop> {
        let (mut parts, mut refused) = (vec![verdicts], 0);
        while let Some(mut part) = parts.pop() {
            let error = match self.settle(&part, read).await {
                Err(Stop::Failed(error @ SinkError::Refused(_))) => error,
                done => {
                    done?;
                    continue;
                }
            };
            if let Some(middle) = part.keys().nth(part.len() / 2).filter(|_| part.len() > 1).cloned() {
                let second = part.split_off(&middle);
                parts.extend([second, part]);
                continue;
            }
            refused += 1;
            if refused > MAX_REFUSED {
                // It is not about these objects.
                return Err(Stop::Failed(error));
            }
            self.refused_by_sink(part.into_keys().collect(), &error);
        }
        Ok(())
    }

    /// The sink refuses just these: they are told so, and tried again with the next look at everything.
    fn refused_by_sink(&mut self, objects: Vec<ObjectRef>, error: &SinkError) {
        for object in &objects {
            tracing::error!(object = %object, error = %error, "the sink refuses it");
            self.metrics.refused(Reason::StoreRefused);
            self.delayed.insert(object.clone(), (Instant::now() + self.sync_every, 0));
        }
        self.report_failure(&objects, error);
    }

    /// Plans and applies, and reports what became of each object.
    async fn settle(&mut self, verdicts: &BTreeMap<ObjectRef, Verdict>, read: &Read) -> Result<(), Stop> {
        let Some(term) = &self.term else { return Ok(()) };
        let Plan { delta, facts, moved } = plan(verdicts, &term.picture, read);
        let conflicts = |object: &&ObjectRef| matches!(verdicts.get(object), Some(Verdict::Refuse { outcome, .. }) if outcome.reason == Reason::NameConflict);
        let is_name = |object: &&ObjectRef| custom_kind(object.kind).is_some_and(Kind::is_repository);
        let vacated: Vec<&ObjectRef> =
            delta.deletes.iter().filter(is_name).filter(|object| !conflicts(object)).collect();
        if !delta.is_empty() {
            failpoint("operator.apply.before");
            self.write(&delta, &facts).await?;
            failpoint("operator.apply.after");
        }
        vacated.into_iter().for_each(|object| self.vacated.note(&object.name, &object.namespace));
        moved.iter().for_each(|object| self.world.touch_neighbours(object));
        let Some(term) = &self.term else { return Ok(()) };
        let (written, config) = (delta.upserts.iter().map(|row| &row.object), term.picture.version);
        let new = touched(written, |object| term.picture.users(object).cloned().collect());
        for (object, verdict) in verdicts {
            self.metrics.reconciled(object.kind);
            let (outcome, more) = match verdict {
                Verdict::Accept(accepted) => {
                    let is_new = new.contains(object);
                    let Some(seen) = self.world.get(object) else { continue };
                    if self.besides.stored(seen, is_new, config) {
                        continue;
                    }
                    let outcome = self.besides.missing(seen).unwrap_or_else(|| Outcome::stored(seen.kind));
                    (outcome, accepted.status.clone())
                }
                Verdict::Refuse { outcome, withdraw: _ } => {
                    self.metrics.refused(outcome.reason);
                    self.besides.refused(object);
                    (outcome.clone(), self.still_served(object))
                }
                Verdict::Gone => {
                    self.besides.forget(object);
                    match self.world.get(object).filter(|seen| seen.is_held()) {
                        Some(seen) if seen.purges => self.purges.begin(seen),
                        // It wants its bytes kept, and was deleted before the finalizer could be taken away, or is
                        // kept from its end while there is time.
                        Some(seen) => {
                            self.purges.forget(object);
                            self.release(object.clone(), seen.uid.clone());
                        }
                        None => {}
                    }
                    continue;
                }
            };
            self.report(object, &outcome, more);
        }
        Ok(())
    }

    /// What the status says of where a last good version is served, which goes on.
    pub(super) fn still_served(&self, object: &ObjectRef) -> Map<String, Value> {
        let Some(seen) = self.world.get(object) else { return Map::new() };
        let stored = self.term.as_ref().and_then(|term| term.picture.row(object));
        if stored.and_then(|kept| kept.uid.as_ref()) != Some(&seen.uid) {
            return Map::new();
        }
        let (fields, status) = (["url", "effective"].into_iter(), seen.status.read());
        let kept = fields.filter_map(|name| Some((name.to_owned(), status.get(name)?.clone())));
        kept.filter(|(_, value)| !value.is_null()).collect()
    }

    /// Makes a change, and follows it.
    async fn write(&mut self, delta: &Delta, facts: &BTreeMap<ObjectRef, Facts>) -> Result<(), Stop> {
        let Some(term) = &mut self.term else { return Ok(()) };
        match self.sink.write(term.epoch, term.picture.version, delta).await? {
            Written::Version(version) => {
                term.picture.follow(version, delta, facts);
                self.metrics.wrote_change(1);
                Ok(())
            }
            Written::Outdated(_) => {
                // Somebody else has changed it: what was planned is planned anew.
                term.next_sync = Instant::now();
                Err(Stop::Outdated)
            }
            Written::Fenced(epoch) => Err(Stop::Deposed(epoch)),
        }
    }
}
