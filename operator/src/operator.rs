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
mod pass;
mod report;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{PublicUrl, ports::Accounts};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, runtime::events::Recorder};
use tokio::{
    sync::{mpsc::Receiver, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    besides::Besides,
    ceilings::Ceilings,
    conditions::OURS,
    events::{self, Notice},
    lease::Leadership,
    memo::Memo,
    metrics::Metrics,
    names::Vacated,
    pace::Pace,
    picture::Picture,
    purge::{self, Ended, PATIENCE, Purges},
    sink::{Sink, SinkError},
    status::{Letter, MANAGER, Outbox, Sent},
    upstreams::source::Source,
    watches::Progress,
    world::{Change, World},
};

/// How often what is stored is compared with what should be, unless [`Operator::comparing_every`] says otherwise.
const SYNC: Duration = Duration::from_secs(300);
/// First pause after a failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause before a change is planned anew since another came first.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(20);
/// Most events under way.
const MAX_CHORES: usize = 256;
/// How long all namespaces are waited for; then it goes on without those that cannot be listed.
const LISTED_WITHIN: Duration = Duration::from_secs(60);
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
    /// Whether this operator leads.
    pub leader: watch::Receiver<Option<Leadership>>,
    /// Where the height of the fence is told.
    pub floor: watch::Sender<i64>,
    /// Where it is counted what happens.
    pub metrics: Arc<Metrics>,
    /// How far the watches are.
    pub progress: Progress,
    /// How long a namespace keeps the name of an object that is deleted.
    pub name_grace: Duration,
}

/// The operator.
pub struct Operator {
    client: Client,
    sink: Arc<dyn Sink>,
    ceilings: Ceilings,
    public_url: Option<PublicUrl>,
    changes: Receiver<Change>,
    leader: watch::Receiver<Option<Leadership>>,
    floor: watch::Sender<i64>,
    metrics: Arc<Metrics>,
    progress: Progress,
    sync_every: Duration,
    /// When it goes on without the namespaces that do not answer.
    patient_until: Instant,
    vacated: Vacated,
    memo: Memo,
    pace: Pace,
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
    /// Whether the sink was told that everything is there.
    is_complete: bool,
}

/// Why a pass ended early.
#[derive(Debug)]
enum Stop {
    /// This operator leads no more.
    Deposed(i64),
    /// The sink is away.
    Failed(SinkError),
    /// Somebody else has changed what is stored: what was planned is planned anew.
    Outdated,
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Self {
        Stop::Failed(error)
    }
}

