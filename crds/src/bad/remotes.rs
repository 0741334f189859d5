//! Bad Remotes.

use serde_json::{Value, json};

use super::{Case, merged};

/// A spec of type npm that would be sound but for `wrong`.
fn with(wrong: Value) -> Value {
    merged(json!({ "type": "npm", "baseURL": "https://h/" }), wrong)
}

fn docker(wrong: Value) -> Value {
    merged(json!({ "type": "docker", "baseURL": "https://h/" }), wrong)
}

/// Shapes and limits.
pub(super) fn structure() -> Vec<Case> {
    let many = |n: usize| (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>();
    vec![
        (json!({ "baseURL": "https://h/" }), "spec.type", "required"),
        (json!({ "type": "npm" }), "spec.baseURL", "required"),
        (with(json!({ "type": "maven" })), "spec.type", "enum"),
        (with(json!({ "type": 5 })), "spec.type", "enum"),
        (with(json!({ "baseURL": "" })), "spec.baseURL", "minLength"),
        (with(json!({ "baseURL": format!("https://h/{}", "a".repeat(2048)) })), "spec.baseURL", "maxLength"),
        (with(json!({ "patterns": "a" })), "spec.patterns", "type"),
        (with(json!({ "patterns": [""] })), "spec.patterns[0]", "minLength"),
        (with(json!({ "patterns": ["a".repeat(513)] })), "spec.patterns[0]", "maxLength"),
        (with(json!({ "blocklist": many(129) })), "spec.blocklist", "maxItems"),
        (with(json!({ "mutableTTL": "30d" })), "spec.mutableTTL", "pattern"),
        (with(json!({ "mutableTTL": "-5m" })), "spec.mutableTTL", "pattern"),
        (with(json!({ "mutableTTL": 300 })), "spec.mutableTTL", "type"),
        (with(json!({ "immutableTTL": "forever" })), "spec.immutableTTL", "pattern"),
        (with(json!({ "maxConcurrent": 0 })), "spec.maxConcurrent", "minimum"),
        (with(json!({ "maxConcurrent": 1025 })), "spec.maxConcurrent", "maximum"),
        (with(json!({ "maxConcurrent": 1.5 })), "spec.maxConcurrent", "type"),
        (with(json!({ "delivery": "fast" })), "spec.delivery", "enum"),
        (with(json!({ "onUpstreamGone": "Keep" })), "spec.onUpstreamGone", "enum"),
        (with(json!({ "deletionPolicy": "retain" })), "spec.deletionPolicy", "enum"),
        (with(json!({ "suspend": "yes" })), "spec.suspend", "type"),
        (with(json!({ "access": { "read": "everyone" } })), "spec.access.read", "enum"),
        (with(json!({ "fileHosts": "public" })), "spec.fileHosts", "type"),
        (with(json!({ "fileHosts": ["https://files/"] })), "spec.fileHosts[0]", "pattern"),
        (with(json!({ "authRealms": ["UPPER"] })), "spec.authRealms[0]", "pattern"),
        (with(json!({ "auth": {} })), "spec.auth.secretRef", "required"),
        (with(json!({ "auth": { "secretRef": { "name": "No!" } } })), "spec.auth.secretRef.name", "pattern"),
        (with(json!({ "retention": { "maxBytes": "10GB" } })), "spec.retention.maxBytes", "pattern"),
        (with(json!({ "retention": { "maxBytes": true } })), "spec.retention.maxBytes", "type"),
        (with(json!({ "baseUrl": "https://h/" })), "spec.baseUrl", "unknownField"),
        (with(json!({ "timeouts": { "read": "5s" } })), "spec.timeouts.read", "unknownField"),
    ]
}

/// Rules between fields, and what only a reader of the value can know.
pub(super) fn rules() -> Vec<Case> {
    vec![
        (with(json!({ "baseURL": "ftp://h/" })), "spec.baseURL", "self.matches('^https?://"),
        (with(json!({ "baseURL": "https:///x" })), "spec.baseURL", "self.matches('^https?://"),
        (with(json!({ "baseURL": "https://u:p@h/" })), "spec.baseURL", "!self.matches('^[^/]*//"),
        (with(json!({ "baseURL": "https://h/?a=b" })), "spec.baseURL", "!self.contains('?')"),
        (with(json!({ "baseURL": "https://h/#a" })), "spec.baseURL", "!self.contains('?')"),
        (with(json!({ "baseURL": "https://h:99999/" })), "spec.baseURL", "url"),
        (with(json!({ "docker": {} })), "spec.docker", "!has(self.docker)"),
        (with(json!({ "generic": {} })), "spec.generic", "!has(self.generic)"),
        (with(json!({ "fileHosts": ["public", "h"] })), "spec.fileHosts", "!('public' in self)"),
        (with(json!({ "fileHosts": ["h", "h"] })), "spec.fileHosts", "uniqueItems"),
        (with(json!({ "egress": { "proxyURL": "socks5://h" } })), "spec.egress.proxyURL", "self.matches("),
        (with(json!({ "patterns": ["a", "(b"] })), "spec.patterns[1]", "regex"),
        (with(json!({ "mutablePatterns": ["*"] })), "spec.mutablePatterns[0]", "regex"),
        (with(json!({ "immutablePatterns": ["[z-a]"] })), "spec.immutablePatterns[0]", "regex"),
        (with(json!({ "blocklist": ["(a{1000}){1000}"] })), "spec.blocklist[0]", "regex"),
        (docker(json!({ "docker": { "banTags": ["a{9999999}"] } })), "spec.docker.banTags[0]", "regex"),
        (docker(json!({ "docker": { "mirrorFor": ["h", "h"] } })), "spec.docker.mirrorFor", "uniqueItems"),
        (docker(json!({ "docker": { "mirrorFor": ["h:99999"] } })), "spec.docker.mirrorFor[0]", "host"),
        (with(json!({ "timeouts": { "connect": "0s" } })), "spec.timeouts.connect", "duration"),
        (with(json!({ "staleIfError": "99999h" })), "spec.staleIfError", "duration"),
        (with(json!({ "retention": { "unusedFor": "0s" } })), "spec.retention.unusedFor", "duration"),
        (with(json!({ "retention": { "maxBytes": 0 } })), "spec.retention.maxBytes", "quantity"),
        (
            with(json!({ "auth": { "secretRef": { "name": "none" } } })),
            "spec.auth.secretRef.name",
            "secretMissing",
        ),
        (with(json!({ "auth": { "secretRef": { "name": "empty" } } })), "spec.auth.secretRef", "secretKey"),
        (with(json!({ "tls": { "caSecretRef": { "name": "empty" } } })), "spec.tls.caSecretRef", "secretKey"),
    ]
}

/// Those that break several rules at once.
pub(super) fn of_many_faults() -> Vec<Case> {
    vec![(
        with(json!({ "auth": { "secretRef": { "name": "s", "namespace": "other" } } })),
        "spec.auth.secretRef.namespace",
        "unknownField",
    )]
}
