//! Bad manifests: the field and the rule that an author is told.

use super::*;

/// A spec of type npm that would be sound but for `wrong`.
fn with(wrong: Value) -> Value {
    let mut spec = json!({ "type": "npm", "baseURL": "https://h/" });
    merge(&mut spec, wrong);
    spec
}

fn docker(wrong: Value) -> Value {
    let mut spec = json!({ "type": "docker", "baseURL": "https://h/" });
    merge(&mut spec, wrong);
    spec
}

fn virt(wrong: Value) -> Value {
    let mut spec = json!({ "type": "npm", "members": ["npm"] });
    merge(&mut spec, wrong);
    spec
}

fn merge(spec: &mut Value, wrong: Value) {
    for (name, value) in wrong.as_object().unwrap() {
        spec[name] = value.clone();
    }
}

/// What surrounds the bad manifest.
fn neighbours() -> String {
    [
        remote("npm", "npm"),
        remote("pypi", "pypi"),
        document("Virtual", "team", "inner", &json!({ "type": "npm", "members": ["npm"] })),
        document("Remote", "elsewhere", "far", &json!({ "type": "npm", "baseURL": "https://h/" })),
        document("Virtual", "team", "loop", &json!({ "type": "npm", "members": ["x"] })),
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: empty, namespace: team}\n".to_owned(),
    ]
    .concat()
}

/// Asserts that the manifest named `x` gives exactly this error.
fn refused(kind: &str, cases: Vec<(Value, &str, &str)>) {
    for (spec, path, rule) in cases {
        let text = neighbours() + &document(kind, "team", "x", &spec);
        let loaded = load(&[("f.yaml", &text)]);
        let own: Vec<&Problem> =
            loaded.errors.iter().filter(|p| p.object.as_ref().is_some_and(|o| o.name == "x")).collect();
        let expected = own.iter().any(|p| p.field == path && p.rule.starts_with(rule));
        assert!(expected && own.len() == 1, "{spec}: wanted {path} [{rule}], got {own:#?}");
        assert!(!own[0].message.is_empty());
    }
}

#[test]
fn rs_132_structure_of_remotes() {
    let many = |n: usize| (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>();
    refused(
        "Remote",
        vec![
            (json!({ "baseURL": "https://h/" }), "spec.type", "required"),
            (json!({ "type": "npm" }), "spec.baseURL", "required"),
            (with(json!({ "type": "maven" })), "spec.type", "enum"),
            (with(json!({ "type": 5 })), "spec.type", "enum"),
            (with(json!({ "baseURL": "" })), "spec.baseURL", "minLength"),
            (
                with(json!({ "baseURL": format!("https://h/{}", "a".repeat(2048)) })),
                "spec.baseURL",
                "maxLength",
            ),
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
            (
                with(json!({ "auth": { "secretRef": { "name": "No!" } } })),
                "spec.auth.secretRef.name",
                "pattern",
            ),
            (with(json!({ "retention": { "maxBytes": "10GB" } })), "spec.retention.maxBytes", "pattern"),
            (with(json!({ "retention": { "maxBytes": true } })), "spec.retention.maxBytes", "type"),
            (with(json!({ "baseUrl": "https://h/" })), "spec.baseUrl", "unknownField"),
            (with(json!({ "timeouts": { "read": "5s" } })), "spec.timeouts.read", "unknownField"),
        ],
    );
}

#[test]
fn rs_132_rules_of_remotes() {
    refused(
        "Remote",
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
            (
                with(json!({ "egress": { "proxyURL": "socks5://h" } })),
                "spec.egress.proxyURL",
                "self.matches(",
            ),
            (with(json!({ "patterns": ["a", "(b"] })), "spec.patterns[1]", "regex"),
            (with(json!({ "mutablePatterns": ["*"] })), "spec.mutablePatterns[0]", "regex"),
            (with(json!({ "immutablePatterns": ["[z-a]"] })), "spec.immutablePatterns[0]", "regex"),
            (with(json!({ "blocklist": ["(a{1000}){1000}"] })), "spec.blocklist[0]", "regex"),
            (docker(json!({ "docker": { "banTags": ["a{9999999}"] } })), "spec.docker.banTags[0]", "regex"),
            (
                docker(json!({ "docker": { "mirrorFor": ["h", "h"] } })),
                "spec.docker.mirrorFor",
                "uniqueItems",
            ),
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
            (
                with(json!({ "auth": { "secretRef": { "name": "empty" } } })),
                "spec.auth.secretRef",
                "secretKey",
            ),
            (
                with(json!({ "tls": { "caSecretRef": { "name": "empty" } } })),
                "spec.tls.caSecretRef",
                "secretKey",
            ),
        ],
    );
}

#[test]
fn rs_39_a_reference_to_another_namespace_is_refused() {
    let spec = with(json!({ "auth": { "secretRef": { "name": "s", "namespace": "other" } } }));
    let loaded = load(&[("f.yaml", &document("Remote", "team", "x", &spec))]);
    let problem = &loaded.errors[0];
    assert_eq!(
        (problem.field.as_str(), problem.rule.as_str()),
        ("spec.auth.secretRef.namespace", "unknownField")
    );
    assert!(problem.message.contains("never leaves"), "{problem}");
    assert!(loaded.remotes.is_empty());
}

