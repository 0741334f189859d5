//! Pushes to a Local of type docker: the conformance suite, the ecosystems' own clients, chunks over replicas,
//! crashes, tags as registers, a collector that runs beside pushers, and what a Local promises on its own. Lines with
//! `figure:` tell what was measured.
//!
//! `ARTIFACTAPI_TEST_PEER=1` runs the same against Distribution, which tests the bench;
//! `ARTIFACTAPI_SOAK_SECONDS` is how long the soak takes (120; its verdict comes after that),
//! `ARTIFACTAPI_TEST_SCALE` how often the rest repeats what it counts (1).

mod alone;
mod chunks;
mod clients;
mod commits;
mod conformance;
mod crashes;
mod login;
mod schedules;
mod soak;
mod subject;
mod tags;
mod unfinished;

use std::{
    env,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Instant,
};

use artifactapi_services::provided;
use artifactapi_tests::{Missing, Services, proxy};
use libtest_mimic::{Arguments, Completion, Trial};

use subject::Subject;

/// What a test says at its end: a tool may be missing.
type Ending = Result<(), Missing>;
/// A test on whatever registry it is given.
type Test = for<'a> fn(&'a mut Subject) -> Pin<Box<dyn Future<Output = Ending> + 'a>>;
/// A test that brings its registry with it.
type Own = for<'a> fn(&'a mut Services) -> Pin<Box<dyn Future<Output = Ending> + 'a>>;

/// A test on a process of its own that needs no services.
type Alone = fn() -> Pin<Box<dyn Future<Output = Ending>>>;

/// On a registry that they share, ours or the peer's.
const SHARED: [(&str, Test); 14] = [
    ("oci_conformance_1_1_and_dev", |s| Box::pin(conformance::whole(s))),
    ("client_skopeo", |s| Box::pin(clients::skopeo(s))),
    ("client_crane", |s| Box::pin(clients::crane(s))),
    ("client_regctl", |s| Box::pin(clients::regctl(s))),
    ("client_buildah", |s| Box::pin(clients::buildah(s))),
    ("client_podman", |s| Box::pin(clients::podman(s))),
    ("client_docker", |s| Box::pin(clients::docker(s))),
    ("client_ctr", |s| Box::pin(clients::ctr(s))),
    ("client_helm", |s| Box::pin(clients::helm(s))),
    ("rs_110_every_form_of_upload_over_all_replicas", |s| Box::pin(chunks::every_form(s))),
    ("rs_110_random_schedules", |s| Box::pin(schedules::random(s))),
    ("rs_110_a_gigabyte_in_chunks_over_all_replicas", |s| Box::pin(chunks::gigabyte(s))),
    ("rs_111_a_push_is_seen_by_all_replicas_at_once", |s| Box::pin(chunks::seen_at_once(s))),
    ("rs_112_a_tag_is_one_register", |s| Box::pin(tags::register(s))),
];

/// Only on ours, on a registry of their own.
const OURS: [(&str, Own); 10] = [
    ("standalone::oci_conformance_dev", |_| Box::pin(conformance::standalone())),
    ("standalone::oci_conformance_of_a_remote", |_| Box::pin(conformance::of_a_remote())),
    ("standalone::oci_conformance_of_a_virtual", |_| Box::pin(conformance::of_a_virtual())),
    ("replicas::rs_110_a_replica_that_is_killed_loses_nothing_acknowledged", |s| {
        Box::pin(crashes::killed(s))
    }),
    ("replicas::rs_97_a_replica_that_dies_at_any_point_of_an_upload", |s| Box::pin(crashes::at_points(s))),
    ("replicas::rs_97_a_replica_that_dies_while_it_moves_bodies", |s| Box::pin(crashes::at_moves(s))),
    ("replicas::rs_67_uploads_that_nobody_finishes_go", |s| Box::pin(unfinished::expire(s))),
    ("replicas::rs_86_the_database_fails_while_a_push_is_committed", |s| Box::pin(commits::broken(s))),
    ("standalone::clients_log_in_with_tokens", |_| Box::pin(login::with_tokens())),
    ("replicas::rs_113_collecting_beside_pushers", |s| Box::pin(soak::ours(s))),
];

/// Only on the peer.
const PEER: [(&str, Test); 2] = [
    ("rs_110_a_replica_that_is_killed_loses_nothing_acknowledged", |s| Box::pin(crashes::peer(s))),
    ("rs_113_pushers_without_a_collector", |s| Box::pin(soak::peer(s))),
];

