//! How often one object is looked at: somebody who changes one without end must not have it looked at without end.

use std::{collections::BTreeMap, time::Duration};

use artifactapi_crds::manifests::ObjectRef;
use tokio::time::Instant;

/// Looks at one object in [`WINDOW`]; then it waits for the window's end.
const LOOKS: u32 = 20;
/// The time in which looks are counted: short beside the time in which people are told (RS-132).
const WINDOW: Duration = Duration::from_secs(2);

/// Counts looks.
#[derive(Debug, Default)]
pub struct Pace(BTreeMap<ObjectRef, (Instant, u32)>);

impl Pace {
    /// An object is to be looked at: nothing when that may be now, else when it may be.
    pub fn look(&mut self, object: &ObjectRef) -> Option<Instant> {
        let now = Instant::now();
        let (since, looks) = self.0.entry(object.clone()).or_insert((now, 0));
        if now >= *since + WINDOW {
            (*since, *looks) = (now, 0);
        }
        *looks += 1;
        (*looks > LOOKS).then(|| *since + WINDOW)
    }

    /// Forgets those who have not been looked at lately.
    pub fn tidy(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, (since, _)| now < *since + WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_changes_without_end_waits_for_its_next_turn() {
        let object = |name: &str| ObjectRef { kind: "Remote", namespace: "team".into(), name: name.into() };
        let (mut pace, hot) = (Pace::default(), object("hot"));
        assert!((0..LOOKS).all(|_| pace.look(&hot).is_none()));
        assert_eq!(pace.look(&hot), Some(Instant::now() + WINDOW));
        assert_eq!(pace.look(&object("calm")), None, "others have their own");
        tokio::time::advance(WINDOW).await;
        assert_eq!(pace.look(&hot), None);
        tokio::time::advance(WINDOW).await;
        pace.tidy();
        assert!(pace.0.is_empty());
    }
}
