//! A cluster of a few maps behind the client's own door, and an operator beside it that is driven step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use artifactapi_crds::{manifests::ObjectRef, schema::Kind};
use artifactapi_model::PublicUrl;
use artifactapi_stores::MemoryMetadata;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, Request, Response, StatusCode, Uri};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    ceilings::Ceilings,
    conditions,
    lease::Leadership,
    names::GRACE,
    operator::{Operator, Parts},
    seen::{Seen, custom_kind, resource},
    sink::{Sink as _, memory::MemorySink},
    upstreams::{self, source::Tables},
    watches::Progress,
    world::{Change, Scope, World},
};

/// What the API server has.
#[derive(Default)]
pub(super) struct Cluster {
    /// Objects by kind, namespace and name.
    pub(super) objects: BTreeMap<ObjectRef, Value>,
    /// Method and path of every request.
    pub(super) requests: Vec<String>,
    /// Status code and beginning of the path, or of method and path, of requests that fail.
    pub(super) failing: Option<(u16, &'static str)>,
    /// Events that were published: reason and note.
    pub(super) events: Vec<(String, String)>,
    /// Secrets that were written by way of the API.
    pub(super) written: Vec<ObjectRef>,
    /// Finalizers by the identity of their object and by who has applied them.
    applied: BTreeMap<(String, String), Vec<Value>>,
    made: i64,
}

/// The kind, namespace and name in a path.
fn place(path: &str) -> Option<(ObjectRef, Option<&str>)> {
    let mut parts = path.trim_start_matches('/').split('/').skip_while(|part| *part != "namespaces").skip(1);
    let (namespace, plural, name) = (parts.next()?, parts.next()?, parts.next()?);
    let ours = Kind::ALL.into_iter().find(|kind| resource(*kind).plural == plural).map(Kind::as_str);
    let kind = ours.or(match plural {
        "secrets" => Some("Secret"),
        "configmaps" => Some("ConfigMap"),
        _ => None,
    })?;
    Some((ObjectRef { kind, namespace: namespace.into(), name: name.into() }, parts.next()))
}

impl Cluster {
    /// Secrets, as far as they are written.
    fn secrets(&mut self, method: &Method, path: &str, sent: &Value) -> Option<(StatusCode, Value)> {
        let (namespace, rest) = path.strip_prefix("/api/v1/namespaces/")?.split_once("/secrets")?;
        let name = match *method {
            Method::POST => sent.pointer("/metadata/name")?.as_str()?,
            Method::PUT | Method::DELETE => rest.trim_start_matches('/'),
            _ => return None,
        };
        let object = ObjectRef { kind: "Secret", namespace: namespace.into(), name: name.into() };
        let found = self.objects.get(&object);
        let version = |value: &Value| value.as_str().map(str::to_owned);
        let there = found.and_then(|found| version(&found["metadata"]["resourceVersion"]));
        let meant =
            sent.pointer("/metadata/resourceVersion").or(sent.pointer("/preconditions/resourceVersion"));
        let is_wrong = match *method {
            Method::POST => found.is_some(),
            _ => found.is_none() || meant.and_then(version) != there,
        };
        if is_wrong {
            return Some(failure(409));
        }
        self.made += 1;
        self.written.push(object.clone());
        if *method == Method::DELETE {
            return self.objects.remove(&object).map(|gone| (StatusCode::OK, gone));
        }
        let mut stored = sent.clone();
        stored["kind"] = json!("Secret");
        stored["metadata"]["resourceVersion"] = json!(self.made.to_string());
        self.objects.insert(object, stored.clone());
        Some((StatusCode::OK, stored))
    }

    /// All objects of one of our kinds in a namespace.
    fn list(&self, method: &Method, path: &str) -> Option<Value> {
        let (namespace, plural) = path.split_once("/namespaces/")?.1.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|kind| resource(*kind).plural == plural)?.as_str();
        let is_meant = |object: &ObjectRef| object.kind == kind && object.namespace == namespace;
        let items: Vec<&Value> =
            self.objects.iter().filter(|(object, _)| is_meant(object)).map(|(_, found)| found).collect();
        (*method == Method::GET).then(|| json!({ "metadata": {}, "items": items }))
    }

