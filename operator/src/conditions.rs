//! The conditions of an object, in one table, and its status as it is to be.
//!
//! | outcome | Ready | Reconciling | Stalled |
//! |---|---|---|---|
//! | accepted and stored | True | – | – |
//! | only another spec helps | False | – | True |
//! | something else must happen first | False | True | – |
//! | not looked at yet | Unknown (the schema's default) | – | – |
//!
//! kstatus reads Ready=False with Stalled as failed and without as in progress; conditions that are abnormal when True
//! are there only while they are. `UpstreamReachable` and `CredentialsValid` have another owner and never feed Ready.

use artifactapi_crds::{FieldError, schema::Kind};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Longest message of a condition that we write, in characters.
const MAX_MESSAGE: usize = 1_024;
/// Conditions that are ours.
pub const OURS: [&str; 3] = ["Ready", "Reconciling", "Stalled"];
/// Fields that are ours besides.
const FIELDS: [&str; 5] = ["observedGeneration", "url", "effective", "secretName", "tokenExpiresAt"];

/// Why an object is ready or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the words of conditions")]
pub enum Reason {
    Stored,
    Invalid,
    NameConflict,
    MirrorConflict,
    NotPermitted,
    MemberNotFound,
    SecretNotFound,
    SecretInvalid,
    SecretForbidden,
    SecretConflict,
    SecretFailed,
    ConfigMapNotFound,
    ConfigMapInvalid,
    ConfigMapForbidden,
    StoreUnavailable,
    StoreRefused,
    TokensUnavailable,
    PublicURLMissing,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 18] = [
        Reason::Stored,
        Reason::Invalid,
        Reason::NameConflict,
        Reason::MirrorConflict,
        Reason::NotPermitted,
        Reason::MemberNotFound,
        Reason::SecretNotFound,
        Reason::SecretInvalid,
        Reason::SecretForbidden,
        Reason::SecretConflict,
        Reason::SecretFailed,
        Reason::ConfigMapNotFound,
        Reason::ConfigMapInvalid,
        Reason::ConfigMapForbidden,
        Reason::StoreUnavailable,
        Reason::StoreRefused,
        Reason::TokensUnavailable,
        Reason::PublicURLMissing,
    ];

    /// As it stands in conditions and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Stored => "Stored",
            Reason::Invalid => "Invalid",
            Reason::NameConflict => "NameConflict",
            Reason::MirrorConflict => "MirrorConflict",
            Reason::NotPermitted => "NotPermitted",
            Reason::MemberNotFound => "MemberNotFound",
            Reason::SecretNotFound => "SecretNotFound",
            Reason::SecretInvalid => "SecretInvalid",
            Reason::SecretForbidden => "SecretForbidden",
            Reason::SecretConflict => "SecretConflict",
            Reason::SecretFailed => "SecretFailed",
            Reason::ConfigMapNotFound => "ConfigMapNotFound",
            Reason::ConfigMapInvalid => "ConfigMapInvalid",
            Reason::ConfigMapForbidden => "ConfigMapForbidden",
            Reason::StoreUnavailable => "StoreUnavailable",
            Reason::StoreRefused => "StoreRefused",
            Reason::TokensUnavailable => "TokensUnavailable",
            Reason::PublicURLMissing => "PublicURLMissing",
        }
    }

    /// Whether nothing but another spec (or another object's end) helps.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Reason::Invalid
                | Reason::NameConflict
                | Reason::MirrorConflict
                | Reason::NotPermitted
                | Reason::SecretConflict
                | Reason::StoreRefused
                | Reason::TokensUnavailable
                | Reason::PublicURLMissing
        )
    }

    /// The reason of errors of validation: what only the author can mend comes first.
    pub fn of(errors: &[FieldError]) -> Self {
        let reasons = errors.iter().map(|error| match error.rule.as_ref() {
            "secretMissing" => Reason::SecretNotFound,
            "secretKey" | "secretValue" | "dockerconfigjson" => Reason::SecretInvalid,
            "pem" if error.path.contains("ConfigMap") => Reason::ConfigMapInvalid,
            "pem" => Reason::SecretInvalid,
            "configMapMissing" => Reason::ConfigMapNotFound,
            "configMapKey" => Reason::ConfigMapInvalid,
            "memberMissing" => Reason::MemberNotFound,
            "notPermitted" => Reason::NotPermitted,
            "mirrorConflict" => Reason::MirrorConflict,
            _ => Reason::Invalid,
        });
        reasons.min().unwrap_or(Reason::Invalid)
    }
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it is ready or not.
    pub reason: Reason,
    /// A sentence for whoever looks at it.
    pub message: String,
}

