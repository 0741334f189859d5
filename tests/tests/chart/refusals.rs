//! What is refused before anything is rendered, and in which words.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{
    Bench, Ending,
    helm::{chart, template},
};

/// What a cluster needs, and nothing more.
const CLUSTER: [&str; 6] = [
    "mode=cluster",
    "database.existingSecret=pg",
    "redis.existingSecret=redis",
    "s3.existingSecret=s3",
    "s3.endpoint=s3:9000",
    "encryption.existingSecret=key",
];

/// Values beside the defaults, whether they are for a cluster, and what is said.
const WRONG: [(&[&str], bool, &[&str]); 34] = [
    (&["mode=clustr"], false, &["/mode", "'standalone', 'cluster'"]),
    (
        &["mode=cluster"],
        false,
        &["database.existingSecret, encryption.existingSecret", "s3.endpoint", "mode: standalone"],
    ),
    (&["redis.existingSecret="], true, &["set redis.existingSecret"]),
    (&["s3.endpoint="], true, &["set s3.endpoint"]),
    (&["encryption.existingSecret="], true, &["set encryption.existingSecret"]),
    (&["s3.endpoint=https://s3.test"], true, &["/s3/endpoint", "does not match pattern"]),
    (&["database.existingSecret=pg"], false, &["database.existingSecret", "mode: cluster only"]),
    (&["proxy.replicas=1"], true, &["2 replicas or more"]),
    (&["proxy.replicas=3"], false, &["proxy.replicas", "mode: standalone is one replica"]),
    (&["proxy.replicas=0"], true, &["/proxy/replicas", "minimum"]),
    (&["operator.replicas=2"], false, &["operator.replicas", "mode: cluster"]),
    (&["autoscaling.enabled=true"], false, &["autoscaling.enabled", "mode: cluster"]),
    (
        &["autoscaling.enabled=true", "autoscaling.minReplicas=1"],
        true,
        &["/autoscaling/minReplicas", "minimum"],
    ),
    (&["autoscaling.enabled=true", "autoscaling.minReplicas=9"], true, &["autoscaling.maxReplicas is less"]),
    (&["autoscaling.enabled=true", "proxy.replicas=3"], true, &["proxy.replicas and autoscaling.enabled"]),
    (&["autoscaling.enabled=true", "proxy.resources.requests=null"], true, &["proxy.resources.requests.cpu"]),
    (
        &["podDisruptionBudget.minAvailable=1", "podDisruptionBudget.maxUnavailable=1"],
        true,
        &["one of them is enough"],
    ),
    (&["networkPolicy.egress.enabled=true"], true, &["networkPolicy.egress.stores"]),
    (&["database.ca.existingSecret=ca"], true, &["database.tls: verify only, and that is disable"]),
    (&["persistence.existingClaim=mine", "persistence.enabled=false"], false, &["persistence.existingClaim"]),
    (&["watchNamespaces={*,team}"], false, &["watchNamespaces", "give it alone"]),
    (&["watchNamespaces={Team}"], false, &["/watchNamespaces/0", "does not match pattern"]),
    (&["ingress.enabled=true"], false, &["ingress.hosts is empty"]),
    (&["httpRoute.enabled=true"], false, &["httpRoute.parentRefs is empty"]),
    (&["service.nodePort=30000"], false, &["service.nodePort needs service.type"]),
    (&["service.type=ExternalName"], false, &["/service/type"]),
    (&["operator.ceilings.mirrorFor={*.io}"], false, &["operator.ceilings.mirrorFor", "*.io is no host"]),
    (&["operator.ceilings.allowCIDRs={10.0.0.0}"], false, &["/operator/ceilings/allowCIDRs/0"]),
    (&["publicURL=packages.test"], false, &["/publicURL"]),
    (&["publicURL=https://me:secret@packages.test"], false, &["/publicURL"]),
    (&["proxy.image.digest=latest"], false, &["/proxy/image/digest"]),
    (&["collection.grace=1d"], false, &["/collection/grace"]),
    (&["persistence.size=lots"], false, &["/persistence/size"]),
    (&["proxy.replcas=2"], false, &["'replcas' not allowed"]),
];

pub(crate) fn values(_: &Bench) -> Ending {
    for (values, is_cluster, words) in WRONG {
        let base: &[&str] = if is_cluster { &CLUSTER } else { &[] };
        let told = template().set(base).set(values).refused();
        for word in words {
            assert!(told.contains(word), "{values:?}: {word:?} in: {told}");
        }
        assert!(!told.contains("nil pointer"), "{values:?}: {told}");
    }
    // Everything that does not fit together is told at once.
    let told =
        template().set(&["operator.replicas=2", "ingress.enabled=true", "service.nodePort=1"]).refused();
    assert_eq!(told.matches("\n* ").count(), 3, "{told}");
    template().set(&CLUSTER).ok();
    Ok(())
}

/// Every object of the values is closed, and described to its leaves.
pub(crate) fn schema(_: &Bench) -> Ending {
    let schema = fs::read_to_string(chart().join("values.schema.json")).expect("a schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let values = fs::read_to_string(chart().join("values.yaml")).expect("values");
    let values: Value = serde_yaml::from_str(&values).expect("YAML");
    let (mut closed, mut open) = (0, BTreeSet::new());
    compare("", &values, &schema, &schema, &mut closed, &mut open);
    assert!(closed > 30, "{closed}");
    // What Kubernetes defines, and Helm.
    let known = [
        "global",
        "operator.affinity",
        "operator.resources",
        "proxy.affinity",
        "proxy.resources",
        "migration.resources",
        "autoscaling.behavior",
        "podSecurityContext",
        "securityContext",
    ];
    assert_eq!(open, known.map(str::to_owned).into());
    Ok(())
}

/// Holds the values at `path` against their part of the schema.
fn compare(
    path: &str,
    values: &Value,
    part: &Value,
    whole: &Value,
    closed: &mut usize,
    open: &mut BTreeSet<String>,
) {
    let part = match part["$ref"].as_str() {
        Some(place) => whole.pointer(place.trim_start_matches('#')).expect("a definition"),
        None => part,
    };
    if part["type"] != "object" {
        return;
    }
    let Some(properties) = part["properties"].as_object() else {
        if !part["additionalProperties"].is_object() {
            open.insert(path.to_owned());
        }
        return;
    };
    assert_eq!(part["additionalProperties"], false, "{path} is open");
    *closed += 1;
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<BTreeSet<_>>();
    let described = names(properties.keys().filter(|name| *name != "global").collect());
    let given = names(values.as_object().unwrap_or_else(|| panic!("{path} in values.yaml")).keys().collect());
    assert_eq!(given, described, "values.yaml and values.schema.json at {path:?}");
    for (name, part) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(&path, &values[name], part, whole, closed, open);
    }
}
