//! What all trials share: one node, the images on it, and stores beside it that pods reach.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use artifactapi_services::{Minio, Node, Postgres, Redis, provided};
use artifactapi_tests::{Link, Missing, Run, kubernetes::roles::checkout, proxy};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::{Ending, Test};

/// Longest wait for what a cluster does in its own time: a start of a pod, an end of one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The image of the proxy and that of the operator, which no registry has.
pub(crate) const IMAGES: [&str; 2] = ["localhost/artifactapi", "localhost/artifactapi-operator"];
/// Their tag.
pub(crate) const TAG: &str = "test";
/// What is on every node of `hack/cluster`.
pub(crate) const BUSYBOX: &str = "localhost/busybox:1";

/// PostgreSQL, Redis and S3 on the machine, and the ways on which pods reach them.
pub(crate) struct Stores {
    pub(crate) postgres: Postgres,
    _redis: Redis,
    pub(crate) minio: Minio,
    /// To PostgreSQL, Redis and MinIO.
    pub(crate) links: [Link; 3],
}

/// Shared by all trials; what nobody asks for is not started.
pub(crate) struct Bench {
    runtime: Runtime,
    node: OnceLock<Option<Node>>,
    images: OnceCell<()>,
    stores: OnceCell<Result<Stores, Missing>>,
    home: TempDir,
}

impl Default for Bench {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        Bench {
            runtime,
            node: OnceLock::new(),
            images: OnceCell::new(),
            stores: OnceCell::new(),
            home: TempDir::new().expect("a temporary directory"),
        }
    }
}

