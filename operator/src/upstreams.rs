//! How the upstreams of Remotes are. The proxies have the network, the credentials and the traffic, so they look; what
//! they have seen becomes conditions here, and they are asked to look again when a Remote or what it names has changed,
//! and when somebody asks by the annotation `artifactapi.io/requested-at`. The operator dials nothing.
//!
//! Nothing of this is part of a reconcile: it neither waits for it nor feeds `Ready`.

pub mod source;
pub mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::{RepoName, observation::Observation, ports::observations::ProbeRequest};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::source::{Place, Source};
use crate::seen::Seen;

/// How often it is looked what proxies have seen.
const PERIOD: Duration = Duration::from_secs(5);
/// Who writes these conditions: the field manager of that part of the status.
pub const MANAGER: &str = "artifactapi-operator-upstreams";
/// The field that tells which request was answered last.
pub const HANDLED: &str = "lastHandledRequestedAt";

/// A probe that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    token: String,
    /// Generation of the spec it is about.
    generation: i64,
    /// The request of a person that it is for, too.
    requested_at: Option<String>,
    /// The configuration in which a proxy must look.
    config: i64,
    is_sent: bool,
}

/// What is known of upstreams.
pub struct Upstreams {
    source: Arc<dyn Source>,
    version: i64,
    seen: BTreeMap<Place, Observation>,
    asked: BTreeMap<ObjectRef, Asked>,
    /// Remotes whose conditions may not say what is known.
    doubtful: BTreeSet<ObjectRef>,
    made: u64,
    /// When it is looked again.
    pub due: Instant,
}

impl Upstreams {
    /// Nothing yet; proxies are reached by way of `source`.
    pub fn new(source: Arc<dyn Source>) -> Self {
        let due = Instant::now();
        Upstreams {
            source,
            version: 0,
            seen: BTreeMap::new(),
            asked: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            made: 0,
            due,
        }
    }

    /// Begins anew: another operator may have led meanwhile.
    pub fn begin(&mut self) {
        (self.version, self.due) = (0, Instant::now());
        self.seen.clear();
        self.asked.clear();
        self.doubtful.clear();
    }

    /// A Remote was accepted; `is_new` says that it, or what it names, was written by the change that made the
    /// configuration `config`. Has a probe asked for where that or a person wants one.
    pub fn accepted(&mut self, seen: &Seen, is_new: bool, config: i64) {
        self.doubtful.insert(seen.object.clone());
        let status = seen.status.read();
        let handled = status.get(HANDLED).and_then(Value::as_str);
        let requested = seen.requested_at.as_deref();
        let asked = self.asked.get(&seen.object);
        let known = asked.map_or(handled, |asked| asked.requested_at.as_deref().or(handled));
        let is_requested = requested.is_some() && requested != known;
        if !is_new && !is_requested {
            return;
        }
        self.made += 1;
        // Never used before, by whichever operator.
        let token = format!("{}-{}-{}", seen.generation, Timestamp::now().as_millisecond(), self.made);
        let asked = Asked {
            token,
            generation: seen.generation,
            requested_at: requested.map(str::to_owned),
            config,
            is_sent: false,
        };
        self.asked.insert(seen.object.clone(), asked);
        self.due = Instant::now();
    }

    /// An object is no more.
    pub fn forget(&mut self, object: &ObjectRef) {
        self.asked.remove(object);
        self.doubtful.remove(object);
        self.seen.remove(&place_of(object));
    }

    /// Asks for what was not asked yet, and looks what proxies have seen.
    ///
    /// # Errors
    /// Why the proxies cannot be reached; the next call does what is left.
    pub async fn look(&mut self) -> Result<(), String> {
        self.due = Instant::now() + PERIOD;
        let requests: Vec<ProbeRequest> =
            self.asked.iter().filter(|(_, it)| !it.is_sent).filter_map(request).collect();
        if !requests.is_empty() {
            self.source.ask(&requests).await?;
            self.asked.values_mut().for_each(|asked| asked.is_sent = true);
        }
        let (version, news) = self.source.news(self.version).await?;
        self.version = version;
        let remote = |(namespace, name): &Place| ObjectRef {
            kind: "Remote",
            namespace: namespace.clone(),
            name: name.clone(),
        };
        self.doubtful.extend(news.iter().map(|(place, _)| remote(place)));
        self.seen.extend(news);
        Ok(())
    }

    /// Takes the Remotes whose conditions may not say what is known, or are to be looked at for another reason.
    pub fn doubtful(&mut self) -> BTreeSet<ObjectRef> {
        std::mem::take(&mut self.doubtful)
    }

    /// Doubts the conditions of an object: somebody may have changed them.
    pub fn doubt(&mut self, object: &ObjectRef) {
        self.doubtful.insert(object.clone());
    }

    /// Says in the first status of `seen`, a Remote, that nobody has looked at its upstream yet: it need not be written for
    /// that alone. The conditions are taken over by [`MANAGER`] as soon as there is something to say.
    pub fn complete(&self, seen: &Seen, status: &mut Value, now: Timestamp) {
        let before = seen.status.read();
        // What another leader knew stands until there is something newer.
        let is_told = words::ours(&before).iter().any(|one| one["reason"] != words::NOT_OBSERVED);
        if self.knows(&seen.object) || is_told {
            return;
        }
        if let Some(all) = status.get_mut("conditions").and_then(Value::as_array_mut) {
            all.extend(words::conditions(None, has_auth(seen), None, &before, now));
        }
    }

    /// Whether something is known of the upstream of an object.
    pub fn knows(&self, object: &ObjectRef) -> bool {
        self.seen.contains_key(&place_of(object))
    }

    /// The part of the status of `seen`, a Remote that is stored, which is about its upstream.
    pub fn status(&self, seen: &Seen, now: Timestamp) -> Value {
        let observation = self.seen.get(&place_of(&seen.object));
        let answered = observation.and_then(|observation| observation.probe.as_ref());
        let asked = self.asked.get(&seen.object);
        let done = asked.filter(|asked| answered.is_some_and(|answered| answered.token == asked.token));
        let before = seen.status.read();
        let generation = done.map(|asked| asked.generation).or(words::generation_of(&before));
        let conditions = words::conditions(observation, has_auth(seen), generation, &before, now);
        let mut status = Map::from_iter([("conditions".to_owned(), Value::Array(conditions))]);
        let handled = before.get(HANDLED).filter(|value| value.is_string()).cloned();
        let handled = done.and_then(|asked| asked.requested_at.clone()).map(Value::String).or(handled);
        if let Some(handled) = handled {
            status.insert(HANDLED.to_owned(), handled);
        }
        Value::Object(status)
    }
}

/// Whether the status of an object says already what `wanted` does.
pub fn is_there(status: &Value, wanted: &Value) -> bool {
    let field = |of: &Value| of.get(HANDLED).cloned().unwrap_or(json!(null));
    words::ours(status) == words::ours(wanted) && field(status) == field(wanted)
}

fn has_auth(seen: &Seen) -> bool {
    seen.manifest.read().pointer("/spec/auth").is_some_and(|auth| !auth.is_null())
}

fn place_of(object: &ObjectRef) -> Place {
    (object.namespace.clone(), object.name.clone())
}

fn request((object, asked): (&ObjectRef, &Asked)) -> Option<ProbeRequest> {
    Some(ProbeRequest {
        namespace: object.namespace.clone(),
        name: RepoName::try_from(object.name.as_str()).ok()?,
        token: asked.token.clone(),
        config: asked.config,
    })
}
