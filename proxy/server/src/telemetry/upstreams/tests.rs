//! What is seen of upstreams, and when it is told.

use artifactapi_crds::set::Set;
use artifactapi_model::{
    Epoch,
    clock::ManualClock,
    observation::{RateLeft, Verdict},
    ports::upstream::{Layer, UpstreamError, UrlSource},
    repository::Credentials,
};
use http::StatusCode;

use super::*;

fn remote(with_credentials: bool) -> Remote {
    let text = "apiVersion: artifactapi.io/v1alpha1\nkind: Remote\nmetadata: {name: r}\n\
                spec: {type: generic, baseURL: \"https://up.test/\"}\n";
    let mut spec = Arc::unwrap_or_clone(Set::load(vec![("r.yaml".into(), text.into())]).remotes.remove(0));
    if with_credentials {
        spec.credentials = Some(Credentials::Basic { username: "u".into(), password: "c4n4ry".into() });
    }
    Remote { identity: RepoIdentity { id: RepoId(1), epoch: Epoch(1) }, spec: Arc::new(spec) }
}

fn answered(status: u16) -> Outcome<'static> {
    let result = Ok(StatusCode::from_u16(status).unwrap());
    Outcome { result, recognised: false, credentials: None, left: None, url_source: UrlSource::Configured }
}

fn failed(error: &UpstreamError) -> Outcome<'_> {
    Outcome { result: Err(error), ..answered(200) }
}

fn broken(layer: Layer) -> UpstreamError {
    UpstreamError::Broken { host: "up.test:443".into(), layer, message: "it broke".into() }
}

fn word(track: &artifactapi_model::observation::Track) -> String {
    match track.verdict() {
        Verdict::Unknown => "-".into(),
        Verdict::Good => "good".into(),
        Verdict::Bad(bad) => format!("{} {:?}", bad.layer.as_str(), bad.status),
    }
}

#[test]
fn every_outcome_says_what_it_says_and_no_more() {
    let refused = UpstreamError::Refused { host: "up.test:443".into(), message: "401".into() };
    let forbidden = UpstreamError::Forbidden { host: "up.test:443".into(), reason: "private".into() };
    let timeout =
        UpstreamError::Timeout { host: "h".into(), layer: Layer::Connect, limit: Duration::from_secs(3) };
    let pause = UpstreamError::Paused { host: "h".into(), retry_after: Duration::from_secs(3) };
    let shown = |status, accepted| Outcome { credentials: Some(accepted), ..answered(status) };
    let of_index = |outcome| Outcome { url_source: UrlSource::Index, ..outcome };
    let (dns, tls) = (broken(Layer::Dns), broken(Layer::Tls));
    for (with_credentials, outcome, want) in [
        (false, answered(200), Some(["good", "-"])),
        (false, answered(404), Some(["good", "-"])),
        (false, answered(403), Some(["good", "-"])),
        (false, answered(501), Some(["good", "-"])),
        (false, answered(503), Some(["HTTP Some(503)", "-"])),
        (false, answered(429), Some(["HTTP Some(429)", "-"])),
        (false, answered(401), Some(["authentication Some(401)", "-"])),
        (false, Outcome { recognised: true, ..answered(401) }, Some(["good", "-"])),
        (true, answered(401), Some(["good", "-"])),
        (true, shown(401, false), Some(["good", "authentication Some(401)"])),
        (true, shown(200, true), Some(["good", "good"])),
        (true, shown(404, true), Some(["good", "good"])),
        (
            true,
            Outcome { credentials: Some(false), ..failed(&refused) },
            Some(["good", "authentication None"]),
        ),
        (false, failed(&dns), Some(["DNS None", "-"])),
        (false, failed(&tls), Some(["TLS None", "-"])),
        (false, failed(&timeout), Some(["connect None", "-"])),
        (false, failed(&forbidden), Some(["connect None", "-"])),
        (false, of_index(failed(&forbidden)), None),
        (false, failed(&pause), None),
        (false, failed(&UpstreamError::Saturated), None),
    ] {
        let seen = outcome::observation(&remote(with_credentials).spec, &outcome, Timestamp(1));
        let words = seen.as_ref().map(|seen| [word(&seen.upstream), word(&seen.credentials)]);
        assert_eq!(words, want.map(|words| words.map(str::to_owned)), "{outcome:?}");
        assert!(!format!("{seen:?}").contains("c4n4ry"));
    }
    let seen =
        outcome::observation(&remote(false).spec, &Outcome { left: Some(7), ..answered(200) }, Timestamp(1));
    assert_eq!(seen.unwrap().rate, Some(RateLeft { at: Timestamp(1), left: 7 }));
}

