//! By which tests drive an operator step by step.

use artifactapi_crds::manifests::ObjectRef;
use futures_util::StreamExt as _;

use super::Operator;
use crate::{besides::Event, status::Sent};

impl Operator {
    /// Whether nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        let rests = self.outbox.is_empty() && self.chores.is_empty() && self.besides.is_idle();
        rests && (self.world.waiting() == 0 || self.not_before.is_some())
    }

    /// Whether a namespace is to be looked after.
    pub(crate) fn wants(&self, namespace: &str) -> bool {
        self.world.wants(namespace)
    }

    /// All objects seen.
    pub(crate) fn seen(&self) -> std::collections::BTreeSet<ObjectRef> {
        self.world.objects().map(|seen| seen.object.clone()).collect()
    }

    /// Looks at upstreams at the next opportunity.
    pub(crate) fn look_soon(&mut self) {
        self.besides.look_soon();
    }

    /// Whether a purge is under way.
    pub(crate) fn is_purging(&self) -> bool {
        !self.purges.is_empty()
    }

    /// Waits for the next purge that comes to its end.
    pub(crate) async fn purge(&mut self) {
        let ended = self.purges.next().await;
        self.let_go(ended);
    }

    /// Objects that are being deleted and held.
    pub(crate) fn held(&self) -> Vec<ObjectRef> {
        let held = self.world.objects().filter(|seen| seen.is_held() && seen.deleting.is_some());
        held.map(|seen| seen.object.clone()).collect()
    }

    /// Waits for all statuses under way, and says of which objects they were.
    pub(crate) async fn deliver(&mut self) -> Vec<ObjectRef> {
        let mut written = Vec::new();
        loop {
            while !self.outbox.is_empty() {
                let sent = self.outbox.next().await;
                if let Sent::Written(letter) = &sent {
                    written.push(letter.object.clone());
                }
                self.note(sent);
            }
            // Robots that are due or under way, and letters about upstreams.
            let event = match self.besides.has_work() {
                true => self.besides.next().await,
                false => break,
            };
            if let Event::Sent(Sent::Written(letter)) = &event {
                written.push(letter.object.clone());
            }
            self.beside(event);
        }
        while self.chores.next().await.is_some() {}
        written
    }
}