#[test]
fn rs_132_virtuals() {
    refused(
        "Virtual",
        vec![
            (json!({ "type": "npm" }), "spec.members", "required"),
            (virt(json!({ "members": [] })), "spec.members", "minItems"),
            (virt(json!({ "members": ["nowhere"] })), "spec.members[0]", "memberMissing"),
            (virt(json!({ "members": ["npm", "far"] })), "spec.members[1]", "memberMissing"),
            (virt(json!({ "members": ["pypi"] })), "spec.members[0]", "memberType"),
            (virt(json!({ "members": ["inner"] })), "spec.members[0]", "memberKind"),
            (virt(json!({ "members": ["loop"] })), "spec.members[0]", "cycle"),
            (
                virt(json!({ "reserved": [{ "member": "npm", "patterns": ["("] }] })),
                "spec.reserved[0].patterns[0]",
                "regex",
            ),
            (
                virt(json!({ "reserved": [{ "member": "npm", "patterns": [] }] })),
                "spec.reserved[0].patterns",
                "minItems",
            ),
            (
                virt(json!({ "reserved": [
                    { "member": "npm", "patterns": ["a"] }, { "member": "npm", "patterns": ["b"] },
                ] })),
                "spec.reserved[1].member",
                "duplicate",
            ),
            (virt(json!({ "resolution": "merge" })), "spec.resolution", "enum"),
        ],
    );
    for (spec, path, rule) in [
        (virt(json!({ "members": vec!["npm"; 65] })), "spec.members", "maxItems"),
        (virt(json!({ "members": ["npm", "npm"] })), "spec.members", "self.all(m,"),
        (virt(json!({ "members": ["npm", "x"] })), "spec.members", "!(self.metadata.name in"),
        (
            virt(json!({ "reserved": [{ "member": "y", "patterns": ["a"] }] })),
            "spec.reserved",
            "!has(self.reserved)",
        ),
    ] {
        let loaded = load(&[("f.yaml", &(neighbours() + &document("Virtual", "team", "x", &spec)))]);
        let told = loaded.errors.iter().any(|p| p.field == path && p.rule.starts_with(rule));
        assert!(told, "{spec}: {:#?}", loaded.errors);
    }
    let union = json!({ "type": "docker", "members": ["d"], "resolution": "union" });
    let text = remote("d", "docker") + &document("Virtual", "team", "x", &union);
    assert_eq!(load(&[("f.yaml", &text)]).errors[0].field, "spec.resolution");
}

#[test]
fn rs_132_locals_and_robots() {
    let grant = |repositories: Value, actions: Value| json!({ "grants": [{ "repositories": repositories, "actions": actions }] });
    refused(
        "Local",
        vec![
            (json!({}), "spec.type", "required"),
            (json!({ "type": "npm" }), "spec.type", "enum"),
            (json!({ "type": "docker", "terraform": {} }), "spec.terraform", "!has(self.terraform)"),
            (
                json!({ "type": "terraform", "immutableTags": ["a"] }),
                "spec.immutableTags",
                "!has(self.immutableTags)",
            ),
            (
                json!({ "type": "terraform", "terraform": { "protocols": [5.0] } }),
                "spec.terraform.protocols[0]",
                "type",
            ),
            (
                json!({ "type": "terraform", "terraform": { "protocols": [] } }),
                "spec.terraform.protocols",
                "minItems",
            ),
            (json!({ "type": "docker", "immutableTags": ["("] }), "spec.immutableTags[0]", "regex"),
            (json!({ "type": "docker", "quota": {} }), "spec.quota.bytes", "required"),
            (json!({ "type": "docker", "quota": { "bytes": -1 } }), "spec.quota.bytes", "quantity"),
            (
                json!({ "type": "docker", "access": { "read": "authenticated", "anonymousWrite": true } }),
                "spec.access.anonymousWrite",
                "!(self.anonymousWrite",
            ),
        ],
    );
    refused(
        "Robot",
        vec![
            (json!({}), "spec.grants", "required"),
            (json!({ "grants": [] }), "spec.grants", "minItems"),
            (grant(json!(["a b"]), json!(["pull"])), "spec.grants[0].repositories[0]", "pattern"),
            (grant(json!(["a", "a"]), json!(["pull"])), "spec.grants[0].repositories", "uniqueItems"),
            (grant(json!([]), json!(["pull"])), "spec.grants[0].repositories", "minItems"),
            (grant(json!(["a"]), json!(["read"])), "spec.grants[0].actions[0]", "enum"),
            (grant(json!(["a"]), json!([])), "spec.grants[0].actions", "minItems"),
        ],
    );
    let mut short = grant(json!(["a"]), json!(["pull"]));
    short["tokenTTL"] = json!("5m");
    refused("Robot", vec![(short, "spec.tokenTTL", "duration(self)")]);
}

#[test]
fn names_that_are_no_url_segments() {
    for name in ["Upper", "under_score", "a.b", "-a", "a-", &"a".repeat(64)] {
        let loaded = load(&[("f.yaml", &document("Remote", "team", name, &with(json!({}))))]);
        assert_eq!(found(&loaded).len(), 1, "{name}: {:?}", loaded.errors);
        assert_eq!(loaded.errors[0].field, "metadata.name");
    }
    let loaded = load(&[(
        "f.yaml",
        "kind: Remote\napiVersion: artifactapi.io/v1alpha1\nspec: {type: npm, baseURL: 'https://h'}",
    )]);
    assert_eq!(found(&loaded), [("metadata.name", "required")]);
    let loaded = load(&[("f.yaml", &document("Remote", "Team!", "x", &with(json!({}))))]);
    assert_eq!(found(&loaded), [("metadata.namespace", "pattern")]);
}