struct Bench {
    clock: Arc<ManualClock>,
    gatherer: Arc<Gatherer>,
    watcher: Watcher,
    remote: Remote,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let gatherer = Arc::new(Gatherer::default());
        let watcher = Watcher::new(gatherer.clone(), clock.clone());
        Bench { clock, gatherer, watcher, remote: remote(false) }
    }

    fn see(&self, outcome: Outcome<'_>) {
        self.watcher.on_outcome(&self.remote, outcome);
    }

    /// Tells what is due; how much that was.
    fn tell(&self) -> usize {
        let now = self.clock.now();
        let due = self.gatherer.due(now);
        let all: Vec<_> = due.iter().map(|seen| seen.identity).collect();
        self.gatherer.told(&due, &all, now);
        due.len()
    }

    /// In how many of so many seconds something is told.
    fn told_within(&self, seconds: usize, outcome: impl Fn(usize) -> Outcome<'static>) -> usize {
        let second = |number| {
            (0..50).for_each(|_| self.see(outcome(number)));
            self.clock.advance(Duration::from_secs(1));
            self.tell()
        };
        (0..seconds).map(second).sum()
    }
}

#[test]
fn traffic_is_told_of_once_a_minute_and_trouble_once_in_ten_seconds() {
    let bench = Bench::new();
    assert_eq!(bench.tell(), 0);
    bench.see(answered(200));
    assert_eq!((bench.tell(), bench.tell()), (1, 0), "the first at once");
    assert_eq!(bench.told_within(120, |_| answered(200)), 2);
    assert_eq!(bench.told_within(30, |_| answered(503)), 1, "when it is news");
    assert_eq!(bench.told_within(60, |second| answered(if second % 2 == 0 { 200 } else { 503 })), 6);
}

#[test]
fn what_another_has_just_written_is_told_later() {
    let bench = Bench::new();
    bench.see(answered(200));
    let due = bench.gatherer.due(bench.clock.now());
    bench.gatherer.told(&due, &[], bench.clock.now());
    assert_eq!(bench.tell(), 1);
    // What is seen while it is being told is not lost.
    bench.clock.advance(ROUTINE);
    bench.see(answered(200));
    let due = bench.gatherer.due(bench.clock.now());
    bench.clock.advance(Duration::from_secs(1));
    bench.see(answered(503));
    bench.gatherer.told(&due, &[bench.remote.identity], bench.clock.now());
    bench.clock.advance(ROUTINE);
    assert_eq!(bench.tell(), 1);
}

#[test]
fn a_breaker_is_told_of_every_remote_of_its_host() {
    let bench = Bench::new();
    bench.see(answered(200));
    assert_eq!(bench.tell(), 1);
    let step = || {
        bench.clock.advance(SPACING);
        let due = bench.gatherer.due(bench.clock.now());
        bench.tell();
        due.first().and_then(|seen| seen.observation.breaker).map(|breaker| breaker.step)
    };
    bench.watcher.on_breaker("other.test:443", BreakerState::Open);
    assert_eq!(step(), None);
    bench.watcher.on_breaker("up.test:443", BreakerState::Open);
    assert_eq!(step(), Some(BreakerStep::Open));
    bench.watcher.on_breaker("up.test:443", BreakerState::Closed);
    assert_eq!(step(), Some(BreakerStep::Closed));
}

#[test]
fn a_breaker_behind_a_proxy_is_told_of_those_who_go_by_that_proxy() {
    let mut bench = Bench::new();
    bench.see(answered(200));
    Arc::make_mut(&mut bench.remote.spec).egress.proxy_url = "http://proxy.test:3128".parse().ok();
    bench.see(answered(200));
    for (host, step) in
        [("up.test:443", None), ("up.test:443 through http://proxy.test:3128", Some(BreakerStep::Open))]
    {
        bench.watcher.on_breaker(host, BreakerState::Open);
        let due = bench.gatherer.due(bench.clock.now());
        assert_eq!(due[0].observation.breaker.map(|breaker| breaker.step), step, "{host}");
    }
}

#[test]
fn a_confirmed_failure_counts_at_once_and_another_epoch_begins_anew() {
    let bench = Bench::new();
    bench.see(answered(200));
    bench.clock.advance(Duration::from_secs(1));
    let started = bench.clock.now();
    let error = broken(Layer::Dns);
    bench.see(failed(&error));
    let verdict = |bench: &Bench| {
        let seen = bench.gatherer.due(bench.clock.now()).pop().unwrap();
        word(&seen.observation.upstream)
    };
    assert_eq!(verdict(&bench), "good", "one failure");
    bench.gatherer.confirm(&bench.remote, started);
    assert_eq!(verdict(&bench), "DNS None");
    let old = bench.remote.clone();
    let mut new = bench.remote.clone();
    new.identity.epoch = Epoch(2);
    bench.watcher.on_outcome(&new, answered(200));
    bench.watcher.on_outcome(&old, failed(&error));
    assert_eq!(verdict(&bench), "good");
    bench.gatherer.keep_only(&HashSet::new());
    assert_eq!(bench.tell(), 0);
}
