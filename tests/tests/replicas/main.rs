//! Many proxies as one, against real services: what a stampede costs, what a lost process or service costs, and
//! what nobody notices. One test after the other, each on a cluster of its own; lines with `figure:` tell what was
//! measured.

mod agreement;
mod collection;
mod crashes;
mod delivered;
mod edits;
mod hits;
mod leader;
mod merges;
mod migrations;
mod outages;
mod partitions;
mod purges;
mod restarts;
mod restored;
mod stampede;
mod stock;
mod tokens;
mod upstreams;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Instant,
};

use artifactapi_services::provided;
use artifactapi_tests::{Services, proxy};
use libtest_mimic::{Arguments, Completion, Trial};

/// One test.
type Test = for<'a> fn(&'a mut Services) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

const TESTS: [(&str, Test); 31] = [
    ("rs_80_a_small_stampede_costs_one_fetch", |s| Box::pin(stampede::small(s))),
    ("rs_80_a_thousand_clients_cost_one_fetch", |s| Box::pin(stampede::large(s))),
    ("rs_81_a_killed_leader_costs_one_more_fetch", |s| Box::pin(leader::killed(s))),
    ("rs_81_a_leader_that_stands_still_costs_one_more_fetch", |s| Box::pin(leader::paused(s))),
    ("rs_84_85_87_90_no_lost_service_costs_a_cached_read", |s| Box::pin(outages::one_after_the_other(s))),
    ("rs_84_85_87_a_replica_that_is_cut_off_costs_no_cached_read", |s| {
        Box::pin(partitions::of_one_replica(s))
    }),
    ("rs_84_without_redis_a_stampede_costs_one_fetch_a_replica", |s| Box::pin(stampede::without_redis(s))),
    ("rs_80_a_merged_index_is_made_once", |s| Box::pin(merges::once(s))),
    ("rs_81_a_replica_that_dies_while_it_merges_costs_no_answer", |s| Box::pin(merges::killed(s))),
    ("rs_84_without_redis_each_replica_merges_once", |s| Box::pin(merges::without_redis(s))),
    ("rs_95_replicas_agree_on_the_time", |s| Box::pin(agreement::on_the_time(s))),
    ("rs_91_replicas_agree_on_pauses", |s| Box::pin(agreement::on_pauses(s))),
    ("rs_03_08_replicas_agree_on_what_is_wrong", |s| Box::pin(agreement::on_what_is_wrong(s))),
    ("rs_50_replicas_agree_on_the_blocklist", |s| Box::pin(agreement::on_the_blocklist(s))),
    ("rs_37_replicas_keep_secrets", |s| Box::pin(agreement::on_secrets(s))),
    ("rs_97_a_replica_that_dies_at_any_point_leaves_sound_stores", |s| Box::pin(crashes::of_fills(s))),
    ("rs_97_a_collection_that_dies_at_any_point_leaves_sound_stores", |s| {
        Box::pin(crashes::of_collections(s))
    }),
    ("rs_119_a_rolling_restart_costs_no_read", |s| Box::pin(restarts::rolling(s))),
    ("a_migration_waits_for_the_database", |s| Box::pin(migrations::wait_for_the_database(s))),
    ("a_backup_that_is_put_back_is_noticed", |s| Box::pin(restored::under_replicas(s))),
    ("another_database_is_noticed_by_its_id", |s| Box::pin(restored::by_a_twin(s))),
    ("an_edit_is_seen_by_every_replica_soon", |s| Box::pin(edits::hundred(s))),
    ("rs_115_evict_gc_and_fsck_while_replicas_run", |s| Box::pin(collection::by_hand(s))),
    ("an_upstream_is_probed_by_one_replica", |s| Box::pin(upstreams::probed_by_one(s))),
    ("a_failing_upstream_is_named_by_its_layer", |s| Box::pin(upstreams::named_by_layer(s))),
    ("upstreams_cost_few_writes", |s| Box::pin(upstreams::few_writes(s))),
    ("the_store_hands_out_what_needs_no_headers_of_ours", |s| Box::pin(delivered::by_the_store(s))),
    ("a_warm_hit_asks_no_service", |s| Box::pin(hits::ask_nobody(s))),
    ("rs_54_tokens_of_the_command_line_count_at_every_replica", |s| Box::pin(tokens::made_and_revoked(s))),
    ("rs_95_tokens_live_by_the_database_s_clock", |s| Box::pin(tokens::under_wrong_clocks(s))),
    ("a_deleted_local_is_purged_unless_it_is_back", |s| Box::pin(purges::of_locals(s))),
];

fn trial(name: &'static str, test: Test, services: Arc<Mutex<Option<Services>>>) -> Trial {
    let run = move || {
        if let Err(why) = proxy::binary() {
            return Ok(Completion::ignored_with(why));
        }
        let kept = services.lock().expect("no holder panics").take();
        let Some(mut running) = kept.or_else(|| provided(Services::start(), name)) else {
            return Ok(Completion::ignored_with("a service is not installed"));
        };
        let began = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&mut running))));
        println!("time: {name} took {:.1} s", began.elapsed().as_secs_f64());
        // A test that failed may have left a service stopped: the next one starts its own.
        match ended {
            Ok(()) => *services.lock().expect("no holder panics") = Some(running),
            Err(panic) => resume_unwind(panic),
        }
        Ok(Completion::Completed)
    };
    Trial::ignorable_test(name, run)
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share the services, and take them away.
    arguments.test_threads = Some(1);
    let services = Arc::new(Mutex::new(None));
    let trials = TESTS.into_iter().map(|(name, test)| trial(name, test, services.clone()));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
