//! What goes on beside reconciles, each in its own time: how upstreams are, and robots' tokens in their Secrets.

use std::{collections::BTreeSet, sync::Arc};

use artifactapi_crds::{manifests::ObjectRef, schema::Kind};
use artifactapi_model::{PublicUrl, ports::Accounts};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    conditions::{Outcome, Reason},
    robots::{
        self,
        keeper::{Keeper, Kept},
    },
    seen::{Seen, Text},
    status::{Letter, Outbox, Sent},
    upstreams::{self, Upstreams, source::Source},
    world::{Change, World},
};

/// All of it; what the sink has no part in is not there.
pub struct Besides {
    upstreams: Option<Upstreams>,
    /// Statuses of upstreams, which have an owner of their own.
    pub letters: Outbox,
    keeper: Option<Keeper>,
    is_failing: bool,
}

/// Something that has happened.
pub enum Event {
    /// A status of an upstream is written, or not.
    Sent(Sent),
    /// A robot was looked after.
    Kept(Box<Kept>),
}

impl Besides {
    /// `source` tells of upstreams, `accounts` keeps tokens.
    pub fn new(
        client: &Client,
        source: Option<Arc<dyn Source>>,
        accounts: Option<Arc<dyn Accounts>>,
        public_url: Option<&PublicUrl>,
    ) -> Self {
        let registry = public_url.map(robots::registry);
        Besides {
            upstreams: source.map(Upstreams::new),
            letters: Outbox::new(client.clone(), upstreams::MANAGER),
            keeper: accounts.map(|accounts| Keeper::new(client.clone(), accounts, registry)),
            is_failing: false,
        }
    }

    /// Another term begins.
    pub fn begin(&mut self) {
        self.clear();
        self.upstreams.iter_mut().for_each(Upstreams::begin);
    }

    /// The term is over.
    pub fn clear(&mut self) {
        self.letters.clear();
        self.keeper.iter_mut().for_each(Keeper::clear);
    }

    /// What a watch saw.
    pub fn see(&mut self, change: &Change) {
        match change {
            Change::Reference(object, _) if object.kind == "Secret" => {
                self.keeper.iter_mut().for_each(|keeper| keeper.touch(&object.namespace, &object.name));
            }
            Change::Gone(object) => self.forget(object),
            Change::Reference(..) | Change::Seen(_) | Change::Listed { .. } => {}
        }
    }

    /// An object is no more, or no longer stored.
    pub fn forget(&mut self, object: &ObjectRef) {
        self.upstreams.iter_mut().for_each(|upstreams| upstreams.forget(object));
        self.keeper.iter_mut().for_each(|keeper| keeper.forget(object));
    }

    /// An object cannot be accepted as it is; what is stored of it stays.
    pub fn refused(&mut self, object: &ObjectRef) {
        self.keeper.iter_mut().for_each(|keeper| keeper.mute(object));
    }

    /// An object is stored; `is_new` says that it, or what it names, was written by the change that made the configuration
    /// `config`. Whether its readiness is reported here, later.
    pub fn stored(&mut self, seen: &Seen, is_new: bool, config: i64) -> bool {
        match (seen.kind, &mut self.upstreams, &mut self.keeper) {
            (Kind::Remote, Some(upstreams), _) => {
                upstreams.accepted(seen, is_new, config);
                false
            }
            (Kind::Robot, _, Some(keeper)) => match robots::job(seen) {
                Some(job) => {
                    keeper.begin(job);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// What `seen`, which is stored, is without all the same.
    pub fn missing(&self, seen: &Seen) -> Option<Outcome> {
        (seen.kind == Kind::Robot && self.keeper.is_none()).then(|| Outcome {
            reason: Reason::TokensUnavailable,
            message: "the Robot is stored, and has no Secret: tokens are made in PostgreSQL, which this operator does not use \
                      (ARTIFACTAPI_SINK_DIR); `artifactapi token create` makes one at the proxy"
                .to_owned(),
        })
    }

    /// Completes a status of `seen` that is about to be written.
    pub fn complete(&self, seen: &Seen, status: &mut Value) {
        if let Some(upstreams) = self.upstreams.as_ref().filter(|_| seen.kind == Kind::Remote) {
            upstreams.complete(seen, status, Timestamp::now());
        }
    }

    /// When it is time to look at upstreams.
    pub fn due(&self) -> Option<Instant> {
        self.upstreams.as_ref().map(|upstreams| upstreams.due)
    }

    /// Looks at upstreams, if it is time. `is_stored` says which objects are.
    pub async fn look(&mut self, world: &World, is_stored: impl Fn(&ObjectRef) -> bool) {
        let Some(upstreams) = self.upstreams.as_mut().filter(|upstreams| upstreams.due <= Instant::now())
        else {
            return;
        };
        match upstreams.look().await {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                if !self.is_failing {
                    tracing::warn!(error, "nobody tells how upstreams are");
                }
                self.is_failing = true;
                return;
            }
        }
        let now = Timestamp::now();
        for object in upstreams.doubtful() {
            let Some(seen) = world.get(&object).filter(|seen| seen.deleting.is_none()) else { continue };
            if !upstreams.knows(&object) || !is_stored(&object) {
                continue;
            }
            let before = self.letters.waiting(&object).map_or(&seen.status, |letter| &letter.status).read();
            let status = upstreams.status(seen, now);
            if !upstreams::is_there(&before, &status) {
                let (uid, before) = (seen.uid.clone(), seen.status.clone());
                self.letters.put(Letter { object, uid, status: Text::of(&status), before });
            }
        }
    }

    /// Whether nothing waits and nothing is under way.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_work() && self.due().is_none_or(|due| due > Instant::now())
    }

    /// Whether [`Besides::next`] has something to do at once.
    #[cfg(test)]
    pub(crate) fn has_work(&self) -> bool {
        !self.letters.is_empty() || self.keeper.as_ref().is_some_and(|keeper| !keeper.is_idle())
    }

    /// Looks at upstreams at the next opportunity.
    #[cfg(test)]
    pub(crate) fn look_soon(&mut self) {
        self.upstreams.iter_mut().for_each(|upstreams| upstreams.due = Instant::now());
    }

    /// What happens next; never ready while there is nothing.
    pub async fn next(&mut self) -> Event {
        let keeper = async {
            match &mut self.keeper {
                Some(keeper) => keeper.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            sent = self.letters.next() => Event::Sent(sent),
            kept = keeper => Event::Kept(Box::new(kept)),
        }
    }
}

/// Objects of `written` and those that name some of it.
pub fn touched<'a>(
    written: impl Iterator<Item = &'a ObjectRef>,
    users: impl Fn(&ObjectRef) -> Vec<ObjectRef>,
) -> BTreeSet<ObjectRef> {
    written.flat_map(|object| users(object).into_iter().chain([object.clone()])).collect()
}
