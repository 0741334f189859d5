//! What is refused before anything is rendered, and in which words.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{
    Bench, Ending,
    helm::{CLUSTER, chart, template, template_of},
};

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

/// What Kubernetes would take, and the program, or the API server later, would not.
const UNUSABLE: [(&[&str], bool, &[&str]); 29] = [
    (
        &["proxy.cache.limit=9Gi"],
        true,
        &["proxy.cache.limit: 9Gi is less than proxy.cache.size, which is 10Gi"],
    ),
    (&["proxy.cache.request=lots"], true, &["/proxy/cache/request"]),
    (
        &["proxy.cache.request=1Gi", "proxy.cache.ephemeralVolume.enabled=true"],
        true,
        &["proxy.cache.request concerns the node's own disk"],
    ),
    (
        &["service.externalTrafficPolicy=Local"],
        false,
        &["externalTrafficPolicy needs service.type: NodePort or"],
    ),
    (
        &["service.loadBalancerClass=a.test/b", "service.type=NodePort"],
        false,
        &["service.loadBalancerClass needs service.type: LoadBalancer, and that is NodePort"],
    ),
    (
        &["service.loadBalancerSourceRanges={10.0.0.0/8}"],
        false,
        &["loadBalancerSourceRanges needs service.type"],
    ),
    (&["proxy.cache.size=10.5Gi"], true, &["proxy.cache.size: 10.5Gi is no amount", "as 10Gi"]),
    (&["proxy.cache.size=1Ei"], true, &["proxy.cache.size: 1Ei is no amount"]),
    (&["proxy.cache.size=0Gi"], true, &["proxy.cache.size: 0Gi is no amount"]),
    (&["proxy.cache.size=8192Pi"], true, &["proxy.cache.size: 8192Pi is no amount"]),
    (
        &["proxy.cache.ephemeralVolume.enabled=true", "proxy.cache.size=13Gi"],
        true,
        &["proxy.cache.ephemeralVolume.size: 12Gi is less than proxy.cache.size, which is 13Gi"],
    ),
    (&["operator.resync=100ms"], false, &["operator.resync: 100ms is not between 1s and 87600h"]),
    (&["operator.nameGrace=0s"], false, &["operator.nameGrace: 0s is not between 1s"]),
    (&["collection.interval=0s"], false, &["collection.interval: 0s is not between 1ms"]),
    (&["collection.grace=90000h"], false, &["collection.grace: 90000h is not between 0s and 87600h"]),
    (
        &["metrics.serviceMonitor.interval=1.5m"],
        false,
        &["metrics.serviceMonitor.interval: 1.5m", "whole numbers"],
    ),
    (&["trustedProxies={10.0.0.0/99}"], false, &["trustedProxies: 10.0.0.0/99 is no network as 10.0.0.0/8"]),
    (&["trustedProxies={fd00::/129}"], false, &["trustedProxies: fd00::/129 is no network"]),
    (&["operator.ceilings.allowCIDRs={10.0.0.300/8}"], false, &["allowCIDRs: 10.0.0.300/8 is no network"]),
    (
        &["service.loadBalancerSourceRanges={10.0/8}"],
        false,
        &["service.loadBalancerSourceRanges: 10.0/8 is no network"],
    ),
    (
        &["ingress.enabled=true", "ingress.hosts={a.example.com:8443}"],
        false,
        &["ingress.hosts: a.example.com:8443 is no host", "neither port nor path"],
    ),
    (&["ingress.enabled=true", "ingress.hosts={*c}"], false, &["ingress.hosts: *c is no host"]),
    (
        &["ingress.enabled=true", "ingress.hosts={a.test}", "ingress.tls[0].hosts={A.test}"],
        false,
        &["ingress.tls: A.test is no host"],
    ),
    (
        &["httpRoute.enabled=true", "httpRoute.parentRefs[0].name=one", "httpRoute.hostnames={a.test:80}"],
        false,
        &["httpRoute.hostnames: a.test:80 is no host"],
    ),
    (&["fullnameOverride=Packages"], false, &["/fullnameOverride"]),
    (&["nameOverride=-my.Name"], false, &["nameOverride: -my.Name can be no part of a name"]),
    (
        &[r"commonLabels.app\.kubernetes\.io/name=x"],
        false,
        &["commonLabels: app.kubernetes.io/name is by what"],
    ),
    (
        &[r"proxy.podLabels.app\.kubernetes\.io/instance=x"],
        true,
        &["proxy.podLabels: app.kubernetes.io/instance"],
    ),
    (
        &[r"operator.podLabels.app\.kubernetes\.io/component=x"],
        true,
        &["operator.podLabels: app.kubernetes.io/component", "use another label"],
    ),
];

