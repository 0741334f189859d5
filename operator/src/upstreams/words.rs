//! What the proxies have seen of an upstream, in the words of conditions. Pure.
//!
//! | seen | `UpstreamReachable` | `CredentialsValid`, where the Remote has `auth` |
//! |---|---|---|
//! | nothing yet | Unknown, `NotObserved` | Unknown, `NotObserved` |
//! | it answers | True, `Answers` | – |
//! | it fails | False, named by the layer: `DNSFailed`, `ConnectFailed`, … | – |
//! | it took the credentials | – | True, `Accepted` |
//! | it refused them | – | False, `Refused` |
//!
//! They say how upstream is and not how the Remote is: neither feeds `Ready`.

use artifactapi_model::{
    observation::{BreakerStep, Failure, Observation, Verdict},
    ports::upstream::Layer,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::conditions::since;

/// The types of these conditions.
pub const TYPES: [&str; 2] = ["UpstreamReachable", "CredentialsValid"];

/// The reason of one of which nothing is known.
pub const NOT_OBSERVED: &str = "NotObserved";

/// What one condition says.
struct Word<'a> {
    status: &'static str,
    reason: &'static str,
    message: &'a str,
}

/// The conditions of a Remote of whose upstream `seen` is known. `generation` is that of the spec which was in service
/// when proxies last looked because of it, if they have.
pub fn conditions(
    seen: Option<&Observation>,
    has_auth: bool,
    generation: Option<i64>,
    before: &Value,
    now: Timestamp,
) -> Vec<Value> {
    let nothing = Observation::default();
    let seen = seen.unwrap_or(&nothing);
    let held_back = seen.breaker.is_some_and(|breaker| breaker.step != BreakerStep::Closed);
    let failing;
    let reachable = match seen.upstream.verdict() {
        Verdict::Unknown => Word::unknown("no proxy has asked upstream yet"),
        Verdict::Good => Word { status: "True", reason: "Answers", message: "upstream answers" },
        Verdict::Bad(failure) => {
            let end = if held_back { "; proxies ask it only now and then until it answers" } else { "" };
            failing = format!("{}{end}", failure.reason);
            Word { status: "False", reason: reason_of(failure), message: &failing }
        }
    };
    let credentials = has_auth.then(|| match seen.credentials.verdict() {
        Verdict::Unknown => Word::unknown("upstream has not been shown the credentials yet"),
        Verdict::Good => {
            Word { status: "True", reason: "Accepted", message: "upstream takes the credentials" }
        }
        Verdict::Bad(failure) => Word { status: "False", reason: "Refused", message: &failure.reason },
    });
    let words = [Some(reachable), credentials];
    let conditions = TYPES.iter().zip(words).filter_map(|(kind, word)| {
        let Word { status, reason, message } = word?;
        let mut condition = json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since(before, kind, status, now),
        });
        if let Some(generation) = generation {
            condition["observedGeneration"] = json!(generation);
        }
        Some(condition)
    });
    conditions.collect()
}

impl Word<'static> {
    fn unknown(message: &'static str) -> Self {
        Word { status: "Unknown", reason: NOT_OBSERVED, message }
    }
}

fn reason_of(failure: &Failure) -> &'static str {
    match failure.layer {
        Layer::Dns => "DNSFailed",
        Layer::Connect => "ConnectFailed",
        Layer::Tls => "TLSFailed",
        Layer::Proxy => "ProxyFailed",
        Layer::Authentication => "AuthenticationFailed",
        Layer::Http => "HTTPFailed",
    }
}

/// The conditions of a status that are spoken of here, by type.
pub fn ours(status: &Value) -> Vec<&Value> {
    let all = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<&Value> = all.filter(|one| TYPES.iter().any(|kind| one["type"] == *kind)).collect();
    found.sort_by_key(|one| one["type"].as_str());
    found
}

/// The generation that they spoke of.
pub fn generation_of(status: &Value) -> Option<i64> {
    ours(status).first()?.get("observedGeneration")?.as_i64()
}

#[cfg(test)]
mod tests {
    use artifactapi_model::observation::{Breaker, Track};

    use super::*;

    fn at(ms: i64) -> artifactapi_model::Timestamp {
        artifactapi_model::Timestamp(ms)
    }

    fn bad(layer: Layer) -> Track {
        Track { good: None, bad: Some(Failure::new(at(1), layer, None, "it broke")) }
    }

    fn good() -> Track {
        Track { good: Some(at(1)), bad: None }
    }

    fn words(seen: Option<&Observation>, has_auth: bool) -> Vec<String> {
        let all = conditions(seen, has_auth, Some(3), &Value::Null, Timestamp::UNIX_EPOCH);
        let text = |one: &Value| {
            assert_eq!(one["observedGeneration"], 3);
            format!("{} {} {}", one["type"], one["status"], one["reason"]).replace('"', "")
        };
        all.iter().map(text).collect()
    }

    #[test]
    fn every_layer_has_a_word() {
        assert_eq!(words(None, false), ["UpstreamReachable Unknown NotObserved"]);
        for (layer, want) in [
            (Layer::Dns, "DNSFailed"),
            (Layer::Connect, "ConnectFailed"),
            (Layer::Tls, "TLSFailed"),
            (Layer::Proxy, "ProxyFailed"),
            (Layer::Authentication, "AuthenticationFailed"),
            (Layer::Http, "HTTPFailed"),
        ] {
            let seen = Observation { upstream: bad(layer), ..Observation::default() };
            assert_eq!(words(Some(&seen), false), [format!("UpstreamReachable False {want}")]);
        }
    }

    #[test]
    fn credentials_are_spoken_of_where_there_are_some() {
        let mut seen = Observation { upstream: good(), ..Observation::default() };
        let reachable = "UpstreamReachable True Answers";
        assert_eq!(words(Some(&seen), true), [reachable, "CredentialsValid Unknown NotObserved"]);
        seen.credentials = good();
        assert_eq!(words(Some(&seen), true), [reachable, "CredentialsValid True Accepted"]);
        seen.credentials = bad(Layer::Authentication);
        assert_eq!(words(Some(&seen), true), [reachable, "CredentialsValid False Refused"]);
        assert_eq!(words(Some(&seen), false), [reachable]);
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_status() {
        let mut seen = Observation { upstream: bad(Layer::Dns), ..Observation::default() };
        let first = conditions(Some(&seen), false, None, &Value::Null, Timestamp::UNIX_EPOCH);
        let before = json!({ "conditions": first });
        let later = Timestamp::from_second(60).unwrap();
        seen.upstream = bad(Layer::Tls);
        seen.breaker = Some(Breaker { at: at(2), step: BreakerStep::Open });
        let next = conditions(Some(&seen), false, None, &before, later);
        assert_eq!(next[0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(next[0]["message"], "it broke; proxies ask it only now and then until it answers");
        seen.upstream = good();
        let next = conditions(Some(&seen), false, None, &before, later);
        assert_eq!(next[0]["lastTransitionTime"], "1970-01-01T00:01:00Z");
    }
}
