//! Secrets and ConfigMaps that Remotes name: read when a Remote is reconciled, never kept. Only the entries that have a
//! meaning for a Remote are taken; whatever else is in a Secret stays where it is.

use std::collections::{BTreeMap, BTreeSet};

use artifactapi_crds::{
    References,
    manifests::{ObjectRef, config_map_to_json, secret_to_json},
    object::named_by,
    references::{ConfigMap, Secret},
};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1;
use kube::{Api, Client};

use crate::{
    api,
    conditions::{Outcome, Reason},
    seen::Seen,
    sink::Row,
};

/// Entries of Secrets that a Remote can use.
const SECRET_KEYS: [&str; 7] =
    [".dockerconfigjson", "ca.crt", "password", "tls.crt", "tls.key", "token", "username"];
/// Those of ConfigMaps.
const CONFIG_MAP_KEYS: [&str; 1] = ["ca.crt"];
/// Type of Secrets that are a service account's token.
const SERVICE_ACCOUNT: &str = "kubernetes.io/service-account-token";
/// Objects read at the same time.
const AT_ONCE: usize = 16;

/// What was read of the objects that a batch names.
#[derive(Debug, Default)]
pub struct Read {
    references: References,
    rows: BTreeMap<ObjectRef, Row>,
    versions: BTreeMap<ObjectRef, Option<String>>,
    forbidden: BTreeSet<ObjectRef>,
    /// Tokens of service accounts.
    accounts: BTreeSet<ObjectRef>,
    failed: BTreeMap<ObjectRef, String>,
}

impl Read {
    /// Reads all of `named`.
    pub async fn all(client: &Client, named: BTreeSet<ObjectRef>) -> Self {
        let mut read = Read::default();
        let reads = named.into_iter().map(|object| async {
            let found = fetch(client, &object).await;
            (object, found)
        });
        let mut found = stream::iter(reads).buffer_unordered(AT_ONCE);
        while let Some((object, found)) = found.next().await {
            read.add(object, found);
        }
        read
    }

    fn add(&mut self, object: ObjectRef, found: Result<Option<Found>, api::Failure>) {
        match found {
            Ok(None) => drop(self.versions.insert(object, None)),
            Ok(Some(Found { uid, version, body })) => {
                let (namespace, name) = (&object.namespace, &object.name);
                let document = match body {
                    Body::Secret(secret) => {
                        let document = secret_to_json(&object, &secret);
                        self.references.add_secret(namespace, name, secret);
                        document
                    }
                    Body::Account => {
                        self.versions.insert(object.clone(), version);
                        self.accounts.insert(object);
                        return;
                    }
                    Body::ConfigMap(map) => {
                        let document = config_map_to_json(&object, &map);
                        self.references.add_config_map(namespace, name, map);
                        document
                    }
                };
                let row = Row { object: object.clone(), uid, generation: None, document: document.into() };
                self.rows.insert(object.clone(), row);
                self.versions.insert(object, version);
            }
            Err(api::Failure::Forbidden) => {
                // Whatever a watch tells of it from now on is news.
                self.versions.insert(object.clone(), None);
                self.forbidden.insert(object);
            }
            Err(api::Failure::Other(error)) => drop(self.failed.insert(object, error)),
        }
    }

    /// All that were found.
    pub fn references(&self) -> &References {
        &self.references
    }

    /// The row of one that was found.
    pub fn row(&self, object: &ObjectRef) -> Option<&Row> {
        self.rows.get(object)
    }

    /// Version of each that was looked for; `None` for those that are not there.
    pub fn versions(&self) -> impl Iterator<Item = (&ObjectRef, &Option<String>)> {
        self.versions.iter()
    }

    /// What could not be read that `seen` names, for the moment.
    pub fn failure(&self, seen: &Seen) -> Option<&str> {
        named_by(&seen.manifest.read()).iter().find_map(|named| self.failed.get(named)).map(String::as_str)
    }

    /// Why `seen` cannot be judged for good: something that it names must not be read.
    pub fn refusal(&self, seen: &Seen) -> Option<Outcome> {
        let named = named_by(&seen.manifest.read());
        if let Some(account) = named.iter().find(|named| self.accounts.contains(named)) {
            let message = format!(
                "{account} is the token of a service account, which is shown to no upstream: put the upstream's own \
                 credentials into a Secret"
            );
            return Some(Outcome { reason: Reason::SecretInvalid, message });
        }
        let forbidden = named.iter().find(|named| self.forbidden.contains(named))?;
        Some(Outcome {
            reason: if forbidden.kind == "Secret" {
                Reason::SecretForbidden
            } else {
                Reason::ConfigMapForbidden
            },
            message: format!(
                "{forbidden} must not be read by the operator: its role needs get on {} in namespace {:?}",
                if forbidden.kind == "Secret" { "secrets" } else { "configmaps" },
                forbidden.namespace
            ),
        })
    }
}

struct Found {
    uid: String,
    version: Option<String>,
    body: Body,
}

enum Body {
    Secret(Secret),
    /// A token by which the API server knows a service account.
    Account,
    ConfigMap(ConfigMap),
}

async fn fetch(client: &Client, object: &ObjectRef) -> Result<Option<Found>, api::Failure> {
    let (namespace, name) = (&object.namespace, &object.name);
    if object.kind == "ConfigMap" {
        let api: Api<v1::ConfigMap> = Api::namespaced(client.clone(), namespace);
        let Some(found) = api::patiently(api.get_opt(name)).await? else { return Ok(None) };
        let entries = found.data.unwrap_or_default();
        let data = entries.into_iter().filter(|(key, _)| CONFIG_MAP_KEYS.contains(&key.as_str())).collect();
        let body = Body::ConfigMap(ConfigMap { data });
        let (uid, version) = (found.metadata.uid.unwrap_or_default(), found.metadata.resource_version);
        return Ok(Some(Found { uid, version, body }));
    }
    let api: Api<v1::Secret> = Api::namespaced(client.clone(), namespace);
    let Some(found) = api::patiently(api.get_opt(name)).await? else { return Ok(None) };
    if found.type_.as_deref() == Some(SERVICE_ACCOUNT) {
        let (uid, version) = (found.metadata.uid.unwrap_or_default(), found.metadata.resource_version);
        return Ok(Some(Found { uid, version, body: Body::Account }));
    }
    let entries = found.data.unwrap_or_default().into_iter();
    let used = entries.filter(|(key, _)| SECRET_KEYS.contains(&key.as_str()));
    let body = Body::Secret(Secret::new(used.map(|(key, value)| (key, value.0))));
    let (uid, version) = (found.metadata.uid.unwrap_or_default(), found.metadata.resource_version);
    Ok(Some(Found { uid, version, body }))
}
