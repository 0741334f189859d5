//! What became of objects, on its way into their statuses.

use artifactapi_crds::manifests::ObjectRef;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::Operator;
use crate::{
    conditions::{self, Outcome, Reason},
    seen::Seen,
    sink::SinkError,
    status::Letter,
};

impl Operator {
    /// Has a status written unless it is there.
    pub(super) fn report(&mut self, object: &ObjectRef, outcome: &Outcome, more: Map<String, Value>) {
        let Some(seen) = self.world.get(object) else { return };
        let Seen { uid, generation, status: before, .. } = seen;
        let before = self.outbox.waiting(object).map_or(before, |letter| &letter.status);
        let status = conditions::status(outcome, *generation, before, Timestamp::now(), more);
        if !conditions::is_there(before, &status) {
            let (object, uid, before) = (object.clone(), uid.clone(), seen.status.clone());
            let mut letter = Letter { object, uid, status, before };
            self.besides.complete(seen, &mut letter.status);
            self.outbox.put(letter);
        }
    }

    /// The sink did not take a batch.
    pub(super) fn report_failure(&mut self, batch: &[ObjectRef], error: &SinkError) {
        let outcome = Outcome {
            reason: match error {
                SinkError::Unavailable(_) => Reason::StoreUnavailable,
                SinkError::Refused(_) => Reason::StoreRefused,
            },
            message: format!("it could not be handed to the proxies, which goes on being tried: {error}"),
        };
        for object in batch {
            self.report(object, &outcome, self.still_served(object));
        }
    }
}