/// What is kept from one test to the next.
#[derive(Default)]
struct Kept {
    services: Option<Services>,
    ours: Option<Subject>,
    peer: Option<Subject>,
}

/// How often what is counted is repeated.
fn scale() -> usize {
    env::var("ARTIFACTAPI_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Runs `test`; its time is told.
fn timed<T>(name: &str, test: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let ended = test();
    println!("time: {name} took {:.1} s", began.elapsed().as_secs_f64());
    ended
}

fn ended(ending: Ending) -> Completion {
    match ending {
        Ok(()) => Completion::Completed,
        Err(Missing(what)) => Completion::ignored_with(what),
    }
}

struct Bench {
    kept: Mutex<Kept>,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// Blocks on `work`, giving back what it was lent unless it failed.
    fn run<T>(
        &self,
        mut lent: T,
        work: impl for<'a> FnOnce(&'a mut T) -> Pin<Box<dyn Future<Output = Ending> + 'a>>,
    ) -> (T, Ending) {
        let result = catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(work(&mut lent))));
        match result {
            Ok(ending) => (lent, ending),
            Err(panic) => {
                // Links and balancers end on the runtime.
                let _inside = self.runtime.enter();
                drop(lent);
                resume_unwind(panic)
            }
        }
    }

    fn services(&self, name: &str) -> Option<Services> {
        let kept = self.kept.lock().expect("no holder panics").services.take();
        kept.or_else(|| provided(Services::start(), name))
    }

    /// A test on our cluster.
    fn ours(&self, name: &str, test: Test) -> Completion {
        if let Err(why) = proxy::binary() {
            return Completion::ignored_with(why);
        }
        let Some(services) = self.services(name) else {
            return Completion::ignored_with("a service is not installed");
        };
        let kept = self.kept.lock().expect("no holder panics").ours.take();
        let subject = kept.unwrap_or_else(|| {
            self.runtime.block_on(Subject::replicas(&services, &[], &serde_json::Value::Null))
        });
        let (subject, ending) = self.run(subject, test);
        let mut kept = self.kept.lock().expect("no holder panics");
        (kept.services, kept.ours) = (Some(services), Some(subject));
        ended(ending)
    }

    /// A test on the peer.
    fn peer(&self, test: Test) -> Completion {
        let kept = self.kept.lock().expect("no holder panics").peer.take();
        let subject = match kept.map_or_else(|| self.runtime.block_on(Subject::peer()), Ok) {
            Ok(subject) => subject,
            Err(missing) => return Completion::ignored_with(format!("{} is not installed", missing.0)),
        };
        let (subject, ending) = self.run(subject, test);
        self.kept.lock().expect("no holder panics").peer = Some(subject);
        ended(ending)
    }

    /// A test that needs no services.
    fn alone(&self, test: Alone) -> Completion {
        if let Err(why) = proxy::binary() {
            return Completion::ignored_with(why);
        }
        ended(self.run((), |()| test()).1)
    }

    /// A test that brings its own.
    fn own(&self, name: &str, test: Own) -> Completion {
        if let Err(why) = proxy::binary() {
            return Completion::ignored_with(why);
        }
        let Some(services) = self.services(name) else {
            return Completion::ignored_with("a service is not installed");
        };
        let (services, ending) = self.run(services, test);
        self.kept.lock().expect("no holder panics").services = Some(services);
        ended(ending)
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share the services and the two processors.
    arguments.test_threads = Some(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let bench = Arc::new(Bench { kept: Mutex::default(), runtime });
    let mut trials = Vec::new();
    let mut add = |name: String, run: Box<dyn FnOnce(&Bench) -> Completion + Send>| {
        let bench = bench.clone();
        let told = name.clone();
        trials.push(Trial::ignorable_test(name, move || Ok(timed(&told, || run(&bench)))));
    };
    for &(name, test) in &SHARED {
        add(format!("replicas::{name}"), Box::new(move |bench| bench.ours(name, test)));
    }
    for &(name, test) in &OURS {
        add(name.to_owned(), Box::new(move |bench| bench.own(name, test)));
    }
    for (name, test) in alone::ALL {
        add(format!("standalone::{name}"), Box::new(move |bench| bench.alone(test)));
    }
    if env::var_os("ARTIFACTAPI_TEST_PEER").is_some() {
        for &(name, test) in SHARED.iter().chain(&PEER) {
            add(format!("peer::{name}"), Box::new(move |bench| bench.peer(test)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let _inside = bench.runtime.enter();
    let kept = std::mem::take(&mut *bench.kept.lock().expect("no holder panics"));
    drop(kept);
    conclusion.exit_code()
}
