//! Where a trial of the operator plays: namespaces of its own on the shared API server, an installation of its own, and
//! the operator as the service account that its published roles are given to, with nothing more.

use std::time::Duration;

use artifactapi_services::Access;
use artifactapi_tests::{
    Missing, Server, Site, Upstream,
    http::{self, Fetched},
    kubernetes::{Api, Condition, Object, roles},
    metrics::samples_at,
    wait,
};
use serde_json::{Value, json};

use crate::bench::Bench;

/// The bound of the requirements for what the operator says about an object: for trials that are about it.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// Longest wait for what has to come, where it does not matter how soon: the machine may do much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the operator is started with.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Further namespaces to watch.
    pub(crate) namespaces: Vec<&'static str>,
    /// Whether it watches all namespaces, by a role in the whole cluster.
    pub(crate) everywhere: bool,
    /// Environment beyond the usual.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
}

/// One trial's world.
pub(crate) struct Stage<'a> {
    /// As the user who may do everything.
    pub(crate) api: Api,
    /// Stores and proxy.
    pub(crate) site: Site<'a>,
    /// The trial's first namespace, in which the operator lives.
    pub(crate) namespace: String,
    /// All that it watches.
    pub(crate) namespaces: Vec<String>,
    wishes: Wishes,
    kubernetes: Access,
}

impl<'a> Stage<'a> {
    /// A stage with one namespace.
    pub(crate) async fn new(bench: &'a Bench, about: &str) -> Result<Self, Missing> {
        Self::with(bench, about, Wishes::default()).await
    }

    /// A stage as wished.
    pub(crate) async fn with(bench: &'a Bench, about: &str, wishes: Wishes) -> Result<Self, Missing> {
        Self::at(bench, bench.kubernetes(), about, wishes).await
    }

    /// A stage on an API server of its own.
    pub(crate) async fn at(
        bench: &'a Bench,
        kubernetes: &Access,
        about: &str,
        wishes: Wishes,
    ) -> Result<Self, Missing> {
        let grounds = bench.grounds().await?;
        let api = Api::admin(kubernetes);
        let namespace = bench.unused(about);
        api.namespace(&namespace).await;
        let mut namespaces = vec![namespace.clone()];
        for more in &wishes.namespaces {
            let name = format!("{namespace}-{more}");
            api.namespace(&name).await;
            namespaces.push(name);
        }
        let site = Site::new(grounds, &namespace.replace('-', ""));
        let site = site.map_err(|missing| Missing(format!("{} is not installed", missing.0)))?;
        let watched = if wishes.everywhere { None } else { Some(&namespaces[..]) };
        roles::grant(&api, &namespace, watched).await;
        Ok(Stage { api, site, namespace, namespaces, wishes, kubernetes: kubernetes.clone() })
    }

    /// An operator that is not started yet.
    pub(crate) async fn idle_operator(&self, name: &str) -> Server {
        let mut operator = self.site.operator();
        let token = self.api.account_token(&self.namespace, roles::ACCOUNT).await;
        let config = self.kubernetes.kubeconfig_with(&format!("{}-{name}", self.namespace), &token);
        let watched = if self.wishes.everywhere { "*".to_owned() } else { self.namespaces.join(",") };
        operator
            .set("KUBECONFIG", config.to_string_lossy())
            .set("ARTIFACTAPI_NAMESPACE", &self.namespace)
            .set("ARTIFACTAPI_WATCH_NAMESPACES", watched)
            // Tests have their upstreams on loopback.
            .set("ARTIFACTAPI_ALLOW_CIDRS", "127.0.0.0/8");
        for (name, value) in &self.wishes.environment {
            operator.set(name, *value);
        }
        operator
    }

    /// A running operator.
    pub(crate) async fn operator(&self) -> Server {
        let mut operator = self.idle_operator("one").await;
        operator.start().await;
        operator
    }

