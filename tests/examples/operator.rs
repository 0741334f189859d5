//! What many objects cost the operator: the measuring half of hack/lib/bench-operator.
//!
//! operator REMOTES VIRTUALS EDITS REST: `REST` are the seconds for which nothing is done but look. Prints a line for
//! each figure.

use std::{
    env, fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use artifactapi_services::Kubernetes;
use artifactapi_tests::{
    Server, Site, Upstream, http,
    kubernetes::{
        Api, Condition,
        roles::{self, install_definitions},
    },
    metrics::samples_at,
    oracle::Percentiles,
    site::Grounds,
    wait,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

const NAMESPACE: &str = "bench";
/// Objects made at the same time, as a busy GitOps tool would.
const AT_ONCE: usize = 16;
/// Members of each Virtual.
const MEMBERS: usize = 10;
/// Pause between two looks at the operator's metrics.
const LOOK: Duration = Duration::from_millis(100);
/// The operator looks every 5 s at what proxies have seen, and they write it every 10 s.
const SETTLED: Duration = Duration::from_secs(30);
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(600);

/// Everything that is measured.
struct World<'a> {
    kubernetes: &'a Kubernetes,
    api: Api,
    site: Site<'a>,
    upstream: Upstream,
    remotes: usize,
    virtuals: usize,
}

fn name(number: usize) -> String {
    format!("r{number}")
}

impl World<'_> {
    fn object(kind: &str, name: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "artifactapi.io/v1alpha1", "kind": kind,
            "metadata": { "name": name, "namespace": NAMESPACE }, "spec": spec,
        })
    }

    fn remote(&self, number: usize, blocklist: &[&str]) -> Value {
        let spec = json!({
            "type": "generic", "baseURL": format!("{}{number}/", self.upstream.url()),
            "egress": { "allowCIDRs": ["127.0.0.0/8"] }, "blocklist": blocklist,
        });
        Self::object("Remote", &name(number), spec)
    }

    fn everything(&self) -> Vec<Value> {
        let virtuals = (0..self.virtuals).map(|number| {
            let members: Vec<String> =
                (0..MEMBERS).map(|member| name((number * MEMBERS + member) % self.remotes)).collect();
            Self::object("Virtual", &format!("v{number}"), json!({ "type": "generic", "members": members }))
        });
        (0..self.remotes).map(|number| self.remote(number, &[])).chain(virtuals).collect()
    }

    async fn create(&self) {
        let all = self.everything();
        let made = stream::iter(&all).map(|one| self.api.create(one, "")).buffer_unordered(AT_ONCE);
        made.for_each(|told| async { drop(told.ok()) }).await;
    }

    /// Waits until the operator that is running has looked at everything and has nothing left to write, by its own count:
    /// listing thousands of objects again and again would be what is measured.
    async fn until_done(&self, operator: &Server, all: usize) {
        let page = operator.page("metrics");
        let done = async || {
            tokio::time::sleep(LOOK).await;
            let samples = samples_at(&page).await;
            let sum = |name: &str| -> f64 {
                let found = samples.iter().filter(|(sample, _)| sample.starts_with(name));
                found.map(|(_, value)| value).sum()
            };
            let waiting =
                sum("artifactapi_operator_queue_depth") + sum("artifactapi_operator_statuses_waiting");
            sum("artifactapi_operator_leader") > 0.0
                && waiting == 0.0
                && sum("artifactapi_operator_reconciles_total") >= all as f64
        };
        wait::until("the operator to have nothing to do", LIMIT, done).await;
    }

    async fn ready(&self) -> usize {
        let mut ready = 0;
        for kind in ["Remote", "Virtual"] {
            let all = self.api.list(kind, NAMESPACE).await;
            ready +=
                all.iter().filter(|one| Condition::of(one, "Ready").is_some_and(|it| it.holds())).count();
        }
        ready
    }

    /// Writes of the operator but those of its lease, by resource.
    fn writes(&self) -> usize {
        let user = format!("system:serviceaccount:{NAMESPACE}:{}", roles::ACCOUNT);
        let audit = self.kubernetes.audit();
        let events = audit.lines().filter(|line| line.contains(&user));
        let is_write = |line: &&str| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            ["create", "update", "patch", "delete"].iter().any(|verb| event["verb"] == *verb)
                && event["objectRef"]["resource"] != "leases"
        };
        events.filter(is_write).count()
    }

    fn version(&self) -> u64 {
        self.site.sql("SELECT version FROM config_version").parse().unwrap_or_default()
    }

    async fn edit(&self, number: usize, round: usize) -> Duration {
        let url = format!("{}probe.bin", self.site.remote(&name(number)));
        let blocked = round.is_multiple_of(2);
        let wanted = if blocked { 403 } else { 200 };
        let manifest = self.remote(number, if blocked { &["^probe[.]bin$"] } else { &[] });
        let start = Instant::now();
        self.api.apply(&manifest).await;
        wait::until(&url, LIMIT, async || http::get(&url).await.status == wanted).await;
        start.elapsed()
    }
}

