//! What is tested: our Local in its two forms, or Distribution in the place of it, so that the bench itself is
//! tested (`ARTIFACTAPI_TEST_PEER=1`).

use artifactapi_services::{Distribution, Missing, Storage};
use artifactapi_tests::{Balancer, Cluster, Proxy, Registry, Services, proxy, replicas::Options};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Name of the Local in every test.
pub(crate) const LOCAL: &str = "l";
const COUNT: usize = 3;

/// The manifest of a Local that everybody may push to.
pub(crate) fn local(more: &Value) -> String {
    let mut spec = json!({ "type": "docker", "access": { "anonymousWrite": true } });
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": "Local", "metadata": { "name": LOCAL }, "spec": spec,
    });
    format!("{manifest}\n")
}

/// Three Distributions on one directory.
pub(crate) struct Peer {
    servers: Vec<Distribution>,
    balancer: Balancer,
    _storage: TempDir,
}

/// A registry under test.
pub(crate) enum Subject {
    Replicas(Box<Cluster>),
    Standalone(Box<Proxy>),
    Peer(Peer),
}

impl Subject {
    /// A cluster of three.
    pub(crate) async fn replicas(services: &Services, environment: &[(&str, &str)], more: &Value) -> Self {
        let mut options = Options::new(local(more)).replicas(COUNT);
        for (name, value) in environment {
            options = options.env(name, *value);
        }
        Subject::Replicas(Box::new(options.start(services).await))
    }

    /// One process on a directory.
    pub(crate) async fn standalone() -> Self {
        Subject::Standalone(Box::new(proxy::Options::new(local(&Value::Null)).start().await))
    }

    /// Distribution.
    pub(crate) async fn peer() -> Result<Self, Missing> {
        let directory = TempDir::new().expect("a temporary directory");
        let storage = Storage::Directory(directory.path().to_owned());
        let servers = (0..COUNT).map(|_| Distribution::start(&storage)).collect::<Result<Vec<_>, _>>()?;
        let balancer = Balancer::start(servers.iter().map(Distribution::host)).await;
        Ok(Subject::Peer(Peer { servers, balancer, _storage: directory }))
    }

    /// What stands before names of images.
    pub(crate) fn prefix(&self) -> &'static str {
        match self {
            Subject::Replicas(_) | Subject::Standalone(_) => "l/",
            Subject::Peer(_) => "",
        }
    }

    /// `host:port` for clients: the balancer, where there is one.
    pub(crate) fn host(&self) -> String {
        match self {
            Subject::Replicas(cluster) => cluster.balancer().host(),
            Subject::Standalone(proxy) => proxy.host(),
            Subject::Peer(peer) => peer.balancer.host(),
        }
    }

    /// The registry with each process as an entry point.
    pub(crate) fn registry(&self) -> Registry {
        let roots: Vec<String> = match self {
            Subject::Replicas(cluster) => cluster.replicas().iter().map(|replica| replica.url()).collect(),
            Subject::Standalone(proxy) => vec![proxy.url()],
            Subject::Peer(peer) => peer.servers.iter().map(Distribution::url).collect(),
        };
        Registry::new(roots, self.prefix())
    }

    /// Kills process `number` without warning.
    pub(crate) async fn kill(&mut self, number: usize) {
        match self {
            Subject::Replicas(cluster) => cluster.replica(number).kill().await,
            Subject::Standalone(_) => unreachable!("only one of several is killed"),
            Subject::Peer(peer) => tokio::task::block_in_place(|| peer.servers[number].0.kill()),
        }
    }

    /// Starts process `number` again.
    pub(crate) async fn start_again(&mut self, number: usize) {
        match self {
            Subject::Replicas(cluster) => cluster.replica(number).start_again().await,
            Subject::Standalone(_) => unreachable!("only one of several is started again"),
            Subject::Peer(peer) => tokio::task::block_in_place(|| peer.servers[number].0.start_again()),
        }
    }

    /// Starts all processes again, in order, one after the other.
    pub(crate) async fn restart_all(&mut self) {
        for number in 0..self.registry().entries() {
            if let Subject::Replicas(cluster) = self {
                let replica = cluster.replica(number);
                if !replica.has_ended() {
                    replica.terminate();
                    replica.ended().await;
                }
                replica.start_again().await;
            } else {
                self.kill(number).await;
                self.start_again(number).await;
            }
        }
    }

    /// The cluster, when it is one.
    pub(crate) fn cluster(&mut self) -> Option<&mut Cluster> {
        match self {
            Subject::Replicas(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// Everything that was written to logs.
    pub(crate) fn logs(&self) -> String {
        match self {
            Subject::Replicas(cluster) => cluster.logs(),
            Subject::Standalone(proxy) => proxy.logs(),
            Subject::Peer(peer) => peer.servers.iter().map(|server| server.0.log()).collect(),
        }
    }

    /// Rows and bytes agree (I3); Distribution has nothing to ask.
    pub(crate) async fn assert_sound(&self, when: &str) {
        if let Subject::Replicas(cluster) = self {
            let told = cluster.command(&["fsck"]).await;
            let sound = told.text.contains("0 damaged blobs, 0 rows without bytes");
            assert!(told.code == Some(0) && sound, "{when}: {}", told.text);
        }
    }
}
