//! What became of objects, on its way into their statuses.

use artifactapi_crds::manifests::ObjectRef;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::Operator;
use crate::{
    conditions::{self, Outcome, Reason},
    seen::{Seen, Text},
    sink::SinkError,
    status::Letter,
};

impl Operator {
    /// Has a status written unless it is there.
    pub(super) fn report(&mut self, object: &ObjectRef, outcome: &Outcome, more: Map<String, Value>) {
        let Some(seen) = self.world.get(object) else { return };
        let Seen { uid, generation, status: before, .. } = seen;
        let before = self.outbox.waiting(object).map_or(before, |letter| &letter.status).read();
        let mut status = conditions::status(outcome, *generation, &before, Timestamp::now(), more);
        if !conditions::is_there(&before, &status) {
            self.besides.complete(seen, &mut status);
            let (object, uid, before) = (object.clone(), uid.clone(), seen.status.clone());
            self.outbox.put(Letter { object, uid, status: Text::of(&status), before });
        }
    }

    /// The sink did not take a batch.
    pub(super) fn report_failure(&mut self, batch: &[ObjectRef], error: &SinkError) {
        for object in batch {
            let kind = object.kind;
            let (reason, message) = match error {
                SinkError::Unavailable(_) => (
                    Reason::StoreUnavailable,
                    format!(
                        "the {kind} could not be handed to the proxies, which goes on being tried: {error}"
                    ),
                ),
                SinkError::Refused(_) => (
                    Reason::StoreRefused,
                    format!(
                        "the {kind} could not be handed to the proxies, since it is refused there: {error}"
                    ),
                ),
            };
            let outcome = Outcome { reason, message };
            self.report(object, &outcome, self.still_served(object));
        }
    }
}
