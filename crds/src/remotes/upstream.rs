//! The parts of a Remote's spec that say how its upstream is reached.

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use crate::{duration::DurationString, limits};

/// The entry of `fileHosts` that stands for every public host.
pub const PUBLIC_HOSTS: &str = "public";

/// `host` or `host:port`, lower case: DNS name, IPv4 address, or IPv6 address in brackets.
pub(crate) const HOST: &str = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$";

/// `spec.auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Secret with `username` and `password`, with `token` (sent as bearer token), or of type
    /// `kubernetes.io/dockerconfigjson`. Its contents go to baseURL's origin and to `authRealms` only.
    pub secret_ref: ObjectReference,
}

/// `spec.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.caSecretRef) && has(self.caConfigMapRef))")
    .message("give the CA by caSecretRef or by caConfigMapRef, not by both").field_path(".caConfigMapRef"))]
pub struct Tls {
    /// Secret whose `ca.crt` holds additional roots (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<ObjectReference>,
    /// ConfigMap whose `ca.crt` holds additional roots (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<ObjectReference>,
    /// Secret whose `tls.crt` and `tls.key` hold a client certificate (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<ObjectReference>,
}

/// An object in the Remote's own namespace. There is no way to name another namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = limits::OBJECT_NAME), regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
}

/// `spec.egress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// Non-public networks that this Remote may connect to, as `10.1.0.0/16`. In a cluster they must lie within
    /// the operator's ceiling.
    #[serde(rename = "allowCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::CIDRS), inner(length(min = 1, max = limits::CIDR)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(net, isCIDR(net))")
        .message("every entry must be a network such as 10.1.0.0/16 or fd00::/8"))]
    pub allow_cidrs: Vec<String>,
    /// HTTP proxy for every upstream connection, as `http://proxy.example.org:3128`.
    #[serde(rename = "proxyURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = limits::URL))]
    #[x_kube(validation = scheme_rule())]
    #[x_kube(validation = userinfo_rule().message("must not hold a user name or password"))]
    #[x_kube(validation = query_rule())]
    pub proxy_url: Option<String>,
}

/// `spec.timeouts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// TCP and TLS.
    #[serde(default = "default_connect")]
    pub connect: DurationString,
    /// From the request's end to the response head.
    #[serde(default = "default_first_byte")]
    pub first_byte: DurationString,
    /// Between two pieces of a body.
    #[serde(default = "default_idle")]
    pub idle: DurationString,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: default_connect(), first_byte: default_first_byte(), idle: default_idle() }
    }
}

fn default_connect() -> DurationString {
    "3s".into()
}

fn default_first_byte() -> DurationString {
    "10s".into()
}

fn default_idle() -> DurationString {
    "30s".into()
}

pub(super) fn scheme_rule() -> Rule {
    Rule::new("self.matches('^https?://[^/?#]')")
        .message("must be a URL that begins with http:// or https://")
}

pub(super) fn userinfo_rule() -> Rule {
    Rule::new("!self.matches('^[^/]*//[^/?#]*@')").message(
        "must not hold a user name or password: put them into a Secret and name it in auth.secretRef",
    )
}

pub(super) fn query_rule() -> Rule {
    Rule::new("!self.contains('?') && !self.contains('#')").message("must have no query and no fragment")
}

pub(super) fn file_hosts_rule() -> Rule {
    Rule::new("!('public' in self) || size(self) == 1")
        .message("public stands for every public host: give it alone, or give a list of hosts")
}