    /// An object of this trial.
    pub(crate) fn object<'o>(&'o self, kind: &'o str, name: &'o str) -> Object<'o> {
        Object::new(kind, &self.namespace, name)
    }

    /// A manifest of one of our kinds in the first namespace.
    pub(crate) fn manifest(&self, kind: &str, name: &str, spec: Value) -> Value {
        manifest(kind, &self.namespace, name, spec)
    }

    /// A generic Remote in front of an upstream on loopback, with `more` in its spec.
    pub(crate) fn remote(&self, name: &str, upstream: &Upstream, more: Value) -> Value {
        self.remote_at(name, &upstream.url(), more)
    }

    /// The same in front of any URL on loopback.
    pub(crate) fn remote_at(&self, name: &str, url: &str, more: Value) -> Value {
        let mut spec = json!({
            "type": "generic", "baseURL": url, "egress": { "allowCIDRs": ["127.0.0.0/8"] },
        });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        self.manifest("Remote", name, spec)
    }

    /// A Secret with plain strings.
    pub(crate) fn secret(&self, name: &str, data: Value) -> Value {
        secret(&self.namespace, name, data)
    }

    /// Waits for `Ready=False` with `reason`; the condition.
    pub(crate) async fn until_refused(&self, object: &Object<'_>, reason: &str) -> Condition {
        let refused = |one: &Condition| !one.holds() && one.reason == reason;
        self.api.until(object, "Ready", PATIENCE, refused).await.0
    }

    /// Waits until the proxy answers `url` so; what it answered.
    pub(crate) async fn until_served(
        &self,
        url: &str,
        limit: Duration,
        good: impl Fn(&Fetched) -> bool,
    ) -> Fetched {
        let mut last = None;
        let come = async || {
            let fetched = http::get(url).await;
            let is_good = good(&fetched);
            last = Some(fetched);
            is_good
        };
        let mut come = come;
        wait::until(&format!("{url} to be as awaited"), limit, async || come().await).await;
        last.expect("at least one answer")
    }

    /// Version of the configuration in the database, which every write of it raises.
    pub(crate) fn version(&self) -> u64 {
        self.site.sql("SELECT version FROM config_version").parse().expect("a number")
    }

    /// The configuration in the database, without what differs from one installation to the next.
    pub(crate) fn rows(&self) -> String {
        let objects = self.site.sql(
            "SELECT kind, namespace, name, sealed, uid IS NOT NULL, \
             CASE WHEN sealed THEN NULL ELSE document::jsonb #- '{metadata,uid}' END \
             FROM objects ORDER BY kind, namespace, name",
        );
        let repositories = self.site.sql(
            "SELECT namespace, name, package_type, base_url FROM repositories WHERE retired_at IS NULL \
             ORDER BY namespace, name, package_type",
        );
        let robots =
            self.site.sql("SELECT namespace, name, source, grants FROM robots ORDER BY namespace, name");
        format!("{objects}\n--\n{repositories}\n--\n{robots}").replace(&self.namespace, "NAMESPACE")
    }

    /// Requests that the operator has made: method and path of everything it wrote, refusals, and so on.
    pub(crate) fn audited(&self) -> Vec<Value> {
        let user = format!("system:serviceaccount:{}:{}", self.namespace, roles::ACCOUNT);
        let log = self.kubernetes.audit();
        // Most lines are of other trials, and there are many.
        let lines = log.lines().filter(|line| line.contains(&user));
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["user"]["username"] == user.as_str()).collect()
    }

    /// What the operator has written but its lease and events: verb, resource with what of it, and name.
    pub(crate) fn writes(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let is_write = |event: &Value| {
            ["create", "update", "patch", "delete"].iter().any(|verb| event["verb"] == *verb)
                && !["leases", "events"].iter().any(|resource| event["objectRef"]["resource"] == *resource)
        };
        let shown = |event: &Value| {
            let object = &event["objectRef"];
            let [resource, name, part] =
                ["resource", "name", "subresource"].map(|field| text(&object[field]));
            let part = if part.is_empty() { part } else { format!("/{part}") };
            format!("{} {resource}{part} {name}", text(&event["verb"]))
        };
        self.audited().iter().filter(|event| is_write(event)).map(shown).collect()
    }

    /// The same but for the first `before`, which an operator has written that runs no more: once this one has nothing left
    /// to write, and the log has what it has written. An object shows a status before the log does.
    pub(crate) async fn settled(&self, operator: &Server, before: usize) -> Vec<String> {
        let look = async || {
            let samples = samples_at(&operator.page("metrics")).await;
            let sample = |name: &str| samples[&format!("artifactapi_operator_{name}")];
            let counted = sample("writes_total{to=\"status\"}");
            let is_idle = ["queue_depth", "statuses_waiting"].iter().all(|name| sample(name) == 0.0);
            let writes = self.writes().split_off(before);
            let logged = writes.iter().filter(|write| write.contains("/status ")).count();
            // More than it has counted is for the trial to find.
            let is_settled = is_idle && counted > 0.0 && logged as f64 >= counted;
            if is_settled {
                Ok(writes)
            } else {
                Err(format!("{counted} statuses, and in the log {writes:?}"))
            }
        };
        wait::until_good("the operator to have written all, and the log to have it", PATIENCE, look).await
    }
}

/// A manifest of one of our kinds.
pub(crate) fn manifest(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}

/// A Secret with plain strings.
pub(crate) fn secret(namespace: &str, name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": name, "namespace": namespace }, "stringData": data,
    })
}