    fn answer(&mut self, method: &Method, uri: &Uri, body: &[u8]) -> (StatusCode, Value) {
        let path = uri.path();
        self.requests.push(format!("{method} {path}"));
        if let Some((code, beginning)) = self.failing
            && (path.starts_with(beginning) || format!("{method} {path}").starts_with(beginning))
        {
            return failure(code);
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        if path.contains("/events") {
            let text = |field: &str| sent[field].as_str().unwrap_or_default().to_owned();
            self.events.push((text("reason"), text("note")));
            return (StatusCode::CREATED, sent);
        }
        if let Some(answer) = self.secrets(method, path, &sent) {
            return answer;
        }
        if let Some(list) = self.list(method, path) {
            return (StatusCode::OK, list);
        }
        let Some((object, part)) = place(path) else { return failure(404) };
        let Some(found) = self.objects.get_mut(&object) else { return failure(404) };
        if *method == Method::PATCH {
            if let Some(uid) = sent.pointer("/metadata/uid").filter(|uid| **uid != found["metadata"]["uid"]) {
                assert!(uid.is_string());
                return failure(409);
            }
            if part == Some("status") {
                found["status"] = applied(&found["status"], &sent["status"]);
            } else {
                let after = match sent.as_array() {
                    Some(steps) => stepped(found, steps),
                    None => applied_finalizers(found, &sent, uri.query(), &mut self.applied),
                };
                let Some(finalizers) = after else { return failure(422) };
                let is_free = finalizers.is_empty();
                found["metadata"]["finalizers"] = json!(finalizers);
                if is_free && found["metadata"].get("deletionTimestamp").is_some() {
                    let gone = found.clone();
                    self.objects.remove(&object);
                    return (StatusCode::OK, gone);
                }
            }
        }
        (StatusCode::OK, found.clone())
    }
}

/// The finalizers after an apply: whoever applies takes away what they have applied before, and nothing of others.
fn applied_finalizers(
    found: &Value,
    sent: &Value,
    query: Option<&str>,
    applied: &mut BTreeMap<(String, String), Vec<Value>>,
) -> Option<Vec<Value>> {
    let sent = sent.pointer("/metadata/finalizers")?.as_array()?;
    let manager = query?.split('&').find_map(|part| part.strip_prefix("fieldManager="))?;
    let uid = found["metadata"]["uid"].as_str()?;
    let before = applied.insert((uid.to_owned(), manager.to_owned()), sent.clone()).unwrap_or_default();
    let there = found["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let kept = there.into_iter().filter(|one| !before.contains(one) && !sent.contains(one));
    Some(kept.chain(sent.iter().cloned()).collect())
}

/// The finalizers after a JSON patch of them; `None` when it is tested for something else than there is.
fn stepped(found: &Value, steps: &[Value]) -> Option<Vec<Value>> {
    let mut after = found.clone();
    for step in steps {
        let place = after.pointer_mut(step["path"].as_str()?)?;
        match step["op"].as_str()? {
            "test" if *place == step["value"] => {}
            "replace" => *place = step["value"].clone(),
            _ => return None,
        }
    }
    after["metadata"]["finalizers"].as_array().cloned()
}

/// What becomes of a status of which one owner applies its part.
fn applied(before: &Value, part: &Value) -> Value {
    let is_main =
        part["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "Ready"));
    let types: &[&str] = if is_main { &conditions::OURS } else { &upstreams::words::TYPES };
    let mut status = conditions::with(before, part, types);
    let theirs = [upstreams::HANDLED];
    if is_main {
        // What is applied no longer goes.
        let whole = status.as_object_mut().unwrap();
        whole.retain(|field, _| part.get(field).is_some() || theirs.contains(&field.as_str()));
    }
    status
}

fn failure(code: u16) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": match code { 404 => "NotFound", 403 => "Forbidden", 409 => "Conflict", 422 => "Invalid", _ => "InternalError" },
        "message": format!("the cluster says {code}"),
    });
    (StatusCode::from_u16(code).unwrap(), status)
}

