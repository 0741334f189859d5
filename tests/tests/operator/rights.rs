//! The operator may do what its published roles say, and needs nothing more (RS-40).

use std::time::Duration;

use artifactapi_services::Access;
use artifactapi_tests::{
    http,
    kubernetes::{Api, Object, roles},
    metrics::samples_at,
    wait,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Ending,
    bench::{Bench, EDITOR, VIEWER},
    stage::{PATIENCE, Stage, secret},
};

pub(crate) async fn own_namespace(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "rights").await?;
    let other = bench.namespace("rights-other").await;
    let _operator = stage.operator().await;
    stage.api.apply(&secret(&other, "login", json!({ "token": "t" }))).await;
    stage.api.apply(&stage.secret("login", json!({ "token": "t" }))).await;
    let closed =
        json!({ "type": "npm", "baseURL": "https://a/", "auth": { "secretRef": { "name": "login" } } });
    let all = [
        stage.manifest("Remote", "a", closed),
        stage.manifest(
            "Remote",
            "p",
            json!({ "type": "npm", "baseURL": "https://p/", "deletionPolicy": "Purge" }),
        ),
        stage.manifest("Virtual", "v", json!({ "type": "npm", "members": ["a"] })),
        stage.manifest("Local", "l", json!({ "type": "docker", "deletionPolicy": "Purge" })),
        stage.manifest(
            "Robot",
            "r",
            json!({ "grants": [{ "repositories": ["l"], "actions": ["pull"] }], "tokenTTL": "1h" }),
        ),
    ];
    for one in &all {
        stage.api.apply(one).await;
        stage.api.until_ready(&Object::of(one), PATIENCE).await;
    }
    // A Secret that somebody damages is mended.
    let damage = json!({ "data": { "username": null } });
    let pull = stage.object("Secret", "r");
    stage.api.merge(&pull, "", &damage).await.ok();
    let mended = async || {
        let found = stage.api.get(&pull).await.unwrap_or_default();
        found["data"]["username"].is_string()
    };
    wait::until("the Secret to be mended", PATIENCE, mended).await;
    let lost =
        json!({ "type": "npm", "baseURL": "https://a/", "tls": { "caConfigMapRef": { "name": "none" } } });
    let lost = stage.manifest("Remote", "lost", lost);
    stage.api.apply(&lost).await;
    stage.until_refused(&Object::of(&lost), "ConfigMapNotFound").await;
    // A transition, of which an event tells.
    let broken =
        json!({ "type": "npm", "baseURL": "https://p/", "deletionPolicy": "Purge", "patterns": ["("] });
    stage.api.apply(&stage.manifest("Remote", "p", broken)).await;
    stage.until_refused(&stage.object("Remote", "p"), "Invalid").await;
    let token = stage.api.account_token(&stage.namespace, roles::ACCOUNT).await;
    let operator = Api::new(bench.kubernetes(), &token);
    let ours = "artifactapi.io";
    for (verb, group, resource) in
        [("get", "", "secrets"), ("list", "", "secrets"), ("watch", ours, "remotes")]
    {
        assert!(!operator.may(verb, group, resource, &other).await, "{verb} {resource} elsewhere");
    }
    for (verb, group, resource) in [
        ("delete", ours, "remotes"),
        ("create", ours, "remotes"),
        ("delete", "", "secrets"),
        ("create", "", "pods"),
        ("get", "", "nodes"),
        ("create", "rbac.authorization.k8s.io", "rolebindings"),
        ("impersonate", "", "users"),
    ] {
        assert!(!operator.may(verb, group, resource, &stage.namespace).await, "{verb} {resource}");
    }
    for one in &all {
        stage.api.delete(&Object::of(one)).await.ok();
        // A purge takes its time.
        stage.api.until_gone(&Object::of(one), PATIENCE).await;
    }
    let audited = all_audited(&stage).await;
    let refused: Vec<&Value> =
        audited.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "its roles are enough: {refused:#?}");
    assert!(audited.len() > 10, "{}", audited.len());
    // What it is given and never uses is too much.
    let needless = needless(&audited);
    assert!(needless.is_empty(), "its roles are no more than it needs: {needless:?}");
    Ok(())
}

