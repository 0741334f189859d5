//! A client of an API server for assertions: objects are JSON, refusals are told by field.

pub mod roles;

use std::time::Duration;

use artifactapi_services::Access;
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    http::{PATIENCE, use_ring},
    wait,
};

/// Whose fields an apply of the tests are.
const MANAGER: &str = "fieldManager=tests&force=true";

/// An API server as one user sees it.
#[derive(Clone)]
pub struct Api {
    client: Client,
    url: String,
    token: String,
}

/// One answer of the API server.
#[derive(Clone, Debug)]
pub struct Told {
    /// Status code.
    pub status: u16,
    /// The object, the list, or the `Status` that says why not.
    pub body: Value,
}

impl Told {
    /// Whether it was done.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The object.
    ///
    /// # Panics
    /// When it is a refusal.
    pub fn ok(self) -> Value {
        assert!(self.is_ok(), "refused with {}: {}", self.status, self.body);
        self.body
    }

    /// Field and message of each reason of a refusal.
    pub fn causes(&self) -> Vec<(&str, &str)> {
        let causes = self.body["details"]["causes"].as_array().into_iter().flatten();
        causes.map(|cause| (text(&cause["field"]), text(&cause["message"]))).collect()
    }

    /// The sentence of a refusal.
    pub fn message(&self) -> &str {
        text(&self.body["message"])
    }
}

/// One condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Which generation of the spec it speaks of.
    pub generation: i64,
}

impl Condition {
    /// The condition of this type, when the object has it.
    pub fn of(object: &Value, condition: &str) -> Option<Condition> {
        let conditions = object["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|one| one["type"] == condition)?;
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        Some(Condition {
            status: text("status"),
            reason: text("reason"),
            message: text("message"),
            generation: found["observedGeneration"].as_i64().unwrap_or_default(),
        })
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.status == "True"
    }
}

impl Api {
    /// As whoever holds `token`.
    ///
    /// # Panics
    /// When the API server's certificate cannot be read.
    pub fn new(kubernetes: &Access, token: &str) -> Self {
        use_ring();
        let root = Certificate::from_pem(kubernetes.ca_pem().as_bytes()).expect("its certificate");
        let client = Client::builder().no_proxy().tls_certs_only([root]).timeout(PATIENCE);
        let client = client.build().expect("a client needs nothing of the machine");
        Api { client, url: kubernetes.url(), token: token.to_owned() }
    }

    /// As the user who may do everything.
    pub fn admin(kubernetes: &Access) -> Self {
        Self::new(kubernetes, &Access::token(Access::ADMIN))
    }

