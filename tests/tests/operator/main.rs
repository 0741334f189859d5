//! The API as Kubernetes sees it: a real API server beside the definitions, the operator and the proxy. Trials run
//! side by side on one API server, each in a namespace of its own. Lines with `figure:` tell what was measured.

mod agreement;
mod bench;
mod conflicts;
mod crashes;
mod definitions;
mod drift;
mod leaders;
mod lives;
mod outage;
mod refusals;
mod rights;
mod robots;
mod rotation;
mod serving;
mod stage;

use std::{future::Future, pin::Pin, process::ExitCode, sync::Arc};

use artifactapi_tests::{Missing, proxy};
use libtest_mimic::{Arguments, Completion, Trial};

use bench::Bench;

/// What a trial says at its end: something may be missing.
type Ending = Result<(), Missing>;
/// One trial.
type Test = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = Ending> + 'a>>;

/// Trials run at once unless `--test-threads` says otherwise: they wait more than they work.
const SIDE_BY_SIDE: usize = 4;

/// Those that need only the API server.
const WITHOUT_OPERATOR: [(&str, Test); 7] = [
    ("definitions_are_installed_and_explained", |b| Box::pin(definitions::explained(b))),
    ("definitions_show_what_people_look_for", |b| Box::pin(definitions::columns(b))),
    ("every_example_is_applied_without_a_warning", |b| Box::pin(definitions::examples(b))),
    ("defaults_are_those_of_the_local_check", |b| Box::pin(agreement::on_defaults(b))),
    ("rs_132_the_local_check_and_the_api_server_agree_on_bad_manifests", |b| {
        Box::pin(agreement::on_bad_manifests(b))
    }),
    ("rs_132_they_agree_on_changes", |b| Box::pin(agreement::on_changes(b))),
    ("rs_132_kubectl_tells_the_author", |b| Box::pin(agreement::in_words(b))),
];

/// Those with an operator, and most with a proxy beside it. The longest come first.
const WITH_OPERATOR: [(&str, Test); 24] = [
    ("rs_134_40_an_api_server_that_is_gone_costs_no_read", |b| Box::pin(outage::api_server(b))),
    ("a_namespace_without_a_role_stops_no_other", |b| Box::pin(rights::without_a_role(b))),
    ("rs_136_an_operator_that_dies_at_any_point_leaves_nothing_wrong", |b| {
        Box::pin(crashes::at_every_point(b))
    }),
    ("rs_130_a_leader_that_slept_past_its_lease_writes_nothing", |b| Box::pin(leaders::stale(b))),
    ("rs_116_a_leader_that_ends_hands_over", |b| Box::pin(leaders::handover(b))),
    ("rs_135_what_is_changed_behind_the_operator_is_repaired", |b| Box::pin(drift::repaired(b))),
    ("an_operator_at_rest_and_one_that_restarts_write_nothing", |b| Box::pin(drift::nothing(b))),
    ("rs_38_a_rotated_secret_is_used_soon", |b| Box::pin(rotation::secrets(b))),
    ("rs_131_a_remote_is_deleted_while_clients_pull", |b| Box::pin(serving::deleted_while_pulled(b))),
    ("rs_132_bad_manifests_are_told_soon_and_cost_no_other", |b| Box::pin(refusals::bad_manifests(b))),
    ("rs_132_what_was_good_keeps_serving", |b| Box::pin(refusals::last_good(b))),
    ("rs_132_names_are_one_space_and_the_oldest_wins", |b| Box::pin(conflicts::names(b))),
    ("a_missing_secret_is_told_and_awaited", |b| Box::pin(refusals::missing_secret(b))),
    ("rs_39_nothing_is_taken_from_another_namespace", |b| Box::pin(refusals::other_namespace(b))),
    ("a_row_that_is_refused_costs_no_other", |b| Box::pin(refusals::by_the_database(b))),
    ("a_robot_is_granted_nothing_of_another_namespace", |b| Box::pin(refusals::foreign_grants(b))),
    ("a_namespace_cannot_widen_its_power", |b| Box::pin(refusals::ceilings(b))),
    ("rs_40_the_published_roles_are_enough_and_no_more", |b| Box::pin(rights::own_namespace(b))),
    ("a_remote_that_comes_back_has_its_bytes", |b| Box::pin(lives::remote(b))),
    ("a_local_that_comes_back_has_its_pushes_unless_purged", |b| Box::pin(lives::local(b))),
    ("clients_log_in_by_a_robots_secret", |b| Box::pin(robots::login(b))),
    ("an_operator_that_dies_at_a_token_leaves_nothing_wrong", |b| Box::pin(robots::crashes(b))),
    ("a_remote_says_how_its_upstream_is", |b| Box::pin(robots::upstreams(b))),
    ("an_applied_remote_is_served_soon", |b| Box::pin(serving::first_byte(b))),
];

/// Short ones: what a newcomer meets.
const SHORT: [(&str, Test); 3] = [
    ("rs_40_people_look_and_change_by_published_roles", |b| Box::pin(rights::people(b))),
    ("the_readme_path", |b| Box::pin(serving::readme(b))),
    ("a_remote_whose_upstream_is_down_is_ready", |b| Box::pin(serving::upstream_down(b))),
];

/// Needs both binaries.
fn operated(name: &'static str, test: Test, bench: Arc<Bench>) -> Trial {
    match proxy::binary().and_then(|_| proxy::operator_binary()) {
        Ok(_) => trial(name, test, bench),
        Err(why) => Trial::ignorable_test(name, move || Ok(Completion::ignored_with(why))),
    }
}

fn trial(name: &'static str, test: Test, bench: Arc<Bench>) -> Trial {
    Trial::ignorable_test(name, move || {
        Ok(match bench.run(name, test) {
            Ok(()) => Completion::Completed,
            Err(Missing(what)) => Completion::ignored_with(what),
        })
    })
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SIDE_BY_SIDE);
    let bench = Arc::new(Bench::default());
    let operated = |(name, test)| operated(name, test, bench.clone());
    let alone = |(name, test)| trial(name, test, bench.clone());
    let trials = WITH_OPERATOR.into_iter().chain(SHORT).map(operated);
    let trials = trials.chain(WITHOUT_OPERATOR.into_iter().map(alone));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // Statics are never dropped, this is: what was started ends here.
    drop(bench);
    conclusion.exit_code()
}