impl Bench {
    /// Runs one trial to its end; its time is told, and when it fails, what the cluster looks like.
    pub(crate) fn run(&self, name: &'static str, test: Test) -> Ending {
        if self.started(name).is_none() {
            return Err(Missing(
                "a node of Kubernetes: it needs Linux, root and what hack/test installs".to_owned(),
            ));
        }
        let began = Instant::now();
        let told =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.runtime.block_on(test(self))));
        println!("time: {name} took {:.1} s", began.elapsed().as_secs_f64());
        told.unwrap_or_else(|panic| {
            self.runtime.block_on(self.show());
            std::panic::resume_unwind(panic)
        })
    }

    fn started(&self, name: &str) -> Option<&Node> {
        let start = || {
            let began = Instant::now();
            let node = provided(Node::start(&checkout("hack/cluster")), name)?;
            println!("\nfigure: a node is ready after {:.1} s", began.elapsed().as_secs_f64());
            Some(node)
        };
        self.node.get_or_init(start).as_ref()
    }

    /// The node.
    pub(crate) fn node(&self) -> &Node {
        self.node.get().and_then(Option::as_ref).expect("no trial runs without it")
    }

    /// Brings both images to the node, once.
    pub(crate) async fn images(&self) {
        let load = async || {
            let began = Instant::now();
            let of = |what: &str, program: Result<PathBuf, String>| {
                format!("{what}={}", program.expect("looked for before the trial").display())
            };
            let programs = [of("proxy", proxy::binary()), of("operator", proxy::operator_binary())];
            let output = self.home.path().to_string_lossy().into_owned();
            let named = ["--output", &output, "--tag", TAG, "--prefix", "localhost"];
            let make = Run::with_environment(&checkout("hack/image").to_string_lossy(), self.home.path());
            must(make.args(named).args(programs)).await;
            for image in IMAGES {
                let name = image.rsplit('/').next().unwrap_or(image);
                let archive = self.home.path().join(format!("{name}.tar"));
                self.on_node(&["load", &archive.to_string_lossy()]);
                fs::remove_file(archive).expect("it was just read");
            }
            println!("figure: both images were made and loaded in {:.1} s", began.elapsed().as_secs_f64());
        };
        self.images.get_or_init(load).await;
    }

    /// Runs `hack/cluster`, which must succeed.
    pub(crate) fn on_node(&self, arguments: &[&str]) -> String {
        self.node().run(arguments).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The stores beside the cluster.
    pub(crate) async fn stores(&self) -> Result<&Stores, Missing> {
        let start = async || {
            let missing = |it: artifactapi_services::Missing| Missing(format!("{} is not installed", it.0));
            let postgres = Postgres::start().map_err(missing)?;
            let (redis, minio) = (Redis::start().map_err(missing)?, Minio::start().map_err(missing)?);
            let link = async |port: u16| {
                let link = Link::at((self.node().machine(), 0), format!("127.0.0.1:{port}")).await;
                link.expect("the machine's end of the link to the node")
            };
            let links =
                [link(postgres.process.port()).await, link(redis.0.port()).await, link(minio.0.port()).await];
            Ok(Stores { postgres, _redis: redis, minio, links })
        };
        self.stores.get_or_init(start).await.as_ref().map_err(Clone::clone)
    }

    /// A directory for files of one trial.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let directory = self.home.path().join(name);
        fs::create_dir_all(&directory).expect("space");
        directory
    }

    /// A client of the cluster as a person runs it: `kubectl` or `helm`.
    pub(crate) fn client(&self, program: &str, arguments: &[&str]) -> Run {
        Run::new(program, self.home.path()).args(arguments).env("KUBECONFIG", self.node().kubeconfig())
    }

    /// Runs `kubectl`, which must succeed; what it printed.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        must(self.client("kubectl", arguments)).await
    }

    /// Runs `helm`, which must succeed; what it printed.
    pub(crate) async fn helm(&self, arguments: &[&str]) -> String {
        must(self.client("helm", arguments)).await
    }

    /// `kubectl get … -o json`.
    pub(crate) async fn get(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// `kubectl apply -f` of these.
    pub(crate) async fn apply(&self, objects: &[Value]) {
        let file =
            self.write("applied.json", &json!({ "apiVersion": "v1", "kind": "List", "items": objects }));
        self.kubectl(&["apply", "-f", &file]).await;
    }

    /// Writes a file; its path.
    pub(crate) fn write(&self, name: &str, value: &Value) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, value.to_string()).expect("space");
        path.to_string_lossy().into_owned()
    }

    /// A namespace whose pods must keep to `profile` of pod security.
    pub(crate) async fn namespace(&self, name: &str, profile: &str) {
        let labels = json!({ "pod-security.kubernetes.io/enforce": profile });
        let metadata = json!({ "name": name, "labels": labels });
        self.apply(&[json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })]).await;
        // Pods are refused until it has one.
        let account = format!("--namespace={name}");
        self.kubectl(&["wait", &account, "--for=create", "serviceaccount/default", "--timeout=60s"]).await;
    }

    /// Waits until a Deployment has all its pods.
    pub(crate) async fn rolled_out(&self, namespace: &str, deployment: &str) {
        let (deployment, limit) = (format!("deployment/{deployment}"), format!("{}s", PATIENCE.as_secs()));
        self.kubectl(&["rollout", "status", "-n", namespace, &deployment, "--timeout", &limit]).await;
    }

    async fn show(&self) {
        let events = [
            "get",
            "events",
            "-A",
            "--sort-by=.lastTimestamp",
            "-o=custom-columns=:.metadata.namespace,:.involvedObject.name,:.reason,:.message",
        ];
        let volumes = ["get", "persistentvolumes,persistentvolumeclaims", "-A", "--no-headers"];
        for arguments in [&["get", "pods", "-A", "-o", "wide"][..], &volumes, &events] {
            match self.client("kubectl", arguments).ok().await {
                Ok(told) => {
                    let lines: Vec<&str> = told.out.lines().collect();
                    println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
                }
                Err(why) => println!("{why}"),
            }
        }
        for asked in [&["exec", "ip", "neigh"][..], &["exec", "iptables-save", "-t", "nat"]] {
            let told = self.node().run(asked).unwrap_or_else(|why| why);
            let ours = told.lines().filter(|line| !line.contains("kube-system"));
            println!("--- {}\n{}", asked.join(" "), ours.collect::<Vec<_>>().join("\n"));
        }
        self.show_pods().await;
        for part in
            ["kubelet", "kube-scheduler", "kube-controller-manager", "offer_volumes_again", "kube-apiserver"]
        {
            println!("--- {part}\n{}", self.node().log(part));
        }
    }

    /// The last lines of every container of ours.
    async fn show_pods(&self) {
        let ours = "app.kubernetes.io/name=artifactapi";
        let Ok(told) = self.client("kubectl", &["get", "pods", "-A", "-l", ours, "-o", "json"]).ok().await
        else {
            return;
        };
        let pods: Value = serde_json::from_str(&told.out).unwrap_or_default();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let [namespace, name] =
                ["namespace", "name"].map(|key| pod["metadata"][key].as_str().unwrap_or_default());
            let lines =
                ["logs", "-n", namespace, name, "--all-containers", "--prefix", "--timestamps", "--tail=40"];
            let told = self.client("kubectl", &lines).ok().await;
            println!("--- {namespace}/{name}\n{}", told.map_or_else(|why| why, |told| told.out));
        }
    }
}

async fn must(run: Run) -> String {
    run.ok().await.unwrap_or_else(|why| panic!("{why}")).out
}

/// The chart.
pub(crate) fn chart() -> String {
    checkout("charts/artifactapi").to_string_lossy().into_owned()
}

/// A Deployment of one container that keeps to the restricted profile.
pub(crate) fn deployment(namespace: &str, name: &str, image: &str, command: &[&str], pod: Value) -> Value {
    let mut spec = json!({
        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [{
            "name": "one", "image": image, "command": command,
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        }],
    });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), pod) {
        spec.extend(more);
    }
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    })
}

/// What a pod of a Deployment does that only has to be there.
pub(crate) const IDLE: [&str; 4] = ["/bin/busybox", "tail", "-f", "/dev/null"];

/// Whether a path is there on this machine.
pub(crate) fn is_there(path: &str) -> bool {
    Path::new(path).exists()
}
