//! The gate over accounts in memory, with time in hand.

use artifactapi_crds::set::Set;
use artifactapi_model::{
    Epoch, Remote, RepoId, Timestamp,
    account::{Robot, RobotKey},
    clock::ManualClock,
    ports::accounts,
    repository::{ReadAccess, RepoIdentity},
};
use artifactapi_stores::MemoryMetadata;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use super::*;
use crate::{
    config::{Repository, Snapshot, snapshot::Known},
    http::body::Source,
    telemetry::Metrics,
};

const HERE: &str = "192.0.2.1";
const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    store: Arc<MemoryMetadata>,
    gate: Gate,
    clock: Arc<ManualClock>,
    snapshot: Arc<Snapshot>,
}

/// Repositories: `open` and `closed` of type docker.
fn snapshot() -> Arc<Snapshot> {
    let remote = |name: &str, read: &str| {
        let text = format!(
            "apiVersion: artifactapi.io/v1alpha1\nkind: Remote\nmetadata: {{name: {name}}}\n\
             spec: {{type: docker, baseURL: \"https://up.test/\", access: {{read: {read}}}}}\n"
        );
        let loaded = Set::load(vec![("x.yaml".into(), text)]);
        assert!(loaded.errors.is_empty(), "{:?}", loaded.errors);
        let spec = loaded.remotes.into_iter().next().unwrap();
        let identity = RepoIdentity { id: RepoId(1), epoch: Epoch(1) };
        let metrics = Metrics::new().repository(&spec.name, spec.package_type);
        Known::Remote(Arc::new(Repository::new(Remote { identity, spec }, metrics)))
    };
    let mut snapshot = Snapshot::default();
    for (name, read) in [("open", "anonymous"), ("closed", "authenticated")] {
        snapshot.add(name.parse().unwrap(), remote(name, read));
    }
    Arc::new(snapshot)
}

fn robot(grants: &[&str]) -> Robot {
    let key = RobotKey { namespace: "default".into(), name: "ci".parse().unwrap() };
    Robot { key, grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(), token_ttl: None }
}

impl Bench {
    fn new() -> Self {
        let store = Arc::new(MemoryMetadata::default());
        let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000_000)));
        let gate = Gate::new(store.clone(), &[7; 32], clock.clone());
        Bench { store, gate, clock, snapshot: snapshot() }
    }

    /// A token of the robot `ci`, which gets these grants.
    async fn token(&self, grants: &[&str]) -> RobotToken {
        let (robot, token) = (robot(grants), RobotToken::generate().unwrap());
        assert!(self.store.put_robot(&robot).await.unwrap());
        self.store.add_token(&robot.key, &token.hash(), None, accounts::Source::Hand).await.unwrap().unwrap();
        token
    }

    async fn wait(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }

    /// Status of doing `action` in a closed repository with these credentials.
    async fn status(&self, authorization: &str, action: Action) -> u16 {
        match self.refused(authorization, "closed", action).await {
            None => 200,
            Some(refused) => refused.status.as_u16(),
        }
    }

    async fn refused(&self, authorization: &str, name: &str, action: Action) -> Option<Refused> {
        let name = name.parse().unwrap();
        let repository = Protected {
            namespace: "default",
            name: &name,
            read: ReadAccess::Authenticated,
            anonymous_write: false,
        };
        let parts = parts(Method::GET, "/", authorization);
        match self.gate.caller(&parts, HERE.parse().unwrap(), name.as_str(), action).await {
            Ok(caller) => self.gate.require(&caller, &repository, name.as_str(), action).err(),
            Err(refused) => Some(refused),
        }
    }

    /// The answer to a GET of `/token`.
    async fn trade(&self, query: &str, authorization: &str) -> Result<String, u16> {
        self.trade_by(parts(Method::GET, &format!("/token?{query}"), authorization), Bytes::new()).await
    }

    async fn trade_by(&self, parts: Parts, form: Bytes) -> Result<String, u16> {
        let traded = self.gate.trade(&parts, HERE.parse().unwrap(), &form, &self.snapshot).await;
        let (response, _) = traded.map_err(|refused| refused.status.as_u16())?;
        let Source::Memory(text) = response.body().source() else { panic!("it is in memory") };
        let document: Value = serde_json::from_slice(text).unwrap();
        assert_eq!((&document["token"], &document["expires_in"]), (&document["access_token"], &300.into()));
        assert!(document["issued_at"].as_str().unwrap().starts_with("2027-01-15T08:"), "{document}");
        Ok(document["token"].as_str().unwrap().to_owned())
    }
}

