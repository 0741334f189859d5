//! The chart: what it renders, what it refuses, and what becomes of it on a real API server. Nothing here has a node:
//! what pods would run is run as processes.
//!
//! With `ARTIFACTAPI_UPDATE_CHART=1` the rendered sets of values, the table of values in the README and the list of them
//! in `files/values.txt` are written anew.
//!
//! Whoever adds a value writes it with a comment that begins with `# --` into `values.yaml`, describes it in
//! `values.schema.json` (closed to names that it does not know), uses it in a template, gives it in one of
//! `ci/*-values.yaml`, and refuses in `templates/_validate*.tpl`, with a case in `refusals.rs`, what Kubernetes would take
//! and the program would not, or what contradicts another value; the rest is written by the line above. To look at one set
//! by hand: `helm template artifactapi charts/artifactapi --kube-version 1.34.4 --values charts/artifactapi/ci/….yaml`.

mod docs;
mod helm;
mod image;
mod lives;
mod metrics;
mod pod;
mod refusals;
mod rendered;
mod server;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use artifactapi_services::{Kubernetes, provided};
use artifactapi_tests::{Missing, client, http::use_ring, kubernetes::roles, proxy};
use libtest_mimic::{Arguments, Completion, Trial};

/// What a trial says at its end: something may be missing.
type Ending = Result<(), Missing>;
/// One trial.
type Test = fn(&Bench) -> Ending;

/// Those that need nothing but helm.
const WITH_HELM: [(&str, Test); 15] = [
    ("lint_finds_nothing", rendered::lint),
    ("rendered_sets_are_those_that_are_checked_in", rendered::snapshots),
    ("roles_and_definitions_are_the_generated_ones", rendered::generated),
    ("no_proxy_has_a_token_and_no_secret_is_a_variable", rendered::secrets),
    ("the_migration_knows_the_database_alone", rendered::migration),
    ("every_pod_is_in_a_network_policy", rendered::policies),
    ("names_are_texts_and_no_two_releases_share_one", rendered::names),
    ("a_replica_asks_its_node_for_its_cache", rendered::cache),
    ("standalone_keeps_nobody_waiting_for_long", rendered::endings),
    ("services_say_that_they_speak_tls", rendered::protocols),
    ("a_parent_chart_may_have_a_condition", rendered::subchart),
    ("wrong_values_are_refused_in_words", refusals::values),
    ("values_without_anything_are_named", refusals::empty),
    ("the_schema_knows_every_value_and_no_other", refusals::schema),
    ("the_readme_lists_every_value", docs::values),
];

/// Those that need an API server besides.
const WITH_SERVER: [(&str, Test); 4] = [
    ("the_notes_set_up_every_client", docs::notes),
    ("every_object_is_accepted_by_the_api_server", server::objects),
    ("every_pod_satisfies_the_restricted_profile", server::pods_are_restricted),
    ("a_release_is_installed_changed_rolled_back_and_uninstalled", lives::release),
];

/// Those that run what pods would.
const WITH_BINARIES: [(&str, Test); 5] = [
    ("an_image_is_whole_and_not_roots", image::contents),
    ("a_standalone_pod_serves_when_its_operator_has_written_everything", pod::standalone),
    ("dashboard_and_alerts_ask_for_metrics_that_exist", metrics::names),
    ("authorities_of_ones_own_are_trusted_beside_the_images", pod::trust),
    ("helm_tests_probe_says_how_it_went", pod::probe),
];

/// Shared by all trials; what nobody asks for is not started.
#[derive(Default)]
pub(crate) struct Bench {
    kubernetes: OnceLock<Option<Kubernetes>>,
}

impl Bench {
    /// The shared API server, with the definitions installed.
    pub(crate) fn kubernetes(&self) -> Result<&Kubernetes, Missing> {
        let start = || {
            let kubernetes = provided(Kubernetes::start(&[]), "the chart")?;
            roles::install_definitions(&kubernetes);
            Some(kubernetes)
        };
        let started = self.kubernetes.get_or_init(start).as_ref();
        started.ok_or_else(|| Missing("kube-apiserver, kubectl or etcd is not installed".to_owned()))
    }
}

fn trial(name: &'static str, test: Test, bench: Arc<Bench>, needs: Result<(), String>) -> Trial {
    let helm = client::find("helm").map(drop).map_err(|Missing(what)| what);
    let (can_update, ready) = (helm.is_ok(), helm.and(needs));
    Trial::ignorable_test(name, move || match ready.map(|()| test(&bench)) {
        _ if rendered::updates() && !can_update => {
            Err("nothing is written anew without helm: hack/test runs this with what it installs".into())
        }
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(Missing(what))) | Err(what) => Ok(Completion::ignored_with(what)),
    })
}

fn main() -> ExitCode {
    use_ring();
    let arguments = Arguments::from_args();
    let bench = Arc::new(Bench::default());
    let binaries = || proxy::binary().and_then(|_| proxy::operator_binary()).map(drop);
    let plain = WITH_HELM.into_iter().chain(WITH_SERVER);
    let trials = plain.map(|(name, test)| trial(name, test, bench.clone(), Ok(())));
    let built = WITH_BINARIES.into_iter();
    let trials = trials.chain(built.map(|(name, test)| trial(name, test, bench.clone(), binaries())));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // Statics are never dropped, this is: what was started ends here.
    drop(bench);
    conclusion.exit_code()
}
