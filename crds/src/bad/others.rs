//! Bad Virtuals, Locals and Robots.

use serde_json::{Value, json};

use super::{Case, merged};

fn virt(wrong: Value) -> Value {
    merged(json!({ "type": "npm", "members": ["npm"] }), wrong)
}

fn grant(repositories: Value, actions: Value) -> Value {
    json!({ "grants": [{ "repositories": repositories, "actions": actions }] })
}

pub(super) fn virtuals() -> Vec<Case> {
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
        (
            json!({ "type": "terraform", "members": ["origin", "pushed"], "resolution": "union" }),
            "spec.members[1]",
            "memberUnion",
        ),
    ]
}

/// Those that break several rules at once.
pub(super) fn virtuals_of_many_faults() -> Vec<Case> {
    vec![
        (virt(json!({ "members": vec!["npm"; 65] })), "spec.members", "maxItems"),
        (virt(json!({ "members": ["npm", "npm"] })), "spec.members", "self.all(m,"),
        (virt(json!({ "members": ["npm", "x"] })), "spec.members", "!(self.metadata.name in"),
        (
            virt(json!({ "reserved": [{ "member": "y", "patterns": ["a"] }] })),
            "spec.reserved",
            "!has(self.reserved)",
        ),
        (
            json!({ "type": "docker", "members": ["d"], "resolution": "union" }),
            "spec.resolution",
            "!has(self.resolution)",
        ),
    ]
}

pub(super) fn locals() -> Vec<Case> {
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
    ]
}

pub(super) fn robots() -> Vec<Case> {
    let mut short = grant(json!(["a"]), json!(["pull"]));
    short["tokenTTL"] = json!("5m");
    vec![
        (json!({}), "spec.grants", "required"),
        (json!({ "grants": [] }), "spec.grants", "minItems"),
        (grant(json!(["a b"]), json!(["pull"])), "spec.grants[0].repositories[0]", "pattern"),
        (grant(json!(["a", "a"]), json!(["pull"])), "spec.grants[0].repositories", "uniqueItems"),
        (grant(json!([]), json!(["pull"])), "spec.grants[0].repositories", "minItems"),
        (grant(json!(["a"]), json!(["read"])), "spec.grants[0].actions[0]", "enum"),
        (grant(json!(["a"]), json!([])), "spec.grants[0].actions", "minItems"),
        (short, "spec.tokenTTL", "duration(self)"),
    ]
}