/// Memory of a process.
fn memory(server: &Server) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
    };
    let [now, anonymous, most] = ["VmRSS:", "RssAnon:", "VmHWM:"].map(field);
    format!("{now:.1} MiB resident ({anonymous:.1} MiB anonymous), {most:.1} MiB resident at most")
}

async fn measure(world: World<'_>, mut operator: Server, edits: usize, rest: Duration) {
    let all = world.remotes + world.virtuals;
    let began = Instant::now();
    world.create().await;
    println!("{all} objects made in {:.1?}", began.elapsed());

    let began = Instant::now();
    operator.start().await;
    wait::until("everything to be stored", LIMIT, async || {
        world.site.sql("SELECT count(*) FROM objects").parse() == Ok(all)
    })
    .await;
    let stored = began.elapsed();
    world.until_done(&operator, all).await;
    let told = began.elapsed();
    let ready = world.ready().await;
    println!(
        "first sync: stored after {stored:.1?}, all statuses written after {told:.1?}; {ready} of {all} are Ready"
    );
    println!("operator's memory: {}", memory(&operator));

    let proxy = world.site.proxy().await;
    wait::until("the first answer", LIMIT, async || {
        http::get(&format!("{}probe.bin", world.site.remote(&name(0)))).await.is_ok()
    })
    .await;
    let mut took = Vec::new();
    for round in 0..edits {
        // Each Remote is blocked, then opened.
        took.push(world.edit(round / 2, round).await);
    }
    println!("one edit until it is served: {} in {edits}", Percentiles::of(took));
    println!("operator's memory after edits: {}", memory(&operator));

    world.until_done(&operator, all).await;
    // What proxies have seen of all upstreams is on its way into the statuses.
    let mut told = world.writes();
    loop {
        tokio::time::sleep(SETTLED).await;
        let now = world.writes();
        if std::mem::replace(&mut told, now) == now {
            break;
        }
    }
    let (writes, version) = (world.writes(), world.version());
    tokio::time::sleep(rest).await;
    println!(
        "steady state for {rest:.0?}: writes to the API: {}, writes to PostgreSQL: {}",
        world.writes() - writes,
        world.version() - version
    );
    operator.stop().await;
    let (writes, version) = (world.writes(), world.version());
    let began = Instant::now();
    operator.start().await;
    world.until_done(&operator, all).await;
    let took = began.elapsed();
    tokio::time::sleep(SETTLED).await;
    println!(
        "restart without change, everything looked at after {took:.1?}: writes to the API: {}, writes to PostgreSQL: {}",
        world.writes() - writes,
        world.version() - version
    );
    println!("operator's memory after the restart: {}", memory(&operator));
    let served = world.edit(edits / 2, 0).await;
    println!("one edit after the restart: served after {served:.1?}");
    drop(proxy);
}

async fn run(remotes: usize, virtuals: usize, edits: usize, rest: usize) -> Result<(), String> {
    let missing = |missing: artifactapi_services::Missing| format!("{} is not installed", missing.0);
    let kubernetes = Kubernetes::start(&[]).map_err(missing)?;
    install_definitions(&kubernetes);
    let grounds = Grounds::start().await.map_err(missing)?;
    let site = Site::new(&grounds, "bench").map_err(missing)?;
    let api = Api::admin(&kubernetes);
    api.namespace(NAMESPACE).await;
    roles::grant(&api, NAMESPACE, Some(&[NAMESPACE.to_owned()])).await;
    let token = api.account_token(NAMESPACE, roles::ACCOUNT).await;
    let mut operator = site.operator();
    operator
        .set("KUBECONFIG", kubernetes.kubeconfig_with(roles::ACCOUNT, &token).to_string_lossy())
        .set("ARTIFACTAPI_NAMESPACE", NAMESPACE)
        .set("ARTIFACTAPI_ALLOW_CIDRS", "127.0.0.0/8");
    let upstream = Upstream::start().await;
    for number in 0..remotes.min(edits) {
        upstream.put(&format!("{number}/probe.bin"), vec![1; 100]);
    }
    let world = World { kubernetes: &kubernetes, api, site, upstream, remotes, virtuals };
    measure(world, operator, edits, Duration::from_secs(rest as u64)).await;
    Ok(())
}

fn main() -> ExitCode {
    let numbers: Vec<usize> = env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [remotes, virtuals, edits, rest] = numbers[..] else {
        eprintln!("operator REMOTES VIRTUALS EDITS REST");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    match runtime.block_on(run(remotes, virtuals, edits, rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
