//! Events on the objects themselves, when something changes for their owners: `kubectl describe` shows them.

use artifactapi_crds::{GROUP, VERSION, manifests::ObjectRef};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;

use crate::{api, conditions, status::MANAGER};

/// Longest note, in characters; the API takes 1 kB.
const MAX_NOTE: usize = 900;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Of which object.
    pub object: ObjectRef,
    /// Its identity.
    pub uid: String,
    /// Whether it is bad news.
    pub is_warning: bool,
    /// A word in camel case.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

/// The condition that says whether an object is stored.
pub const READY: &str = "Ready";

/// What the owner of an object is told when its condition `kind` goes from `before` to `after`: that it does not hold, or
/// not for another reason, or that it holds again. That it holds for the first time is no news, and neither is that nobody
/// knows.
pub fn transition(
    object: &ObjectRef,
    uid: &str,
    kind: &str,
    before: &Value,
    after: &Value,
) -> Option<Notice> {
    let (was, is) = (conditions::status_of(before, kind), conditions::status_of(after, kind)?);
    let is_news = match is {
        ("False", _) => was != Some(is),
        ("True", _) => was.is_some_and(|(status, _)| status == "False"),
        _ => false,
    };
    is_news.then(|| Notice {
        object: object.clone(),
        uid: uid.to_owned(),
        is_warning: is.0 == "False",
        reason: is.1.to_owned(),
        note: conditions::message_of(after, kind).unwrap_or_default().chars().take(MAX_NOTE).collect(),
    })
}

/// Tells. That it fails costs nobody more than the event.
pub async fn tell(recorder: Recorder, notice: Notice) {
    let Notice { object, uid, is_warning, reason, note } = notice;
    let reference = ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(object.kind.to_owned()),
        namespace: Some(object.namespace.clone()),
        name: Some(object.name.clone()),
        uid: Some(uid),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: if is_warning { EventType::Warning } else { EventType::Normal },
        reason,
        note: Some(note),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Err(failure) = api::patiently(recorder.publish(&event, &reference)).await {
        tracing::debug!(object = %object, error = %failure, "an event could not be published");
    }
}

/// Who tells.
pub fn recorder(client: &Client) -> Recorder {
    let reporter = Reporter { controller: MANAGER.into(), instance: std::env::var("HOSTNAME").ok() };
    Recorder::new(client.clone(), reporter)
}