fn parts(method: Method, target: &str, authorization: &str) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    if !authorization.is_empty() {
        request = request.header("authorization", authorization);
    }
    request.body(()).unwrap().into_parts().0
}

fn basic(token: &RobotToken) -> String {
    format!("Basic {}", STANDARD.encode(format!("anyone:{}", token.expose())))
}

fn wrong() -> String {
    basic(&RobotToken::generate().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_as_good_as_its_grants() {
    let bench = Bench::new();
    let token = bench.token(&["c*=pull", "other=push"]).await;
    for shown in [basic(&token), format!("Bearer {}", token.expose())] {
        assert_eq!(bench.status(&shown, Action::Pull).await, 200);
        assert_eq!(bench.status(&shown, Action::Push).await, 403);
        assert!(bench.refused(&shown, "other", Action::Push).await.is_none());
        let refused = bench.refused(&shown, "other", Action::Pull).await.unwrap();
        assert_eq!(refused.message, "robot default/ci has no grant to pull in other");
    }
    for shown in
        [String::new(), wrong(), "Basic !!!".into(), "Bearer x".into(), "Bearer aapi-s1.e30.x".into()]
    {
        let refused = bench.refused(&shown, "closed", Action::Push).await.unwrap();
        assert_eq!(refused.status, 401, "{shown}");
        let scope = refused.challenge.unwrap().scope.unwrap();
        assert_eq!(scope, "repository:closed:pull,push", "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn rs_54_a_right_that_is_taken_away_ends_within_a_minute_and_at_once_where_it_is_heard() {
    let bench = Bench::new();
    let token = bench.token(&["*=pull"]).await;
    let shown = basic(&token);
    assert_eq!(bench.status(&shown, Action::Pull).await, 200);
    bench.store.put_robot(&robot(&["*=push"])).await.unwrap();
    bench.gate.hear(&Notice::Accounts);
    assert_eq!(bench.status(&shown, Action::Pull).await, 403);
    assert_eq!(bench.status(&shown, Action::Push).await, 200);
    bench.store.revoke_token(&token.id()).await.unwrap();
    bench.wait(MINUTE).await;
    assert_eq!(bench.status(&shown, Action::Push).await, 401);
}

#[tokio::test(start_paused = true)]
async fn the_database_is_asked_once_for_all_who_show_the_same() {
    let bench = Bench::new();
    let (token, unknown) = (bench.token(&["*=pull"]).await, wrong());
    let shown = basic(&token);
    let calls = bench.store.calls();
    for _ in 0..3 {
        let all = (0..20).map(|_| bench.status(&shown, Action::Pull));
        assert!(futures_util::future::join_all(all).await.iter().all(|status| *status == 200));
        assert_eq!(bench.status(&unknown, Action::Pull).await, 401);
    }
    assert_eq!(bench.store.calls() - calls, 2);
    bench.wait(MINUTE / 2).await;
    assert_eq!(bench.status(&shown, Action::Pull).await, 200);
    assert_eq!(bench.store.calls() - calls, 3);
    bench.gate.record_uses().await.unwrap();
    assert!(bench.store.tokens().await.unwrap()[0].used_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn rs_85_without_the_database_who_was_known_is_known_for_five_minutes() {
    let bench = Bench::new();
    let (token, late) = (bench.token(&["*=pull"]).await, bench.token(&["*=pull"]).await);
    let shown = basic(&token);
    assert_eq!(bench.status(&shown, Action::Pull).await, 200);
    bench.store.set_down(true);
    for _ in 0..4 {
        bench.wait(MINUTE).await;
        assert_eq!(bench.status(&shown, Action::Pull).await, 200);
        assert_eq!(bench.status(&basic(&late), Action::Pull).await, 503, "nobody knows this one");
        assert_eq!(bench.status("", Action::Pull).await, 401);
    }
    bench.wait(MINUTE).await;
    let refused = bench.refused(&shown, "closed", Action::Pull).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.retry_after), (503, Some(SOON)));
    bench.store.set_down(false);
    bench.wait(SOON).await;
    assert_eq!(bench.status(&shown, Action::Pull).await, 200);
}

#[tokio::test(start_paused = true)]
async fn who_guesses_has_to_wait_and_who_is_known_has_not() {
    let bench = Bench::new();
    let shown = basic(&bench.token(&["*=pull"]).await);
    assert_eq!(bench.status(&shown, Action::Pull).await, 200);
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(bench.status(&wrong(), Action::Pull).await);
    }
    assert_eq!((statuses[29], statuses[30], statuses[39]), (401, 429, 429));
    let calls = bench.store.calls();
    let refused = bench.refused(&wrong(), "closed", Action::Pull).await.unwrap();
    assert!(refused.retry_after.is_some());
    assert_eq!(bench.store.calls(), calls, "the database has its peace");
    assert_eq!(bench.status(&shown, Action::Pull).await, 200);
    assert_eq!(bench.status("", Action::Pull).await, 401, "who shows nothing has not failed");
    assert!(bench.trade("scope=repository:open/a:pull", &wrong()).await.is_ok(), "what is open stays so");
    bench.wait(MINUTE).await;
    assert_eq!(bench.status(&wrong(), Action::Pull).await, 401);
}

#[tokio::test(start_paused = true)]
async fn who_fails_locks_out_nobody_else_behind_the_same_address() {
    let bench = Bench::new();
    for _ in 0..35 {
        bench.status(&wrong(), Action::Pull).await;
    }
    let stale = wrong();
    for second in 0..120 {
        bench.status(&wrong(), Action::Pull).await;
        for _ in 0..50 {
            assert_ne!(bench.status(&stale, Action::Pull).await, 200, "the same again and again: {second}");
        }
        let unseen = basic(&bench.token(&["closed=pull"]).await);
        let asks = bench.trade("scope=repository:closed/a:pull", &unseen).await;
        assert!(asks.is_ok(), "{second}");
        let unseen = basic(&bench.token(&["closed=pull"]).await);
        assert_eq!(bench.status(&unseen, Action::Pull).await, 200, "{second}");
        bench.wait(Duration::from_millis(900)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn guesses_of_one_address_ask_the_database_ten_times_a_second_at_most() {
    let bench = Bench::new();
    let guess = async || {
        for _ in 0..100 {
            bench.status(&wrong(), Action::Pull).await;
        }
        bench.store.calls()
    };
    let before = guess().await;
    for _ in 0..10 {
        bench.wait(Duration::from_millis(100)).await;
        guess().await;
    }
    let asked = bench.store.calls() - before;
    assert!((9..=12).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_ours_asks_nobody_and_is_held_against_nobody() {
    let bench = Bench::new();
    let token = RobotToken::generate().unwrap();
    let mistyped = format!("Bearer {}-", &token.expose()[..token.expose().len() - 1]);
    let calls = bench.store.calls();
    for foreign in ["Basic dXNlcjpwYXNzd29yZA==", "Basic !!!", "Bearer x", &mistyped] {
        for _ in 0..100 {
            assert_eq!(bench.status(foreign, Action::Pull).await, 401, "{foreign}");
            assert_eq!(bench.trade("scope=repository:closed/a:pull", foreign).await, Err(401), "{foreign}");
        }
    }
    assert_eq!(bench.store.calls(), calls);
    assert_eq!(bench.status(&wrong(), Action::Pull).await, 401, "this is the first that counts");
}

#[tokio::test(start_paused = true)]
async fn a_short_lived_token_is_good_for_what_was_asked_and_is_allowed() {
    let bench = Bench::new();
    let token = bench.token(&["closed=pull,delete", "other=pull"]).await;
    let query = "service=h&scope=repository:closed/a/b:pull,push&scope=repository:nowhere/x:*";
    let short = format!("Bearer {}", bench.trade(query, &basic(&token)).await.unwrap());
    assert_eq!(bench.status(&short, Action::Pull).await, 200);
    assert_eq!(bench.status(&short, Action::Push).await, 403, "asking gives no right");
    let refused = bench.refused(&short, "closed", Action::Delete).await.unwrap();
    assert_eq!(refused.status, 401, "it can ask for that too");
    assert_eq!(refused.challenge.unwrap().error, Some("insufficient_scope"));
    assert_eq!(bench.refused(&short, "other", Action::Pull).await.unwrap().status, 401);
    assert_eq!(bench.trade("scope=repository:closed:pull", &short).await, Err(401), "it cannot be renewed");

    bench.wait(Duration::from_secs(359)).await;
    assert_eq!(bench.status(&short, Action::Pull).await, 200);
    bench.wait(Duration::from_secs(2)).await;
    let refused = bench.refused(&short, "closed", Action::Pull).await.unwrap();
    assert_eq!(refused.challenge.unwrap().error, Some("invalid_token"));
}

#[tokio::test(start_paused = true)]
async fn rs_54_revoking_a_token_ends_what_it_was_traded_for() {
    let bench = Bench::new();
    let token = bench.token(&["closed=pull"]).await;
    let short = bench.trade("scope=repository:closed/a:pull", &basic(&token)).await.unwrap();
    let short = format!("Bearer {short}");
    assert_eq!(bench.status(&short, Action::Pull).await, 200);
    bench.store.revoke_token(&token.id()).await.unwrap();
    bench.wait(MINUTE).await;
    assert_eq!(bench.status(&short, Action::Pull).await, 401);
}

#[tokio::test(start_paused = true)]
async fn another_replica_reads_the_same_short_lived_tokens() {
    let bench = Bench::new();
    let token = bench.token(&["closed=pull"]).await;
    let short = bench.trade("scope=repository:closed/a:pull", &basic(&token)).await.unwrap();
    let twin = Gate::new(bench.store.clone(), &[7; 32], bench.clock.clone());
    let stranger = Gate::new(bench.store.clone(), &[8; 32], bench.clock.clone());
    let parts = parts(Method::GET, "/", &format!("Bearer {short}"));
    let of = async |gate: &Gate| gate.somebody(&parts.headers, HERE.parse().unwrap()).await;
    assert!(of(&twin).await.unwrap().robot().is_some());
    assert_eq!(of(&stranger).await.unwrap_err().status, 401);
}

#[tokio::test(start_paused = true)]
async fn nobody_in_particular_gets_a_token_and_a_mistake_does_where_all_is_open() {
    let bench = Bench::new();
    let (open, closed) = ("scope=repository:open/library/x:pull", "scope=repository:closed/x:pull");
    let both = format!("{open}&{closed}");
    for query in [open, closed, both.as_str(), "", "service=h"] {
        let short = format!("Bearer {}", bench.trade(query, "").await.unwrap());
        assert_eq!(bench.status(&short, Action::Pull).await, 401, "{query}");
        let headers = parts(Method::GET, "/v2/", &short).headers;
        assert!(bench.gate.somebody(&headers, HERE.parse().unwrap()).await.unwrap().robot().is_none());
    }
    for shown in [wrong(), "Basic !!".into(), "Bearer x".into()] {
        assert!(bench.trade(open, &shown).await.is_ok(), "{shown}");
        for query in
            [closed, both.as_str(), "", "scope=repository:open/x:pull,push", "scope=repository:no:pull"]
        {
            assert_eq!(bench.trade(query, &shown).await, Err(401), "{query} {shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_is_as_good_as_a_header() {
    let bench = Bench::new();
    let token = bench.token(&["closed=pull"]).await;
    let token = token.expose();
    let post = async |form: String| {
        bench.trade_by(parts(Method::POST, "/token", ""), form.into_bytes().into()).await
    };
    let more = "service=h&client_id=x&access_type=offline&scope=repository%3Aclosed%2Fa%3Apull%2Cpush";
    for form in [
        format!("grant_type=password&username=anyone&password={token}&{more}"),
        format!("grant_type=refresh_token&refresh_token={token}&{more}"),
    ] {
        let short = format!("Bearer {}", post(form).await.unwrap());
        assert_eq!(bench.status(&short, Action::Pull).await, 200);
    }
    for (form, want) in [
        (format!("grant_type=password&username=anyone&password=x&{more}"), 401),
        (format!("grant_type=password&{more}"), 401),
        ("grant_type=authorization_code&code=x".into(), 400),
        (String::new(), 400),
        (format!("grant_type=password&x={}", "y".repeat(70_000)), 400),
    ] {
        assert_eq!(post(form.clone()).await, Err(want), "{}", &form[..form.len().min(80)]);
    }
    assert_eq!(bench.trade_by(parts(Method::PUT, "/token", ""), Bytes::new()).await, Err(405));
}