impl Operator {
    /// Puts one together; `world` knows the namespaces.
    pub fn new(parts: Parts, world: World) -> Self {
        let Parts {
            client,
            sink,
            source,
            accounts,
            ceilings,
            public_url,
            changes,
            leader,
            floor,
            metrics,
            progress,
            name_grace,
        } = parts;
        let (outbox, recorder) = (Outbox::new(client.clone(), MANAGER), events::recorder(&client));
        let besides = Besides::new(&client, source, accounts, public_url.as_ref());
        let purges = Purges::new(sink.clone());
        Operator {
            client,
            sink,
            ceilings,
            public_url,
            changes,
            leader,
            floor,
            metrics,
            progress,
            patient_until: Instant::now() + LISTED_WITHIN,
            vacated: Vacated::new(name_grace),
            memo: Memo::default(),
            pace: Pace::default(),
            sync_every: SYNC,
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

    /// Compares what is stored with what should be every `period`.
    #[must_use]
    pub fn comparing_every(mut self, period: Duration) -> Self {
        self.sync_every = period;
        self
    }

    /// Works until `stop`, and finishes what it has begun.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.work().await;
            self.metrics.waiting.set(self.world.waiting().try_into().unwrap_or(i64::MAX));
            let letters = self.outbox.len() + self.besides.letters.len();
            self.metrics.statuses.set(letters.try_into().unwrap_or(i64::MAX));
            self.metrics.leader.set(i64::from(self.term.is_some()));
            let due = self.due();
            tokio::select! {
                () = stop.cancelled() => break,
                change = self.changes.recv() => match change {
                    Some(change) => self.take(change),
                    None => {
                        tracing::error!("every watch has ended, and with them this operator");
                        break;
                    }
                },
                Ok(()) = self.leader.changed() => {}
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
        if self.world.is_wider()
            && let Some(term) = &mut self.term
        {
            // What is stored for objects that went has to go in a namespace that is seen by now.
            term.next_sync = Instant::now();
        }
    }

    fn note(&mut self, sent: Sent) {
        let Sent::Written(Letter { object, uid, status, before }) = sent else { return };
        let (before, status) = (before.read(), status.read());
        let notice = events::transition(&object, &uid, events::READY, &before, &status);
        notice.into_iter().for_each(|notice| self.tell(notice));
        self.metrics.wrote_status(1);
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
            let later = match object.kind {
                "Local" => format!("`artifactapi purge {} --yes` does it later", object.name),
                _ => "the collector does it in time".to_owned(),
            };
            let note = format!("what it has left could not be deleted: {error}; {later}");
            tracing::error!(object = %object, note, "a purge is given up");
            let reason = "PurgeIncomplete".to_owned();
            self.tell(Notice { object: object.clone(), uid: uid.clone(), is_warning: true, reason, note });
        }
        self.release(object, uid);
    }

    /// Takes our finalizer from an object; should that fail, it is done again when the object is seen with other
    /// finalizers, and at the latest with the next look at everything.
    fn release(&mut self, object: ObjectRef, uid: String) {
        let Some(seen) = self.world.get(&object).filter(|seen| seen.uid == uid) else { return };
        let (client, finalizers) = (self.client.clone(), seen.finalizers.clone());
        let release = async move {
            if let Err(failure) = purge::release(&client, &object, &uid, &finalizers).await {
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
            .filter(|seen| seen.is_held() && seen.deleting.is_some_and(|since| since < before))
            .filter(|seen| !self.purges.has(&seen.object))
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
        let patience = (!self.world.is_complete()).then_some(self.patient_until);
        let patience = patience.filter(|until| Instant::now() < *until);
        let now = Instant::now();
        let waiting = self.term.iter().filter(|_| self.world.waiting() > 0).map(|_| now);
        let idle = now + SYNC;
        let blocked = self.not_before.unwrap_or_else(Instant::now);
        delayed
            .chain(sync)
            .chain(retry)
            .chain(patience)
            .chain(besides)
            .chain(waiting)
            .map(|at| at.max(blocked))
            .min()
            .unwrap_or(idle)
    }

    /// Does what can be done now.
    pub(crate) async fn work(&mut self) {
        let leadership = *self.leader.borrow_and_update();
        let Some(leadership) = leadership.filter(Leadership::holds) else {
            self.resign();
            return;
        };
        if self.not_before.is_some_and(|at| Instant::now() < at) || !self.has_seen_enough() {
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
            Err(Stop::Outdated) => {
                tracing::info!("somebody else has changed the configuration, and it is loaded again");
                self.not_before = Some(Instant::now() + AGAIN);
            }
            Err(Stop::Failed(error)) => self.fail(&error),
        }
    }

    /// Whether it may begin: everything was seen once, or something and the rest was waited for long enough. One namespace
    /// without a role must not stop all others.
    fn has_seen_enough(&mut self) -> bool {
        if self.world.is_complete() {
            self.metrics.lists_missing.set(0);
            return true;
        }
        if Instant::now() < self.patient_until || !self.world.is_begun() {
            return false;
        }
        let missing = self.progress.missing();
        if self.progress.go_on() {
            let missing = missing.join("; ");
            tracing::error!(missing, "not everything can be listed, and the operator goes on with what can");
        }
        self.metrics.lists_missing.set(missing.len().try_into().unwrap_or(i64::MAX));
        true
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
        self.metrics.sink_failures.inc();
        let doublings = self.failures.saturating_sub(1).min(8);
        let pause = (PAUSE * 2_u32.pow(doublings)).min(MAX_PAUSE);
        self.not_before = Some(Instant::now() + pause);
        if self.failures == 1 {
            tracing::error!(error = %error, "objects cannot be handed on, and are tried again");
        }
        self.release_overdue(error);
    }
}
