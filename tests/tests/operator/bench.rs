//! What all trials share: one API server with the definitions installed.

use std::{
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use artifactapi_services::{self as services, Kubernetes, provided};
use artifactapi_tests::{
    Missing,
    kubernetes::{
        Api,
        roles::{checkout, install_definitions},
    },
    site::Grounds,
};
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::{Ending, Test};

/// People whom the published roles are given to.
pub(crate) const VIEWER: &str = "viewer";
pub(crate) const EDITOR: &str = "editor";

/// Shared by all trials; what nobody asks for is not started.
pub(crate) struct Bench {
    runtime: Runtime,
    kubernetes: OnceLock<Option<Kubernetes>>,
    grounds: OnceCell<Result<Grounds, services::Missing>>,
    namespaces: AtomicUsize,
}

impl Default for Bench {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        Bench {
            runtime,
            kubernetes: OnceLock::new(),
            grounds: OnceCell::new(),
            namespaces: AtomicUsize::new(0),
        }
    }
}

impl Bench {
    /// Runs one trial to its end; its time is told.
    pub(crate) fn run(&self, name: &'static str, test: Test) -> Ending {
        if self.started(name).is_none() {
            return Err(Missing("kube-apiserver, kubectl or etcd is not installed".to_owned()));
        }
        let began = Instant::now();
        let ending = self.runtime.block_on(test(self));
        println!("time: {name} took {:.1} s", began.elapsed().as_secs_f64());
        ending
    }

    fn started(&self, name: &str) -> Option<&Kubernetes> {
        let start = || {
            let kubernetes = provided(Kubernetes::start(&[VIEWER, EDITOR]), name)?;
            install_definitions(&kubernetes);
            Some(kubernetes)
        };
        self.kubernetes.get_or_init(start).as_ref()
    }

    /// The shared API server: never stop it.
    pub(crate) fn kubernetes(&self) -> &Kubernetes {
        self.kubernetes.get().and_then(Option::as_ref).expect("no trial runs without it")
    }

    /// Its client as the user who may do everything.
    pub(crate) fn admin(&self) -> Api {
        Api::admin(self.kubernetes())
    }

    /// A namespace that nobody else has.
    pub(crate) async fn namespace(&self, about: &str) -> String {
        let name = self.unused(about);
        self.admin().namespace(&name).await;
        name
    }

    /// A name that nobody else has.
    pub(crate) fn unused(&self, about: &str) -> String {
        format!("{about}-{}", self.namespaces.fetch_add(1, Relaxed))
    }

    /// The services that all installations share.
    pub(crate) async fn grounds(&self) -> Result<&Grounds, Missing> {
        let started = self.grounds.get_or_init(async || Grounds::start().await).await;
        started.as_ref().map_err(|missing| Missing(format!("{} is not installed", missing.0)))
    }

    /// Runs `kubectl` as the user who may do everything; what it printed, which must not be a refusal.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let told = self.kubernetes().run(arguments, "");
        told.unwrap_or_else(|why| panic!("kubectl {}: {why}", arguments.join(" ")))
    }
}

/// A directory of the crate with the definitions.
pub(crate) fn crds(directory: &str) -> PathBuf {
    checkout("crds").join(directory)
}
