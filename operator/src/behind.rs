//! Objects that are stored with a later generation than a watch shows. Either the watch lags, as that of a new leader
//! may behind what the former one has written, and nothing must be undone for that; or the cluster was restored from a
//! backup, and what is earlier is what counts. The API server knows: a list of no version is as fresh as its storage.

use std::{collections::BTreeMap, time::Duration};

use artifactapi_crds::manifests::ObjectRef;
use futures_util::{StreamExt as _, stream};
use kube::{Client, api::ListParams};
use tokio::time::{Instant, timeout_at};

use crate::{api, seen::Seen, watches::dynamic};

/// Objects asked for at the same time.
const AT_ONCE: usize = 16;
/// Longest wait for all answers together: others wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// Those of `seen` that cannot be believed yet, with why.
pub async fn doubtful(client: &Client, seen: Vec<Seen>) -> BTreeMap<ObjectRef, String> {
    let end = Instant::now() + PATIENCE;
    let questions = seen.into_iter().map(|seen| async move {
        let answer = timeout_at(end, is_current(client, &seen)).await;
        (seen.object, answer)
    });
    let mut answers = stream::iter(questions).buffer_unordered(AT_ONCE);
    let mut doubtful = BTreeMap::new();
    while let Some((object, answer)) = answers.next().await {
        let why = match answer {
            Ok(Ok(true)) => continue,
            Ok(Ok(false)) => "its watch lags behind what is stored".to_owned(),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "the API server does not say what it has".to_owned(),
        };
        doubtful.insert(object, why);
    }
    doubtful
}

/// Whether the API server has an object just as it was seen.
async fn is_current(client: &Client, seen: &Seen) -> Result<bool, api::Failure> {
    let api = dynamic(client, seen.kind, Some(&seen.object.namespace));
    // By a list, which the operator may; a name selects one.
    let params = ListParams::default().fields(&format!("metadata.name={}", seen.object.name));
    let found = api::patiently(api.list(&params)).await?;
    Ok(found.items.iter().any(|it| {
        it.metadata.uid.as_ref() == Some(&seen.uid) && it.metadata.generation == Some(seen.generation)
    }))
}
