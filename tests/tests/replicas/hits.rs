//! What a warm hit costs, counted by the proxies and by the services themselves: nothing in SQL, nothing in Redis,
//! at most one call of the object store.

use std::{collections::BTreeMap, time::Duration};

use artifactapi_tests::{
    Cluster, Services, http, metrics,
    replicas::{Options, Replica},
};
use reqwest::Method;
use tokio::time::Instant;

use crate::stock::Stock;

/// Requests of each form.
const HITS: usize = 300;
const STATEMENTS: &str = "artifactapi_sql_statements_total";
/// What tasks of their own do in batches and at intervals, whether there are requests or not.
const BACKGROUND: [&str; 11] = [
    "log_access",
    "touch",
    "ping",
    "config_version",
    "register_replica",
    "live_replicas",
    "take_turn",
    "blob_states",
    "observe",
    "schedule_probes",
    "take_probes",
];

/// The only thing here that changes upstream. Past this age a replica asks the database whether a twin has a newer
/// one: once, however many hits there are.
const REWRITTEN: &str = "rewritten index";
const AGE: Duration = Duration::from_secs(5);

/// What the services have been asked so far, by their own account.
struct Asked {
    redis: u64,
    s3: u64,
}

impl Asked {
    fn now(services: &Services, cluster: &Cluster) -> Self {
        Asked { redis: redis_commands(services), s3: cluster.s3().requests().values().sum() }
    }
}

/// Commands that one look at Redis costs: the script, and what it calls.
const LOOK: u64 = 2;

/// Commands that Redis has processed.
fn redis_commands(services: &Services) -> u64 {
    let count = "string.match(redis.call('INFO', 'stats'), 'total_commands_processed:(%d+)')";
    let answer = services.redis.command(&format!("EVAL \"return tonumber({count})\" 0"));
    answer.strip_prefix(':').and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

pub(crate) async fn ask_nobody(services: &mut Services) {
    let stock = Stock::new().await;
    let cluster = Options::new(stock.manifests()).start(services).await;
    stock.warm(&cluster).await;
    let asked = stock.upstream.requests().len();
    let mut lines = Vec::new();
    for replica in cluster.replicas() {
        let root = replica.url();
        let url = |key: &str| {
            let found = stock.targets(&root).into_iter().find(|target| target.key == key);
            found.unwrap_or_else(|| panic!("no {key}")).url
        };
        let large = url("large-0.bin");
        let etag = http::head(&large).await.header("etag").to_owned();
        let cases = [
            ("small body", Method::GET, url("small-0.bin"), vec![], 200),
            (REWRITTEN, Method::GET, url("npm packument"), vec![], 200),
            ("HEAD", Method::HEAD, large.clone(), vec![], 200),
            ("not modified", Method::GET, large.clone(), vec![("if-none-match", etag.as_str())], 304),
            ("large body", Method::GET, large.clone(), vec![], 200),
            ("range", Method::GET, large.clone(), vec![("range", "bytes=5-9")], 206),
        ];
        for (name, method, url, headers, status) in cases {
            let start = Instant::now();
            let before = (metrics::samples_at(&replica.metrics_url()).await, Asked::now(services, &cluster));
            for _ in 0..HITS {
                let answer = http::request(method.clone(), &url, &headers).await;
                assert!(answer.status == status && answer.complete, "{name}: {answer:?}");
                assert_eq!(answer.header("x-cache"), "HIT", "{name}");
            }
            let after = (metrics::samples_at(&replica.metrics_url()).await, Asked::now(services, &cluster));
            let mut cost = Cost::between(before, after);
            if name == REWRITTEN {
                cost.allow_rechecks(start.elapsed());
            }
            lines.push(format!("replica {}, {name}: {cost:?}", replica.number()));
            cost.judge(name, replica);
        }
    }
    println!("\nfigure: what {HITS} warm hits cost:\n  {}", lines.join("\n  "));
    assert_eq!(stock.upstream.requests().len(), asked, "hits ask the upstream nothing");
}

#[derive(Debug)]
struct Cost {
    sql: BTreeMap<String, f64>,
    redis: u64,
    s3: u64,
}

impl Cost {
    fn between(before: (BTreeMap<String, f64>, Asked), after: (BTreeMap<String, f64>, Asked)) -> Self {
        let mut sql = metrics::growth(&before.0, &after.0, STATEMENTS);
        sql.retain(|operation, _| !BACKGROUND.contains(&operation.as_str()));
        Cost { sql, redis: after.1.redis - before.1.redis - LOOK, s3: after.1.s3 - before.1.s3 }
    }

    /// Leaves out looks at the row that are due to its age alone.
    fn allow_rechecks(&mut self, took: Duration) {
        let due = 1.0 + (took.as_secs_f64() / AGE.as_secs_f64()).floor();
        self.sql.retain(|operation, count| operation != "artifact" || *count > due);
    }

    fn judge(&self, name: &str, replica: &Replica) {
        let who = format!("replica {}: {name}", replica.number());
        assert!(self.sql.is_empty(), "{who}: SQL on the hit path: {self:?}");
        assert!(self.s3 <= HITS as u64, "{who}: more than one call of the object store each: {self:?}");
        // What replicas say to Redis on their own does not grow with the hits.
        assert!(self.redis < (HITS / 10) as u64, "{who}: Redis on the hit path: {self:?}");
    }
}
