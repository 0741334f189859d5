//! The ecosystems' own clients through the proxy: directly, cold, warm, and warm with the upstream off; through a
//! Virtual over two upstreams, of which the versions are united or not; and before a closed door.

mod alpine;
mod archives;
mod docker;
mod languages;
mod marked;
mod runtimes;
mod systems;
mod tokens;

use std::process::ExitCode;

use artifactapi_tests::{
    fixtures::rpm::Compression,
    scenario::{Report, trials, united, versions},
};
use libtest_mimic::{Arguments, Trial};

/// One trial of each story before all others: the one that comes first lives through the whole story, and others of
/// the same would only wait for it, where another story could be told beside it.
fn stories_first(stories: Vec<Vec<Trial>>) -> Vec<Trial> {
    let mut stories: Vec<_> = stories.into_iter().map(Vec::into_iter).collect();
    let first: Vec<_> = stories.iter_mut().filter_map(Iterator::next).collect();
    first.into_iter().chain(stories.into_iter().flatten()).collect()
}

fn main() -> ExitCode {
    let report = Report::default();
    let clients = [
        trials(alpine::Apk, &report),
        trials(alpine::Substitute { is_merged: false }, &report),
        trials(archives::Curl, &report),
        trials(archives::Helm, &report),
        trials(docker::Skopeo, &report),
        trials(docker::Crane, &report),
        trials(languages::Pip, &report),
        trials(languages::Uv, &report),
        trials(languages::Npm, &report),
        trials(languages::Go, &report),
        trials(languages::GoVerified, &report),
        trials(systems::Dnf(Compression::Gzip), &report),
        trials(systems::Dnf(Compression::Zstd), &report),
        trials(systems::Dnf(Compression::PlainNames), &report),
        trials(systems::Puppet, &report),
        trials(systems::Terraform(systems::Face::Registry), &report),
        trials(systems::Terraform(systems::Face::Mirror), &report),
        united(archives::Curl, &report),
        united(docker::Skopeo, &report),
        united(languages::Pip, &report),
        united(languages::Npm, &report),
        united(languages::GoVerified, &report),
        united(archives::Helm, &report),
        united(systems::SignedDnf, &report),
        united(alpine::Substitute { is_merged: true }, &report),
        united(systems::Puppet, &report),
        united(systems::Terraform(systems::Face::Registry), &report),
        united(systems::Terraform(systems::Face::Mirror), &report),
        versions(languages::Pip, &report),
        versions(languages::Npm, &report),
        versions(languages::Go, &report),
        versions(systems::Puppet, &report),
        versions(systems::Terraform(systems::Face::Registry), &report),
        versions(systems::Terraform(systems::Face::Mirror), &report),
    ];
    let trials = stories_first(clients.into()).into_iter().chain(tokens::trials()).chain(runtimes::trials());
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    // hack/test looks for these lines.
    report.lines().iter().for_each(|line| println!("{line}"));
    conclusion.exit_code()
}