/// Values that take each other's effect away, or give away more than was meant.
const CONTRADICTING: [(&[&str], bool, &[&str]); 19] = [
    (
        &["publicURL=https://a.test/cache/", "ingress.enabled=true", "ingress.hosts={a.test}"],
        false,
        &["publicURL: https://a.test/cache/ is below the path /cache", "leave the path out"],
    ),
    (
        &[
            "publicURL=https://a.test/cache",
            "httpRoute.enabled=true",
            "httpRoute.hostnames={a.test}",
            "httpRoute.parentRefs[0].name=one",
        ],
        true,
        &["publicURL: https://a.test/cache is below the path /cache"],
    ),
    (
        &["proxy.terminationGracePeriodSeconds=1"],
        false,
        &["proxy.terminationGracePeriodSeconds: 1 leaves nothing", "must be 6 or more"],
    ),
    (
        &["proxy.terminationGracePeriodSeconds=30", "proxy.preStopSeconds=25"],
        true,
        &["proxy.terminationGracePeriodSeconds: 30 leaves nothing", "must be 31 or more"],
    ),
    (&["podDisruptionBudget.minAvailable=2"], true, &["minAvailable: 2 of 2 replicas is all of them"]),
    (&["podDisruptionBudget.minAvailable=51%"], true, &["minAvailable: 51% of 2 replicas is all of them"]),
    (
        &["podDisruptionBudget.minAvailable=3", "autoscaling.enabled=true", "autoscaling.minReplicas=3"],
        true,
        &["minAvailable: 3 of 3 replicas"],
    ),
    (&["podDisruptionBudget.maxUnavailable=0"], true, &["maxUnavailable: 0 lets no node be emptied"]),
    (&["podDisruptionBudget.maxUnavailable=0%"], true, &["maxUnavailable: 0 lets no node be emptied"]),
    (
        &["nodePort.enabled=true", "service.type=NodePort", "service.nodePort=30800"],
        false,
        &["nodePort.port and service.nodePort are both 30800"],
    ),
    (
        &["operator.serviceAccount.name=one", "proxy.serviceAccount.name=one"],
        true,
        &["operator.serviceAccount and proxy.serviceAccount are both one"],
    ),
    (
        &["operator.serviceAccount.create=false"],
        false,
        &["name the operator's account in operator.serviceAccount.name"],
    ),
    (&["operator.serviceAccount.create=false"], true, &["operator.serviceAccount.name"]),
    (
        &["httpRoute.enabled=true", "httpRoute.parentRefs[0].name=one"],
        false,
        &["httpRoute.hostnames is empty: name a host"],
    ),
    (
        &["networkPolicy.egress.enabled=true"],
        false,
        &["networkPolicy.egress.kubernetesAPI: in mode: standalone", "name by `to` where the API server is"],
    ),
    (
        &["networkPolicy.egress.enabled=true", "networkPolicy.egress.kubernetesAPI[0].ports[0].port=443"],
        false,
        &["networkPolicy.egress.kubernetesAPI"],
    ),
    (
        &["networkPolicy.egress.enabled=true", "networkPolicy.enabled=false"],
        true,
        &["networkPolicy.egress.enabled closes nothing"],
    ),
    (&["proxy.extraEnv[0].value=x"], false, &["/proxy/extraEnv/0", "name"]),
    (&["service.externalTrafficPolicy=local"], false, &["/service/externalTrafficPolicy"]),
];

