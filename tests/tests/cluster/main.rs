//! What people do, on a real node of Kubernetes: the chart is installed, Remotes and Virtuals are applied, pods pull
//! images, charts and packages, and images are pushed. One node for all trials, which come one after the other: later
//! ones stand on what earlier ones installed. Lines with `figure:` tell what was measured.

mod alone;
mod bench;
mod clients;
mod disruptions;
mod mirror;
mod mistakes;
mod node;
mod policies;
mod pushes;
mod release;
mod site;

use std::{future::Future, pin::Pin, process::ExitCode, sync::Arc};

use artifactapi_tests::{Missing, proxy};
use libtest_mimic::{Arguments, Completion, Trial};

use bench::Bench;

/// What a trial says at its end: something may be missing.
type Ending = Result<(), Missing>;
/// One trial.
type Test = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = Ending> + 'a>>;

/// In their order.
const TRIALS: [(&str, Test); 14] = [
    ("a_node_runs_pods_and_services", |b| Box::pin(node::works(b))),
    ("a_node_offers_its_volumes_again", |b| Box::pin(node::volumes(b))),
    ("standalone_is_installed_upgraded_and_taken_away", |b| Box::pin(alone::life(b))),
    ("a_cluster_is_installed_and_configured_by_apply", |b| Box::pin(site::installed(b))),
    ("a_remote_without_its_secret_says_so", |b| Box::pin(mistakes::remote_without_secret(b))),
    ("an_image_comes_through_the_mirror_and_again_without_upstream", |b| Box::pin(mirror::pulled(b))),
    ("pods_pull_a_chart_and_a_python_package", |b| Box::pin(clients::pulled(b))),
    ("a_robot_pushes_and_its_secret_pulls", |b| Box::pin(pushes::by_robot(b))),
    ("a_proxy_dies_while_clients_pull_and_push", |b| Box::pin(disruptions::deleted(b))),
    ("upgrade_rollback_and_drain_cost_no_read", |b| Box::pin(disruptions::rolled(b))),
    ("pods_have_the_rights_of_the_chart_and_no_more", |b| Box::pin(site::rights(b))),
    ("policies_let_through_what_the_chart_says_and_no_more", |b| Box::pin(policies::kept(b))),
    ("wrong_secrets_are_told_and_mended_without_a_restart", |b| Box::pin(mistakes::wrong_secrets(b))),
    ("a_cluster_is_taken_away_and_its_objects_stay", |b| Box::pin(site::uninstalled(b))),
];

fn trial((name, test): (&'static str, Test), bench: &Arc<Bench>) -> Trial {
    let bench = bench.clone();
    Trial::ignorable_test(name, move || {
        if let Err(why) = proxy::binary().and_then(|_| proxy::operator_binary()) {
            return Ok(Completion::ignored_with(why));
        }
        Ok(match bench.run(name, test) {
            Ok(()) => Completion::Completed,
            Err(Missing(what)) => Completion::ignored_with(what),
        })
    })
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One node, and figures of one thing at a time.
    arguments.test_threads = Some(1);
    let bench = Arc::new(Bench::default());
    let trials = TRIALS.into_iter().map(|one| trial(one, &bench)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Statics are never dropped, this is: what was started ends here.
    drop(bench);
    conclusion.exit_code()
}
