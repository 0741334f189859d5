//! What stores know repositories by: it comes and goes with the objects that need it, and with nothing else.

use std::time::Duration;

use artifactapi_model::PackageType;
use artifactapi_stores::postgres::Declared;
use serde_json::{Value, json};

use super::bench::{Bench, local, remote, virt};
use crate::sink::Sink as _;

/// Longer than until the next look at everything.
const LOOK: Duration = Duration::from_secs(301);

fn of_type(package_type: &str, mut manifest: Value) -> Value {
    manifest["spec"]["type"] = json!(package_type);
    manifest
}

async fn version(bench: &Bench) -> i64 {
    bench.sink.load().await.unwrap().version
}

async fn looks(bench: &mut Bench) {
    tokio::time::advance(LOOK).await;
    bench.settle().await;
}

#[tokio::test(start_paused = true)]
async fn rs_133_a_merged_virtual_has_a_row_as_long_as_it_is_one() {
    let mut bench = Bench::new();
    bench.apply(&remote("team", "npm", json!({})));
    let all = bench.apply(&virt("team", "all", &["npm"]));
    bench.settle().await;
    let alone = bench.repositories().await;
    assert_eq!(alone, ["team/npm npm https://npm.test/"], "one that merges nothing has nothing of its own");
    let mut united = virt("team", "all", &["npm"]);
    united["spec"]["resolution"] = json!("union");
    bench.apply(&united);
    bench.settle().await;
    let both = ["team/all npm", "team/npm npm https://npm.test/"];
    assert_eq!(bench.repositories().await, both);
    // A proxy that has not heard of the row yet makes it.
    bench.sink.ensure(Declared {
        namespace: "team".into(),
        name: "all".parse().unwrap(),
        package_type: PackageType::Npm,
        base_url: String::new(),
    });
    let before = version(&bench).await;
    for _ in 0..3 {
        looks(&mut bench).await;
    }
    assert_eq!(
        (bench.repositories().await, version(&bench).await),
        (both.map(str::to_owned).to_vec(), before)
    );
    bench.apply(&virt("team", "all", &["npm"]));
    bench.settle().await;
    assert_eq!(bench.repositories().await, alone, "it merges nothing any more");
    bench.apply(&united);
    bench.settle().await;
    assert_eq!(bench.repositories().await, both);
    bench.delete(&all);
    bench.settle().await;
    assert_eq!(bench.repositories().await, alone, "it is no more");
}

#[tokio::test(start_paused = true)]
async fn a_virtual_that_never_got_a_row_has_one_after_the_next_look() {
    let mut bench = Bench::new();
    bench.apply(&of_type("helm", remote("team", "upstream", json!({}))));
    let charts = of_type("helm", virt("team", "charts", &["upstream"]));
    bench.apply(&charts);
    bench.settle().await;
    let both = bench.repositories().await;
    assert_eq!(both, ["team/charts helm", "team/upstream helm https://upstream.test/"]);
    bench.sink.retire("charts");
    looks(&mut bench).await;
    assert_eq!(bench.repositories().await, both);
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_name_over_has_the_only_row_of_it() {
    let mut bench = Bench::new();
    bench.apply(&of_type("helm", remote("team", "upstream", json!({}))));
    let charts = bench.apply(&of_type("helm", virt("team", "charts", &["upstream"])));
    bench.settle().await;
    bench.delete(&charts);
    bench.apply(&local("team", "charts", "Retain"));
    bench.settle().await;
    let mine = ["team/charts docker", "team/upstream helm https://upstream.test/"];
    assert_eq!(bench.repositories().await, mine);
}

#[tokio::test(start_paused = true)]
async fn a_successor_of_the_same_type_keeps_the_row_in_every_version() {
    let mut bench = Bench::new();
    bench.apply(&of_type("terraform", remote("team", "upstream", json!({}))));
    let mut united = of_type("terraform", virt("team", "mods", &["upstream"]));
    united["spec"]["resolution"] = json!("union");
    let mine = of_type("terraform", local("team", "mods", "Retain"));
    let rows = ["team/mods terraform", "team/upstream terraform https://upstream.test/"];
    let virt = bench.apply(&united);
    bench.settle().await;
    let before = version(&bench).await;
    bench.delete(&virt);
    let local = bench.apply(&mine);
    bench.settle().await;
    assert_eq!(bench.repositories().await, rows);
    assert_eq!(version(&bench).await, before + 1, "there was none in which the Local had no row");
    bench.delete(&local);
    bench.apply(&united);
    bench.settle().await;
    assert_eq!(bench.repositories().await, rows);
}
