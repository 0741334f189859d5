//! The operator at work: one loop that takes up what the watches see and, while it leads, makes the sink agree.
//!
//! A reconcile is five steps: *dereference* ([`crate::secrets`]), *validate* ([`crate::validate`]), *plan*
//! ([`crate::plan`]), *apply* ([`crate::sink`]) and *update the status* ([`crate::status`]). All objects that wait at
//! one moment are reconciled together, in one transaction: every change of the configuration makes every proxy load it
//! again, so that thousands of objects applied at once must not become thousands of changes. That is why this is a loop
//! of its own and not one kube controller for each kind.
//!
//! It is driven by levels, not edges: everything is looked at when a leadership begins, and what the sink holds is
//! compared every few minutes with what it should.

mod beside;
#[cfg(test)]
mod handles;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use artifactapi_crds::{manifests::ObjectRef, object::named_by, schema::Kind, validate::Repositories};
use artifactapi_model::{PublicUrl, failpoint, ports::Accounts};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, runtime::events::Recorder};
use serde_json::Map;
use tokio::{
    sync::{mpsc::Receiver, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    besides::{Besides, touched},
    ceilings::Ceilings,
    conditions::{OURS, Outcome},
    events::{self, Notice},
    lease::Leadership,
    picture::{Facts, Picture},
    plan::{Plan, plan},
    purge::{self, Ended, PATIENCE, Purges},
    secrets::Read,
    seen::Seen,
    sink::{Delta, Sink, SinkError, Written},
    status::{Letter, MANAGER, Outbox, Sent},
    upstreams::source::Source,
    validate::{Context, Verdict, known, validate},
    watches::Progress,
    world::{Change, World},
};

/// Most objects in one transaction.
const BATCH: usize = 500;
/// How often what is stored is compared with what should be.
const SYNC: Duration = Duration::from_secs(300);
/// First pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(20);
/// Finalizers set at the same time.
const AT_ONCE: usize = 16;
/// Most events under way.
const MAX_CHORES: usize = 256;
/// Failures in a row after which objects say that the sink is away.
const TRIES: u32 = 3;
/// Longest time to finish what is under way at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// What an operator works with.
pub struct Parts {
    /// The Kubernetes API.
    pub client: Client,
    /// Where accepted objects go.
    pub sink: Arc<dyn Sink>,
    /// Who tells how upstreams are.
    pub source: Option<Arc<dyn Source>>,
    /// Who keeps the tokens of robots.
    pub accounts: Option<Arc<dyn Accounts>>,
    /// How far namespaces may go.
    pub ceilings: Ceilings,
    /// The URL clients use, if it is known.
    pub public_url: Option<PublicUrl>,
    /// What the watches see.
    pub changes: Receiver<Change>,
    /// Which watches have seen everything.
    pub progress: Progress,
    /// Whether this operator leads.
    pub leader: watch::Receiver<Option<Leadership>>,
    /// Where the height of the fence is told.
    pub floor: watch::Sender<i64>,
}

/// The operator.
pub struct Operator {
    client: Client,
    sink: Arc<dyn Sink>,
    ceilings: Ceilings,
    public_url: Option<PublicUrl>,
    changes: Receiver<Change>,
    progress: Progress,
    leader: watch::Receiver<Option<Leadership>>,
    floor: watch::Sender<i64>,
    world: World,
    term: Option<Term>,
    outbox: Outbox,
    besides: Besides,
    purges: Purges,
    recorder: Recorder,
    chores: FuturesUnordered<BoxFuture<'static, ()>>,
    failures: u32,
    /// No attempt before.
    not_before: Option<Instant>,
    /// Objects that are looked at again later, with how often they failed.
    delayed: BTreeMap<ObjectRef, (Instant, u32)>,
}

/// What lasts as long as a leadership.
struct Term {
    epoch: i64,
    picture: Picture,
    next_sync: Instant,
}

/// Why a pass ended early.
#[derive(Debug)]
enum Stop {
    /// This operator leads no more.
    Deposed(i64),
    /// The sink is away.
    Failed(SinkError),
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Self {
        Stop::Failed(error)
    }
}

impl Operator {
    /// Puts one together; `world` knows the namespaces.
    pub fn new(parts: Parts, world: World) -> Self {
        let Parts { client, sink, source, accounts, ceilings, public_url, changes, progress, leader, floor } =
            parts;
        let (outbox, recorder) = (Outbox::new(client.clone(), MANAGER), events::recorder(&client));
        let besides = Besides::new(&client, source, accounts, public_url.as_ref());
        let purges = Purges::new(sink.clone());
        Operator {
            client,
            sink,
            ceilings,
            public_url,
            changes,
            progress,
            leader,
            floor,
            world,
            term: None,
            outbox,
            besides,
            purges,
            recorder,
            chores: FuturesUnordered::new(),
            failures: 0,
            not_before: None,
            delayed: BTreeMap::new(),
        }
    }

    /// Works until `stop`, and finishes what it has begun.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.work().await;
            let due = self.due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                change = self.changes.recv() => match change {
                    Some(change) => self.take(change),
                    None => break,
                },
                _ = self.leader.changed() => {}
                sent = self.outbox.next() => self.note(sent),
                event = self.besides.next() => self.beside(event),
                ended = self.purges.next() => self.let_go(ended),
                Some(()) = self.chores.next() => {}
                () = sleep_until(due) => {}
            }
        }
        let finish = async {
            while !self.outbox.is_empty() {
                let sent = self.outbox.next().await;
                self.note(sent);
            }
            while self.chores.next().await.is_some() {}
        };
        if tokio::time::timeout(FAREWELL, finish).await.is_err() {
            tracing::warn!("some statuses were not written; the next leader does it");
        }
    }

    /// Takes up a change and all that wait behind it.
    pub(crate) fn take(&mut self, change: Change) {
        let mut next = Some(change);
        while let Some(change) = next {
            self.besides.see(&change);
            self.world.take(change);
            next = self.changes.try_recv().ok();
        }
    }

    fn note(&mut self, sent: Sent) {
        let Sent::Written(Letter { object, uid, status }) = sent else { return };
        let before = self.world.get(&object).filter(|seen| seen.uid == uid).map(|seen| &seen.status);
        if let Some(notice) = before.and_then(|before| events::transition(&object, &uid, before, &status)) {
            self.tell(notice);
        }
        self.world.note_status(&object, &uid, &status, &OURS);
    }

    /// Publishes an event, unless too many are under way already: they are no record.
    fn tell(&mut self, notice: Notice) {
        if self.chores.len() < MAX_CHORES {
            self.chores.push(events::tell(self.recorder.clone(), notice).boxed());
        }
    }

    /// A purge has ended: its object may go.
    fn let_go(&mut self, ended: Ended) {
        let Ended { object, uid, failure } = ended;
        if let Some(error) = failure {
            let note = format!(
                "what it has left could not be deleted: {error}; `artifactapi purge {}` does it later",
                object.name
            );
            tracing::error!(object = %object, note, "a purge is given up");
            let reason = "PurgeIncomplete".to_owned();
            self.tell(Notice { object: object.clone(), uid: uid.clone(), is_warning: true, reason, note });
        }
        self.release(object, uid);
    }

    /// Takes our finalizer from an object; should that fail, the next look at everything does it again.
    fn release(&mut self, object: ObjectRef, uid: String) {
        let client = self.client.clone();
        let release = async move {
            if let Err(failure) = purge::hold(&client, &object, &uid, false).await {
                tracing::warn!(object = %object, error = %failure, "a finalizer could not be taken away");
            }
        };
        self.chores.push(release.boxed());
    }

    /// Lets objects go whose row cannot be deleted since the sink is away for long: it goes when the sink is back.
    fn release_overdue(&mut self, error: &SinkError) {
        let before = Timestamp::now().as_second() - PATIENCE.as_secs().cast_signed();
        let overdue: Vec<Ended> = self
            .world
            .objects()
            .filter(|seen| seen.is_held && seen.deleting.is_some_and(|since| since < before))
            .map(|seen| Ended {
                object: seen.object.clone(),
                uid: seen.uid.clone(),
                failure: Some(error.to_string()),
            })
            .collect();
        overdue.into_iter().for_each(|ended| self.let_go(ended));
    }

    /// When there is something to do although nothing happens.
    fn due(&self) -> Instant {
        let delayed = self.delayed.values().map(|(at, _)| *at);
        let sync = self.term.iter().map(|term| term.next_sync);
        let besides = self.term.as_ref().and(self.besides.due());
        let retry = self.not_before;
        let idle = Instant::now() + SYNC;
        let blocked = self.not_before.unwrap_or_else(Instant::now);
        delayed.chain(sync).chain(retry).chain(besides).map(|at| at.max(blocked)).min().unwrap_or(idle)
    }

    /// Does what can be done now.
    pub(crate) async fn work(&mut self) {
        let leadership = *self.leader.borrow_and_update();
        let Some(leadership) = leadership.filter(Leadership::holds) else {
            self.resign();
            return;
        };
        if self.not_before.is_some_and(|at| Instant::now() < at) || !self.progress.missing().is_empty() {
            return;
        }
        self.not_before = None;
        match self.lead(leadership.epoch).await {
            Ok(()) => self.failures = 0,
            Err(Stop::Deposed(epoch)) => {
                tracing::warn!(lease.epoch = epoch, "a later leader has written; this one stops");
                self.resign();
                self.floor.send_if_modified(|floor| {
                    let is_higher = epoch > *floor;
                    *floor = epoch.max(*floor);
                    is_higher
                });
                self.not_before = Some(Instant::now() + PAUSE);
            }
            Err(Stop::Failed(error)) => self.fail(&error),
        }
    }

    fn resign(&mut self) {
        if self.term.take().is_some() {
            self.outbox.clear();
            self.besides.clear();
            self.purges.clear();
        }
    }

    fn fail(&mut self, error: &SinkError) {
        self.failures += 1;
        let doublings = self.failures.saturating_sub(1).min(8);
        let pause = (PAUSE * 2_u32.pow(doublings)).min(MAX_PAUSE);
        self.not_before = Some(Instant::now() + pause);
        if self.failures == 1 {
            tracing::error!(error = %error, "objects cannot be handed on, and are tried again");
        }
        self.release_overdue(error);
    }

    /// Begins a term where there is none, compares when it is time, and reconciles what waits.
    async fn lead(&mut self, epoch: i64) -> Result<(), Stop> {
        if self.term.as_ref().is_none_or(|term| term.epoch != epoch) {
            self.resign();
            let fence = self.sink.raise(epoch).await?;
            if fence > epoch {
                return Err(Stop::Deposed(fence));
            }
            failpoint("operator.fence.after");
            self.term = Some(Term { epoch, picture: Picture::default(), next_sync: Instant::now() });
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
        loop {
            let batch = self.world.next(BATCH);
            if batch.is_empty() {
                if let Some(term) = &self.term {
                    self.besides.look(&self.world, |object| term.picture.row(object).is_some()).await;
                }
                return Ok(());
            }
            self.reconcile(batch).await?;
            // What happens meanwhile belongs to the next batch.
            if let Ok(change) = self.changes.try_recv() {
                self.take(change);
            }
            if !self.leader.borrow().is_some_and(|leadership| leadership.holds()) {
                return Ok(());
            }
        }
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
                    && crate::seen::custom_kind(object.kind).is_some()
                    && self.world.get(object).is_none()
            })
            .map(|(object, _)| object.clone())
            .collect();
        // Whose finalizer could not be set or taken away before.
        let held = self.world.objects().filter(|seen| {
            matches!(seen.kind, Kind::Remote | Kind::Local)
                && seen.is_held != (seen.purges() && seen.deleting.is_none())
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
            term.next_sync = Instant::now() + SYNC;
        }
        Ok(())
    }

    /// Reconciles a batch; on failure all of it waits again.
    async fn reconcile(&mut self, batch: Vec<ObjectRef>) -> Result<(), Stop> {
        let named: BTreeSet<ObjectRef> = batch
            .iter()
            .filter_map(|object| self.world.get(object))
            .filter(|seen| seen.kind == Kind::Remote && seen.deleting.is_none())
            .flat_map(|seen| named_by(&seen.manifest))
            .collect();
        let read = Read::all(&self.client, named).await;
        failpoint("operator.dereference.after");
        for (named, version) in read.versions() {
            self.world.note_read(named, version.clone());
        }
        self.hold(&batch).await;
        let verdicts = self.judge(&batch, &read);
        let result = self.settle(&verdicts, &read).await;
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

    /// Puts the finalizer on objects whose end is to be the end of their bytes, before they are stored; and takes it from
    /// those that have changed their mind.
    async fn hold(&mut self, batch: &[ObjectRef]) {
        let seen = batch.iter().filter_map(|object| self.world.get(object));
        let has_bytes =
            |seen: &&Seen| matches!(seen.kind, Kind::Remote | Kind::Local) && seen.deleting.is_none();
        let changes: Vec<(ObjectRef, String, bool)> = seen
            .filter(has_bytes)
            .filter(|seen| seen.purges() != seen.is_held)
            .map(|seen| (seen.object.clone(), seen.uid.clone(), seen.purges()))
            .collect();
        let client = self.client.clone();
        let holds = changes.into_iter().map(|(object, uid, is_held)| {
            let client = client.clone();
            async move { (purge::hold(&client, &object, &uid, is_held).await, object) }
        });
        let mut holds = stream::iter(holds).buffer_unordered(AT_ONCE);
        while let Some((result, object)) = holds.next().await {
            if let Err(failure) = result {
                tracing::warn!(
                    object = %object, error = %failure, "its finalizer could not be set: its end may leave bytes behind"
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
        };
        let mut verdicts = BTreeMap::new();
        let mut accepted: BTreeMap<ObjectRef, Facts> = BTreeMap::new();
        let mut later = Vec::new();
        for object in batch {
            let verdict = match self.world.get(object) {
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
            verdicts.insert(object.clone(), verdict);
        }
        for (object, error) in later {
            let failures = self.delayed.get(&object).map_or(0, |(_, failures)| *failures);
            let pause = (PAUSE * 2_u32.pow(failures.min(8))).min(MAX_PAUSE);
            tracing::warn!(object = %object, error, "what it names could not be read, and is tried again");
            self.delayed.insert(object, (Instant::now() + pause, failures + 1));
        }
        verdicts
    }

    /// Plans and applies, and reports what became of each object.
    async fn settle(&mut self, verdicts: &BTreeMap<ObjectRef, Verdict>, read: &Read) -> Result<(), Stop> {
        let Some(term) = &self.term else { return Ok(()) };
        let Plan { delta, facts, moved } = plan(verdicts, &term.picture, read);
        if !delta.is_empty() {
            failpoint("operator.apply.before");
            self.write(&delta, &facts).await?;
            failpoint("operator.apply.after");
        }
        moved.iter().for_each(|object| self.world.touch_neighbours(object));
        let Some(term) = &self.term else { return Ok(()) };
        let (written, config) = (delta.upserts.iter().map(|row| &row.object), term.picture.version);
        let new = touched(written, |object| term.picture.users(object).cloned().collect());
        for (object, verdict) in verdicts {
            let (outcome, more) = match verdict {
                Verdict::Accept(accepted) => {
                    let is_new = new.contains(object);
                    let Some(seen) = self.world.get(object) else { continue };
                    if self.besides.stored(seen, is_new, config) {
                        continue;
                    }
                    (Outcome::stored(), accepted.status.clone())
                }
                Verdict::Refuse { outcome, withdraw: _ } => {
                    self.besides.refused(object);
                    (outcome.clone(), Map::new())
                }
                Verdict::Gone => {
                    self.besides.forget(object);
                    if let Some(seen) = self.world.get(object).filter(|seen| seen.is_held) {
                        self.purges.begin(seen);
                    }
                    continue;
                }
            };
            self.report(object, &outcome, more);
        }
        Ok(())
    }

    /// Makes a change, and follows it.
    async fn write(&mut self, delta: &Delta, facts: &BTreeMap<ObjectRef, Facts>) -> Result<(), Stop> {
        let Some(term) = &mut self.term else { return Ok(()) };
        match self.sink.write(term.epoch, term.picture.version, delta).await? {
            Written::Version(version) => {
                term.picture.follow(version, delta, facts);
                Ok(())
            }
            Written::Outdated(_) => {
                // Somebody else has changed it: what was planned is planned anew.
                term.next_sync = Instant::now();
                Err(Stop::Failed(SinkError::Unavailable(
                    "somebody else has changed the configuration".into(),
                )))
            }
            Written::Fenced(epoch) => Err(Stop::Deposed(epoch)),
        }
    }
}