fn client_of(cluster: &Arc<Mutex<Cluster>>) -> Client {
    let cluster = cluster.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let cluster = cluster.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await?.to_bytes();
            let (status, answer) = cluster.lock().unwrap().answer(&head.method, &head.uri, &body);
            let response = Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, kube::Error>(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    Client::new(service, "operators")
}

/// A cluster with an operator that leads.
pub(super) struct Bench {
    cluster: Arc<Mutex<Cluster>>,
    pub(super) sink: Arc<MemorySink>,
    /// What proxies have seen and the tokens of robots, for those who want it.
    pub(super) store: Option<Arc<MemoryMetadata>>,
    pub(super) operator: Operator,
    pub(super) leader: watch::Sender<Option<Leadership>>,
    changes: mpsc::Sender<Change>,
    scope: Scope,
    ceilings: Ceilings,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Ceilings::default(), None)
    }

    pub(super) fn with(ceilings: Ceilings, scope: Scope) -> Self {
        let (cluster, sink) = (Arc::default(), Arc::new(MemorySink::default()));
        let (operator, leader, changes) = operator(&cluster, &sink, None, &ceilings, &scope, 1);
        let mut bench = Bench { cluster, sink, store: None, operator, leader, changes, scope, ceilings };
        bench.list();
        bench
    }

    /// With a store of observations and tokens.
    pub(super) async fn with_store() -> Self {
        let mut bench = Self::new();
        bench.store = Some(Arc::default());
        bench.restart().await;
        bench
    }

    /// Shows the operator that it has seen everything.
    fn list(&mut self) {
        let namespaces: Vec<Option<String>> = match &self.scope {
            None => vec![None],
            Some(all) => all.iter().cloned().map(Some).collect(),
        };
        let present = self.cluster().objects.keys().cloned().collect();
        self.list_these(&namespaces, present);
    }

    /// Shows the operator that there is nothing else in one namespace than it has seen.
    pub(super) fn list_only(&mut self, namespace: &str) {
        let seen = self.operator.seen();
        self.list_these(&[Some(namespace.to_owned())], seen);
    }

    fn list_these(&mut self, namespaces: &[Option<String>], present: BTreeSet<ObjectRef>) {
        for kind in Kind::ALL {
            for namespace in namespaces.iter().cloned() {
                self.send(Change::Listed { kind, namespace, present: present.clone() });
            }
        }
    }

    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    /// Puts another operator in its place, which has to find out everything by itself.
    pub(super) async fn restart(&mut self) {
        self.restart_blind().await;
        let all: Vec<Value> = self.cluster().objects.values().cloned().collect();
        for object in all {
            self.show(&object);
        }
        self.operator.work().await;
        self.list();
        self.settle().await;
    }

    /// Starts the operator anew with no power for namespaces.
    pub(super) async fn lower_ceilings(&mut self) {
        self.ceilings = Ceilings::default();
        self.restart().await;
    }

    /// Starts the operator anew for one namespace.
    pub(super) async fn watch_only(&mut self, namespace: &str) {
        self.scope = Some(BTreeSet::from([namespace.to_owned()]));
        self.restart().await;
    }

    /// Starts the operator anew, and shows it nothing yet.
    pub(super) async fn restart_blind(&mut self) {
        let epoch = self.sink.epoch().await.unwrap() + 1;
        let (operator, leader, changes) =
            operator(&self.cluster, &self.sink, self.store.as_ref(), &self.ceilings, &self.scope, epoch);
        (self.operator, self.leader, self.changes) = (operator, leader, changes);
    }

    fn send(&mut self, change: Change) {
        self.operator.take(change);
    }

    /// Shows the operator an object as a watch does.
    pub(super) fn show(&mut self, object: &Value) {
        let Some(kind) = custom_kind(object["kind"].as_str().unwrap_or_default()) else {
            let reference = reference(object);
            let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            self.send(Change::Reference(reference, version));
            return;
        };
        let seen = Seen::read(kind, serde_json::from_value(object.clone()).unwrap()).unwrap();
        if self.operator.wants(&seen.object.namespace) {
            self.send(Change::Seen(Box::new(seen)));
        }
    }

    /// Creates or changes an object, as `kubectl apply` does, and shows it.
    pub(super) fn apply(&mut self, manifest: &Value) -> ObjectRef {
        let object = reference(manifest);
        let stored = {
            let mut cluster = self.cluster();
            cluster.made += 1;
            let made = cluster.made;
            let mut stored = manifest.clone();
            let before = cluster.objects.get(&object);
            let metadata = before.map_or_else(
                || {
                    json!({
                        "uid": format!("uid-{made:06}"), "generation": 0,
                        "creationTimestamp": format!("2026-01-01T{:02}:{:02}:{:02}Z", made / 3600, made / 60 % 60, made % 60),
                    })
                },
                |before| before["metadata"].clone(),
            );
            let generation = metadata["generation"].as_i64().unwrap_or_default();
            let is_changed = before.is_none_or(|before| before["spec"] != stored["spec"]);
            for field in ["uid", "creationTimestamp", "finalizers"] {
                if let Some(value) = metadata.get(field) {
                    stored["metadata"][field] = value.clone();
                }
            }
            stored["metadata"]["generation"] = json!(generation + i64::from(is_changed));
            stored["metadata"]["resourceVersion"] = json!(made.to_string());
            if let Some(status) = before.and_then(|before| before.get("status")) {
                stored["status"] = status.clone();
            }
            cluster.objects.insert(object.clone(), stored.clone());
            stored
        };
        self.show(&stored);
        object
    }

    /// Whether an object of another type is there.
    pub(super) fn has_other_type(&self, manifest: &Value) -> bool {
        let cluster = self.cluster();
        let before = cluster.objects.get(&reference(manifest));
        before.is_some_and(|before| before["spec"]["type"] != manifest["spec"]["type"])
    }

    /// Shows that an object is gone.
    pub(super) fn gone(&mut self, object: &ObjectRef) {
        self.send(Change::Gone(object.clone()));
    }

    /// Deletes an object as `kubectl delete` does: one with a finalizer stays for a while.
    pub(super) fn delete(&mut self, object: &ObjectRef) {
        self.delete_since(object, Duration::ZERO);
    }

    /// As [`Bench::delete`], some time ago.
    pub(super) fn delete_since(&mut self, object: &ObjectRef, ago: Duration) {
        let shown = {
            let mut cluster = self.cluster();
            cluster.made += 1;
            let since =
                k8s_openapi::jiff::Timestamp::now().as_second() - i64::try_from(ago.as_secs()).unwrap();
            let now = k8s_openapi::jiff::Timestamp::from_second(since).unwrap().to_string();
            let Some(found) = cluster.objects.get_mut(object) else { return };
            if found["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty()) {
                found["metadata"]["deletionTimestamp"] = json!(now);
                Some(found.clone())
            } else {
                cluster.objects.remove(object);
                None
            }
        };
        match shown {
            Some(shown) => self.show(&shown),
            None if custom_kind(object.kind).is_some() => self.send(Change::Gone(object.clone())),
            None => self.send(Change::Reference(object.clone(), None)),
        }
    }

    /// Has the operator do everything there is to do now.
    pub(super) async fn settle(&mut self) {
        for _ in 0..50 {
            self.operator.work().await;
            if self.operator.is_idle() {
                return;
            }
            let mut letters = self.operator.deliver().await;
            letters.append(&mut self.cluster().written);
            // Watches show what was written.
            for object in letters {
                let shown = self.cluster().objects.get(&object).cloned();
                match shown {
                    Some(shown) => self.show(&shown),
                    None if custom_kind(object.kind).is_some() => self.send(Change::Gone(object)),
                    None => self.send(Change::Reference(object, None)),
                }
            }
        }
        panic!("the operator does not come to rest");
    }

    /// Has the operator look at upstreams, and do everything there is to do then.
    pub(super) async fn look(&mut self) {
        self.operator.look_soon();
        self.settle().await;
    }

    /// Lets purges take their time, and objects go that waited for them.
    pub(super) async fn wait_for_purges(&mut self) {
        while self.operator.is_purging() {
            self.operator.purge().await;
            let written = self.operator.deliver().await;
            assert!(written.is_empty(), "{written:?}");
            let gone: Vec<ObjectRef> = self.operator.held().into_iter().collect();
            for object in gone {
                if !self.cluster().objects.contains_key(&object) {
                    self.send(Change::Gone(object));
                }
            }
            self.settle().await;
        }
    }

    /// Gives the operator an empty sink at its next start.
    pub(super) fn forget_sink(&mut self) {
        self.sink = Arc::default();
    }

    /// Ready's status and reason of everything.
    pub(super) fn statuses(&self) -> Vec<(ObjectRef, String)> {
        let custom: Vec<ObjectRef> =
            self.cluster().objects.keys().filter(|it| custom_kind(it.kind).is_some()).cloned().collect();
        // Messages may name what was there when they were written.
        let word = |object: &ObjectRef| self.ready(object).split(':').next().unwrap_or_default().to_owned();
        custom.into_iter().map(|object| (object.clone(), word(&object))).collect()
    }

    /// Status and reason of a condition of an object.
    pub(super) fn condition(&self, object: &ObjectRef, kind: &str) -> Option<(String, String)> {
        let cluster = self.cluster();
        let status = &cluster.objects.get(object)?["status"];
        let (status, reason) = crate::conditions::status_of(status, kind)?;
        Some((status.to_owned(), reason.to_owned()))
    }

    /// Ready's status, reason and message.
    pub(super) fn ready(&self, object: &ObjectRef) -> String {
        let cluster = self.cluster();
        let conditions =
            cluster.objects[object]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|one| one["type"] == "Ready");
        ready.map_or_else(
            || "nothing".into(),
            |one| {
                let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
                format!("{} {}: {}", text("status"), text("reason"), text("message"))
            },
        )
    }

    /// How many requests there were that write.
    pub(super) fn writes(&self) -> usize {
        self.cluster().requests.iter().filter(|line| !line.starts_with("GET")).count()
    }

    /// Kinds and names of everything stored.
    pub(super) async fn stored(&self) -> Vec<String> {
        let contents = self.sink.load().await.unwrap();
        contents.rows.iter().map(|row| row.object.to_string()).collect()
    }

    /// Repositories that exist.
    pub(super) async fn repositories(&self) -> Vec<String> {
        let records = self.sink.load().await.unwrap().records.unwrap();
        let text = |it: &artifactapi_stores::postgres::Declared| {
            format!("{}/{} {} {}", it.namespace, it.name, it.package_type, it.base_url).trim_end().to_owned()
        };
        records.repositories.iter().map(text).collect()
    }
}