    /// One request; `None` when there is no answer.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, String)>,
    ) -> Option<Told> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type).body(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        // Some answers are plain text.
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "message": text }));
        Some(Told { status, body })
    }

    async fn send(&self, method: Method, path: &str, body: Option<(&'static str, String)>) -> Told {
        let told = self.try_send(method, path, body).await;
        told.unwrap_or_else(|| panic!("no answer from the API server at {path}"))
    }

    /// Creates `manifest`, with `query` such as `dryRun=All&fieldValidation=Strict`.
    ///
    /// # Panics
    /// When there is no answer, as everything below.
    pub async fn create(&self, manifest: &Value, query: &str) -> Told {
        let (collection, _) = place(manifest);
        let body = ("application/json", manifest.to_string());
        self.send(Method::POST, &format!("{collection}?{query}"), Some(body)).await
    }

    /// Applies `manifest` on the server's side.
    pub async fn try_apply(&self, manifest: &Value) -> Told {
        let (collection, name) = place(manifest);
        let body = ("application/apply-patch+yaml", manifest.to_string());
        self.send(Method::PATCH, &format!("{collection}/{name}?{MANAGER}"), Some(body)).await
    }

    /// The same, which must succeed; the object.
    pub async fn apply(&self, manifest: &Value) -> Value {
        self.try_apply(manifest).await.ok()
    }

    /// Merges `patch` into an object or, with a `subresource`, into that.
    pub async fn merge(&self, object: &Object<'_>, subresource: &str, patch: &Value) -> Told {
        let body = ("application/merge-patch+json", patch.to_string());
        let path = object.path() + if subresource.is_empty() { "" } else { "/" } + subresource;
        self.send(Method::PATCH, &path, Some(body)).await
    }

    /// The object, when it is there.
    pub async fn get(&self, object: &Object<'_>) -> Option<Value> {
        let told = self.send(Method::GET, &object.path(), None).await;
        if told.status == 404 { None } else { Some(told.ok()) }
    }

    /// Deletes an object; it may stay for its finalizers.
    pub async fn delete(&self, object: &Object<'_>) -> Told {
        self.send(Method::DELETE, &object.path(), None).await
    }

    /// All objects of a kind in a namespace.
    pub async fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let path = collection(kind, namespace);
        let list = self.send(Method::GET, &path, None).await.ok();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Creates a namespace unless it is there.
    pub async fn namespace(&self, name: &str) {
        self.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).await;
    }

    /// A token for a service account, as a pod would have it.
    pub async fn account_token(&self, namespace: &str, account: &str) -> String {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "expirationSeconds": 3600 },
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let told = self.send(Method::POST, &path, Some(("application/json", request.to_string()))).await.ok();
        told["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// Whether whoever this is may `verb` objects of a `resource` in a namespace.
    pub async fn may(&self, verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
        let attributes =
            json!({ "verb": verb, "group": group, "resource": resource, "namespace": namespace });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let told = self.send(Method::POST, path, Some(("application/json", review.to_string()))).await.ok();
        told["status"]["allowed"] == true
    }

    /// Waits until `condition` of an object speaks of its newest generation and satisfies `good`; how long that took.
    ///
    /// # Panics
    /// When it does not within `limit`; shows the object.
    pub async fn until(
        &self,
        object: &Object<'_>,
        condition: &str,
        limit: Duration,
        good: impl Fn(&Condition) -> bool,
    ) -> (Condition, Duration) {
        let start = Instant::now();
        loop {
            let found = self.get(object).await.unwrap_or_default();
            let is_current =
                |one: &Condition| Some(one.generation) == found["metadata"]["generation"].as_i64();
            match Condition::of(&found, condition) {
                Some(one) if is_current(&one) && good(&one) => return (one, start.elapsed()),
                _ => {}
            }
            assert!(
                start.elapsed() < limit,
                "{object:?}: waited {limit:?} in vain for {condition}: {found:#}"
            );
            wait::breathe().await;
        }
    }

    /// Waits for `Ready=True`; how long that took.
    ///
    /// # Panics
    /// When it does not come within `limit`.
    pub async fn until_ready(&self, object: &Object<'_>, limit: Duration) -> Duration {
        self.until(object, "Ready", limit, Condition::holds).await.1
    }

    /// Waits until an object is gone.
    ///
    /// # Panics
    /// When it is not within `limit`.
    pub async fn until_gone(&self, object: &Object<'_>, limit: Duration) {
        let gone = async || self.get(object).await.is_none();
        wait::until(&format!("{object:?} to be gone"), limit, gone).await;
    }
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its namespace; empty for what has none.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Object<'a> {
    /// The object of this kind, namespace and name.
    pub fn new(kind: &'a str, namespace: &'a str, name: &'a str) -> Self {
        Object { kind, namespace, name }
    }

    /// Where `manifest` goes.
    pub fn of(manifest: &'a Value) -> Self {
        let metadata = &manifest["metadata"];
        Object::new(text(&manifest["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
    }

    fn path(&self) -> String {
        format!("{}/{}", collection(self.kind, self.namespace), self.name)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn place(manifest: &Value) -> (String, &str) {
    let object = Object::of(manifest);
    (collection(object.kind, object.namespace), object.name)
}

fn collection(kind: &str, namespace: &str) -> String {
    let plural = kind.to_ascii_lowercase() + "s";
    let group = match kind {
        "Remote" | "Virtual" | "Local" | "Robot" => "/apis/artifactapi.io/v1alpha1",
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => "/apis/rbac.authorization.k8s.io/v1",
        "Lease" => "/apis/coordination.k8s.io/v1",
        "Event" => "/apis/events.k8s.io/v1",
        "CustomResourceDefinition" => "/apis/apiextensions.k8s.io/v1",
        _ => "/api/v1",
    };
    if namespace.is_empty() {
        format!("{group}/{plural}")
    } else {
        format!("{group}/namespaces/{namespace}/{plural}")
    }
}