/// Requests of the operator, once every right was made use of or that was waited for in vain: an object is gone before
/// the log has who let it go.
async fn all_audited(stage: &Stage<'_>) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let audited = stage.audited();
        if needless(&audited).is_empty() || Instant::now() > end {
            return audited;
        }
        wait::breathe().await;
    }
}

/// Rights of the operator that it has not made use of.
fn needless(audited: &[Value]) -> Vec<String> {
    let mut needless = roles::unused(audited);
    // An event that repeats itself is patched.
    needless.retain(|right| right != "patch events.k8s.io/events");
    needless
}

/// People look and change by roles that are published beside the operator's.
pub(crate) async fn people(bench: &Bench) -> Ending {
    let api = bench.admin();
    let namespace = bench.namespace("people").await;
    for (user, role) in [(VIEWER, "viewer-role"), (EDITOR, "editor-role")] {
        let role = roles::published(role);
        let labels = role["metadata"]["labels"].to_string();
        assert!(labels.contains("rbac.authorization.k8s.io/aggregate-to-edit"), "{labels}");
        let subject = json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user });
        roles::bind(&api, role, Some(&namespace), &subject).await;
    }
    let person = |user: &str| Api::new(bench.kubernetes(), &Access::token(user));
    // Rights are looked up in a cache that a watch fills.
    let editor = person(EDITOR);
    let may = async || editor.may("patch", "artifactapi.io", "robots", &namespace).await;
    wait::until("the roles to be known", PATIENCE, may).await;
    for (verb, viewer, editor) in
        [("list", true, true), ("watch", true, true), ("create", false, true), ("patch", false, true)]
    {
        for kind in ["remotes", "virtuals", "locals", "robots"] {
            let may = [VIEWER, EDITOR].map(person);
            assert_eq!(may[0].may(verb, "artifactapi.io", kind, &namespace).await, viewer, "{verb} {kind}");
            assert_eq!(may[1].may(verb, "artifactapi.io", kind, &namespace).await, editor, "{verb} {kind}");
        }
    }
    for user in [VIEWER, EDITOR] {
        assert!(!person(user).may("get", "", "secrets", &namespace).await, "{user}");
        assert!(!person(user).may("patch", "artifactapi.io", "remotes/status", &namespace).await, "{user}");
        assert!(!person(user).may("list", "artifactapi.io", "remotes", "default").await, "{user}");
    }
    Ok(())
}

/// One watched namespace without a role stops no other, and it is said where people look.
pub(crate) async fn without_a_role(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "roleless").await?;
    let closed = bench.namespace("roleless-closed").await;
    let mut operator = stage.idle_operator("one").await;
    operator.set("ARTIFACTAPI_WATCH_NAMESPACES", format!("{},{closed}", stage.namespace));
    operator.spawn();
    let remote = stage.remote_at("one", "http://127.0.0.1:9/", json!({}));
    stage.api.apply(&remote).await;
    let ready = operator.page("readyz");
    let waiting = async || {
        // At first nobody listens.
        http::try_request(Method::GET, &ready, &[]).await.is_ok_and(|told| told.status == 503)
    };
    wait::until("it to say that it waits", PATIENCE, waiting).await;
    // It waits a minute for what it cannot list.
    stage.api.until_ready(&Object::of(&remote), Duration::from_secs(60) + PATIENCE).await;
    assert_eq!(http::get(&ready).await.status, 200);
    let told = http::get(&format!("{ready}?verbose")).await.text();
    assert!(told.contains(&format!("Remote in {closed}: ")) && told.contains("forbidden"), "{told}");
    let missing = samples_at(&operator.page("metrics")).await["artifactapi_operator_lists_missing"];
    assert!(missing >= 4.0, "{missing}");
    assert!(operator.logs().contains("goes on with what can"), "{}", operator.logs());
    // As soon as the role is there, so is the namespace.
    roles::grant(&stage.api, &stage.namespace, Some(&[stage.namespace.clone(), closed.clone()])).await;
    let late = crate::stage::manifest("Local", &closed, "late", json!({ "type": "docker" }));
    stage.api.apply(&late).await;
    stage.api.until_ready(&Object::of(&late), PATIENCE).await;
    operator.stop().await;
    Ok(())
}