/// Which object a manifest is.
pub(super) fn reference(manifest: &Value) -> ObjectRef {
    let text = |pointer| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ObjectRef {
        kind: crate::seen::known_kind(&text("/kind")).unwrap(),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
    }
}

fn operator(
    cluster: &Arc<Mutex<Cluster>>,
    sink: &Arc<MemorySink>,
    store: Option<&Arc<MemoryMetadata>>,
    ceilings: &Ceilings,
    scope: &Scope,
    epoch: i64,
) -> (Operator, watch::Sender<Option<Leadership>>, mpsc::Sender<Change>) {
    let (changes, received) = mpsc::channel(16);
    let leadership = Leadership { epoch, until: Instant::now() + Duration::from_secs(3_600) };
    let leader = watch::Sender::new(Some(leadership));
    let parts = Parts {
        client: client_of(cluster),
        sink: sink.clone(),
        source: store.map(|store| Arc::new(Tables(store.clone())) as _),
        accounts: store.map(|store| store.clone() as _),
        ceilings: ceilings.clone(),
        public_url: Some(PublicUrl::parse("https://packages.test").unwrap()),
        changes: received,
        leader: leader.subscribe(),
        floor: watch::Sender::new(0),
        metrics: Arc::default(),
        progress: Progress::default(),
        name_grace: GRACE,
    };
    (Operator::new(parts, World::new(scope.clone())), leader, changes)
}

fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": kind,
        "metadata": { "namespace": namespace, "name": name }, "spec": spec,
    })
}

pub(super) fn remote(namespace: &str, name: &str, spec: Value) -> Value {
    let mut whole = json!({ "type": "npm", "baseURL": format!("https://{name}.test/") });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    object("Remote", namespace, name, whole)
}

pub(super) fn virt(namespace: &str, name: &str, members: &[&str]) -> Value {
    object("Virtual", namespace, name, json!({ "type": "npm", "members": members }))
}

pub(super) fn local(namespace: &str, name: &str, policy: &str) -> Value {
    object("Local", namespace, name, json!({ "type": "docker", "deletionPolicy": policy }))
}

pub(super) fn robot(namespace: &str, name: &str) -> Value {
    let grants = json!([{ "repositories": ["*"], "actions": ["pull"] }]);
    object("Robot", namespace, name, json!({ "grants": grants }))
}

pub(super) fn secret(namespace: &str, name: &str, entries: &[(&str, &str)]) -> Value {
    let data: BTreeMap<&str, String> =
        entries.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "namespace": namespace, "name": name }, "data": data,
    })
}