impl Outcome {
    /// An object of `kind` is stored.
    pub fn stored(kind: Kind) -> Self {
        let message = format!("the {} is valid and handed to the proxies", kind.as_str());
        Outcome { reason: Reason::Stored, message }
    }

    /// What is wrong with it, with field paths.
    pub fn refused(errors: &[FieldError]) -> Self {
        let lines: Vec<String> = errors
            .iter()
            .map(|error| if error.path.is_empty() { error.message.clone() } else { error.to_string() })
            .collect();
        Outcome { reason: Reason::of(errors), message: lines.join("; ") }
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        self.reason == Reason::Stored
    }
}

/// Our part of the status: what is the same for all kinds, with `more` of one.
pub fn status(
    outcome: &Outcome,
    generation: i64,
    before: &Value,
    now: Timestamp,
    more: Map<String, Value>,
) -> Value {
    let message: String = outcome.message.chars().take(MAX_MESSAGE).collect();
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind,
            "status": status,
            "reason": outcome.reason.as_str(),
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": since(before, kind, status, now),
        })
    };
    let mut conditions = vec![condition("Ready", if outcome.is_ready() { "True" } else { "False" })];
    if !outcome.is_ready() {
        let abnormal = if outcome.reason.is_final() { "Stalled" } else { "Reconciling" };
        conditions.push(condition(abnormal, "True"));
    }
    let mut status = more;
    status.insert("observedGeneration".into(), json!(generation));
    status.insert("conditions".into(), Value::Array(conditions));
    Value::Object(status)
}

/// Since when a condition has its status: as before, or now.
pub(crate) fn since(before: &Value, kind: &str, status: &str, now: Timestamp) -> Value {
    let same = conditions(before).find(|one| one["type"] == kind && one["status"] == status);
    let time = same.and_then(|one| one.get("lastTransitionTime")).filter(|time| time.is_string());
    time.cloned().unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
}

fn conditions(status: &Value) -> impl Iterator<Item = &Value> {
    status.get("conditions").and_then(Value::as_array).into_iter().flatten()
}

/// Whether an object's status says already what `wanted` says. Conditions of other owners do not count.
pub fn is_there(status: &Value, wanted: &Value) -> bool {
    let ours = |status: &Value| -> Vec<Value> {
        let mut found: Vec<Value> =
            conditions(status).filter(|one| OURS.iter().any(|kind| one["type"] == *kind)).cloned().collect();
        found.sort_by_key(|one| one["type"].as_str().map(str::to_owned));
        found
    };
    let field = |name| status.get(name).filter(|value| !value.is_null()) == wanted.get(name);
    ours(status) == ours(wanted) && FIELDS.into_iter().all(field)
}

/// The status `before` after `part` of it was written, by whom the conditions of `types` belong to.
pub fn with(before: &Value, part: &Value, types: &[&str]) -> Value {
    let is_written = |one: &Value| conditions(part).any(|written| written["type"] == one["type"]);
    let is_theirs = |one: &&Value| is_written(one) || types.iter().any(|kind| one["type"] == *kind);
    let others = conditions(before).filter(|one| !is_theirs(one));
    let all: Vec<Value> = others.chain(conditions(part)).cloned().collect();
    let mut status = before.as_object().cloned().unwrap_or_default();
    status.extend(part.as_object().cloned().unwrap_or_default());
    status.insert("conditions".into(), Value::Array(all));
    Value::Object(status)
}

/// The status of the condition `kind`.
pub fn status_of<'a>(status: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let found = conditions(status).find(|one| one["type"] == kind)?;
    Some((found["status"].as_str()?, found["reason"].as_str().unwrap_or_default()))
}

/// The message of the condition `kind`.
pub fn message_of<'a>(status: &'a Value, kind: &str) -> Option<&'a str> {
    conditions(status).find(|one| one["type"] == kind)?["message"].as_str()
}