pub(crate) fn values(_: &Bench) -> Ending {
    for (values, is_cluster, words) in WRONG.iter().chain(&UNUSABLE).chain(&CONTRADICTING) {
        let base: &[&str] = if *is_cluster { &CLUSTER } else { &[] };
        let told = template().set(base).set(values).refused();
        for word in *words {
            assert!(told.contains(word), "{values:?}: {word:?} in: {told}");
        }
        assert!(!told.contains("nil pointer"), "{values:?}: {told}");
    }
    // Everything that does not fit together is told at once.
    let told =
        template().set(&["operator.replicas=2", "ingress.enabled=true", "service.nodePort=1"]).refused();
    assert_eq!(told.matches("\n* ").count(), 3, "three sentences: {told}");
    template().set(&CLUSTER).ok();
    // What is nearly as wrong and is not.
    template()
        .set(&CLUSTER)
        .set(&["proxy.terminationGracePeriodSeconds=11", "podDisruptionBudget.minAvailable=50%"])
        .set(&[
            "proxy.cache.size=8191Pi",
            "operator.resync=1s",
            "collection.interval=1ms",
            "collection.grace=0s",
        ])
        .set(&["trustedProxies={0.0.0.0/0,::/0,fd00::1/128}", "nodePort.enabled=true"])
        .set(&["ingress.enabled=true", "ingress.hosts={*.example.com,a}", "publicURL=https://a.test/"])
        .set(&["service.type=NodePort", "service.externalTrafficPolicy=Local"])
        .ok();
    // Somebody's own Ingress may take a path away.
    template().set(&["publicURL=https://a.test/cache"]).ok();
    for release in ["a.b", "1a"] {
        let told = template_of(release).refused();
        assert!(
            told.contains("can be no name of a Service") && told.contains("set fullnameOverride"),
            "{told}"
        );
        template_of(release).set(&["fullnameOverride=packages"]).ok();
    }
    Ok(())
}

/// Values of a file that have a colon and nothing behind it take the chart's away: all of them are told, and where a
/// whole section is empty, that.
pub(crate) fn empty(_: &Bench) -> Ending {
    let listed = fs::read_to_string(chart().join("files/values.txt")).expect("the list of values");
    let paths: Vec<&str> = listed.lines().collect();
    assert!(paths.len() > 140, "{} values in files/values.txt", paths.len());
    let refused = |paths: &[&str]| {
        let null: Vec<String> = paths.iter().map(|path| format!("{path}=null")).collect();
        let told = template().set(&null.iter().map(String::as_str).collect::<Vec<_>>()).refused();
        assert!(told.contains("nothing after their colon") && told.contains("Leave them out"), "{told}");
        let list = told.split_once("away: ").and_then(|(_, rest)| rest.split_once(".\n")).expect("a list").0;
        let named: BTreeSet<String> = list.split(", ").map(str::to_owned).collect();
        assert_eq!(named, paths.iter().map(|path| (*path).to_owned()).collect(), "{told}");
    };
    refused(&paths);
    let sections: BTreeSet<&str> =
        paths.iter().filter_map(|path| path.split_once('.')).map(|it| it.0).collect();
    refused(&sections.into_iter().collect::<Vec<_>>());
    let deeper: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| path.rsplit_once('.'))
        .map(|it| it.0)
        .filter(|path| path.contains('.'))
        .collect();
    let outermost: Vec<&str> = deeper
        .iter()
        .copied()
        .filter(|path| !deeper.iter().any(|above| path.starts_with(&format!("{above}."))))
        .collect();
    refused(&outermost);
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
    // What Helm and a parent chart's condition pass down.
    let passed = |name: &String| path.is_empty() && (name == "global" || name == "enabled");
    let described = names(properties.keys().filter(|name| !passed(name)).collect());
    let given = names(values.as_object().unwrap_or_else(|| panic!("{path} in values.yaml")).keys().collect());
    assert_eq!(given, described, "values.yaml and values.schema.json at {path:?}");
    for (name, part) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(&path, &values[name], part, whole, closed, open);
    }
}
