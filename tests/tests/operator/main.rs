//! The API as Kubernetes sees it: a real API server beside the definitions, the operator and the proxy. Trials run
//! side by side on one API server, each in a namespace of its own. Lines with `figure:` tell what was measured.

mod agreement;
mod bench;
mod definitions;

use std::{future::Future, pin::Pin, process::ExitCode, sync::Arc};

use artifactapi_tests::Missing;
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
    let trials = WITHOUT_OPERATOR.into_iter().map(|(name, test)| trial(name, test, bench.clone()));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // Statics are never dropped, this is: what was started ends here.
    drop(bench);
    conclusion.exit_code()
}
