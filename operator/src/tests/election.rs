//! Who leads, against an API that keeps one Lease and says no to whoever has not seen its latest version.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::lease::{Candidate, Leadership, NAME};

/// The API server's Lease.
#[derive(Default)]
struct Api {
    lease: Option<Value>,
    version: u64,
    is_down: bool,
    /// What was asked for.
    paths: BTreeSet<String>,
}

impl Api {
    fn answer(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        let refuse = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                "reason": reason, "message": "no",
            });
            (code, status)
        };
        if self.is_down {
            return refuse(500);
        }
        let mut sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method.as_str(), &self.lease) {
            ("GET", Some(lease)) => return (200, lease.clone()),
            ("GET", None) => return refuse(404),
            ("POST", Some(_)) => return refuse(409),
            ("PUT", Some(lease))
                if lease["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] =>
            {
                return refuse(409);
            }
            ("POST", None) | ("PUT", Some(_)) => {}
            _ => return refuse(404),
        }
        self.version += 1;
        sent["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(sent.clone());
        (200, sent)
    }

    fn holder(&self) -> String {
        let holder = self.lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str());
        holder.unwrap_or_default().to_owned()
    }
}

struct Party {
    outcome: watch::Receiver<Option<Leadership>>,
    stop: CancellationToken,
    idle: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Party {
    fn leads(&self) -> Option<i64> {
        self.outcome.borrow().filter(Leadership::holds).map(|leadership| leadership.epoch)
    }

    async fn leave(self) {
        self.stop.cancel();
        self.idle.notify_one();
        self.task.await.unwrap();
    }

    /// It does nothing any more, as if it were stopped or its machine gone.
    fn freeze(&self) {
        self.task.abort();
    }
}

fn party(api: &Arc<Mutex<Api>>, identity: &str, floor: &watch::Sender<i64>) -> Party {
    party_of(NAME, api, identity, floor)
}

fn party_of(lease: &str, api: &Arc<Mutex<Api>>, identity: &str, floor: &watch::Sender<i64>) -> Party {
    let api = api.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let api = api.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await?.to_bytes();
            let mut api = api.lock().unwrap();
            api.paths.insert(head.uri.path().to_owned());
            let (code, answer) = api.answer(&head.method, &body);
            drop(api);
            let response = Response::builder().status(code).header("content-type", "application/json");
            Ok::<_, kube::Error>(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    let client = Client::new(service, "operators");
    let candidate = Candidate::new(&client, ("operators", lease), identity.into(), floor.subscribe());
    let (outcome, stop, idle) = (candidate.outcome(), CancellationToken::new(), Arc::new(Notify::new()));
    let task = tokio::spawn(candidate.run(stop.clone(), idle.clone()));
    Party { outcome, stop, idle, task }
}

async fn until(what: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not happen");
        sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_gives_the_lease_back() {
    let (api, floor) = (Arc::default(), watch::Sender::new(0));
    let first = party(&api, "first", &floor);
    until(|| first.leads() == Some(1)).await;
    let second = party(&api, "second", &floor);
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!((first.leads(), second.leads()), (Some(1), None));
    }
    first.leave().await;
    assert_eq!(api.lock().unwrap().holder(), "", "it is nobody's");
    let took = until(|| second.leads() == Some(2)).await;
    assert!(took <= Duration::from_secs(4), "{took:?}");
}

/// Two releases in one namespace have a lease each.
#[tokio::test(start_paused = true)]
async fn an_election_is_about_the_lease_it_was_told() {
    let (api, floor) = (Arc::<Mutex<Api>>::default(), watch::Sender::new(0));
    let party = party_of("packages-operator", &api, "first", &floor);
    until(|| party.leads() == Some(1)).await;
    party.leave().await;
    let api = api.lock().unwrap();
    assert_eq!(api.lease.as_ref().unwrap()["metadata"]["name"], "packages-operator");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/operators/leases";
    assert_eq!(Vec::from_iter(&api.paths), [leases, &format!("{leases}/packages-operator")]);
}

#[tokio::test(start_paused = true)]
async fn rs_130_one_that_sleeps_is_followed_and_two_never_lead() {
    let (api, floor) = (Arc::default(), watch::Sender::new(0));
    let first = party(&api, "first", &floor);
    until(|| first.leads() == Some(1)).await;
    let second = party(&api, "second", &floor);
    sleep(Duration::from_secs(5)).await;
    first.freeze();
    let took = until(|| {
        assert!(first.leads().is_none() || second.leads().is_none(), "one at a time");
        second.leads() == Some(2)
    })
    .await;
    assert!(took >= Duration::from_secs(13) && took <= Duration::from_secs(20), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_api_nobody_leads_and_after_it_the_same_goes_on() {
    let (api, floor) = (Arc::<Mutex<Api>>::default(), watch::Sender::new(0));
    let only = party(&api, "only", &floor);
    until(|| only.leads() == Some(1)).await;
    api.lock().unwrap().is_down = true;
    let took = until(|| only.outcome.borrow().is_none()).await;
    assert!(took <= Duration::from_secs(13), "{took:?}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(only.leads(), None);
    api.lock().unwrap().is_down = false;
    let took = until(|| only.leads() == Some(1)).await;
    assert!(took <= Duration::from_secs(4), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_epoch_is_above_every_earlier_even_when_the_lease_was_deleted() {
    let (api, floor) = (Arc::<Mutex<Api>>::default(), watch::Sender::new(41));
    let first = party(&api, "first", &floor);
    until(|| first.leads() == Some(42)).await;
    // The sink has seen a higher one: from a backup, or a Lease of another cluster.
    floor.send_replace(99);
    until(|| first.leads() == Some(100)).await;
    api.lock().unwrap().lease = None;
    floor.send_replace(100);
    until(|| first.leads() == Some(101)).await;
}
