//! Random pushes, pulls, mounts, deletions, re-taggings and collections against a plain model, over the real stores:
//! a directory with SQLite, and MinIO with PostgreSQL through two replicas (requirements.md 3.4).
//!
//! What the model says must be there is read back after every operation that could have touched it, and all of it at
//! the end; what it says is gone must be gone at once.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod act;
mod bench;
mod plan;
mod state;

use proptest::{
    strategy::Strategy as _,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use bench::Bench;

/// Operations of one sequence.
const LENGTH: usize = 50;

/// Sequences: 300, or what `ARTIFACTAPI_SEQUENCES` says (hack/torture).
fn sequences() -> u32 {
    std::env::var("ARTIFACTAPI_SEQUENCES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// `sequences` of them, from the seed that `ARTIFACTAPI_SEED` says, plus `lane`.
fn run(runtime: &tokio::runtime::Runtime, bench: &Bench, sequences: u32, lane: u64) {
    let seed =
        std::env::var("ARTIFACTAPI_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64) + lane;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: sequences, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let strategy = proptest::collection::vec(plan::operation(), LENGTH);
    let count = std::cell::Cell::new(0_u32);
    let result = runner.run(&strategy.boxed(), |plan| {
        count.set(count.get() + 1);
        let done = runtime.block_on(act::sequence(bench, &plan));
        done.map_err(TestCaseError::fail)
    });
    if let Err(proptest::test_runner::TestError::Fail(reason, plan)) = &result {
        let plan: Vec<String> = plan.iter().map(|op| format!("{op:?}")).collect();
        panic!("seed {seed}: {reason}; the plan was\n{}", plan.join("\n"));
    }
    result.expect("a plan");
    println!(
        "figure: {}: {} sequences of {LENGTH} operations agree with the model (seed {seed})",
        bench.name,
        count.get()
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_directory_and_sqlite_agree_with_the_model() {
    let runtime = runtime();
    let bench = runtime.block_on(Bench::standalone());
    run(&runtime, &bench, sequences(), 0);
}

/// Half of the sequences: stores answer slowly enough for two at a time.
fn on_replicas(lane: u64) {
    let runtime = runtime();
    let Some(bench) = runtime.block_on(Bench::replicas()) else { return };
    run(&runtime, &bench, sequences() / 2, lane);
    runtime.block_on(async { drop(bench) });
}

#[test]
fn minio_and_postgresql_agree_with_the_model() {
    on_replicas(0);
}

#[test]
fn minio_and_postgresql_agree_with_the_model_from_another_seed() {
    on_replicas(1);
}
