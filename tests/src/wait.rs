//! Waiting for a condition, with an end.

use std::time::Duration;

use tokio::time::Instant;

/// The pause between two looks at a condition that nothing announces.
const BREATH: Duration = Duration::from_millis(20);

/// Lets others run before a condition is looked at again.
pub async fn breathe() {
    tokio::time::sleep(BREATH).await;
}

/// Looks until `look` finds something good, which is what it gives; until then it gives what it has found instead.
///
/// # Panics
/// When `limit` passes; the message names `what` and shows what was found last.
pub async fn until_good<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(found) => {
                assert!(Instant::now() < end, "waited {limit:?} in vain for {what}, and found last: {found}");
            }
        }
        breathe().await;
    }
}

/// Looks until `condition` holds.
///
/// # Panics
/// When `limit` passes; the message names `what`.
pub async fn until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        breathe().await;
    }
}
