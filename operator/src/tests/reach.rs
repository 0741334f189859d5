//! What is permitted no more ends, whatever else is wrong with an object.

use serde_json::{Value, json};

use super::bench::{Bench, remote};
use crate::ceilings::Ceilings;

fn wide(more: Value) -> Value {
    let mut spec = json!({
        "egress": { "allowCIDRs": ["10.0.0.0/8"], "proxyURL": "http://proxy.test:3128" },
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    remote("team", "npm", spec)
}

#[tokio::test]
async fn no_last_version_goes_on_with_a_reach_that_was_taken_back() {
    let oversized = json!({ "patterns": vec!["x".repeat(1_000); 66] });
    let forbidden = json!({ "auth": { "secretRef": { "name": "s" } } });
    for (broken, why) in
        [(oversized, "False Invalid: spec: is larger"), (forbidden, "False SecretForbidden: ")]
    {
        let mut bench = Bench::with(
            Ceilings {
                networks: vec!["10.0.0.0/8".parse().unwrap()],
                proxies: vec!["*".into()],
                ..Ceilings::default()
            },
            None,
        );
        bench.cluster().failing = Some((403, "/api/v1/namespaces/team/secrets"));
        let npm = bench.apply(&wide(json!({})));
        bench.settle().await;
        assert!(bench.ready(&npm).starts_with("True"), "{}", bench.ready(&npm));
        bench.apply(&wide(broken));
        bench.settle().await;
        assert!(bench.ready(&npm).starts_with(why), "{}", bench.ready(&npm));
        assert_eq!(bench.stored().await, ["Remote team/npm"], "what is permitted serves on");
        bench.lower_ceilings().await;
        assert!(bench.ready(&npm).starts_with(why), "{}", bench.ready(&npm));
        assert!(bench.stored().await.is_empty(), "{why}");
    }
}
