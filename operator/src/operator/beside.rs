//! What comes of what goes on beside reconciles.

use super::Operator;
use crate::{
    besides::Event,
    events,
    status::{Letter, Sent},
    upstreams::words::TYPES,
};

impl Operator {
    /// Something has happened beside.
    pub(super) fn beside(&mut self, event: Event) {
        match event {
            Event::Sent(Sent::Written(Letter { object, uid, status, before })) => {
                let (before, status) = (before.read(), status.read());
                for kind in TYPES {
                    let notice = events::transition(&object, &uid, kind, &before, &status);
                    notice.into_iter().for_each(|notice| self.tell(notice));
                }
                self.metrics.wrote_status(1);
                self.world.note_status(&object, &uid, &status, &TYPES);
            }
            Event::Kept(kept) if self.world.get(&kept.object).is_some_and(|seen| seen.uid == kept.uid) => {
                self.report(&kept.object, &kept.outcome, kept.status);
            }
            Event::Sent(_) | Event::Kept(_) => {}
        }
    }
}
