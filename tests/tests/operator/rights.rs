//! The operator may do what its published roles say, and needs nothing more (RS-40).

use artifactapi_tests::kubernetes::{Api, Object};
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::Bench,
    roles,
    stage::{SOON, Stage, secret},
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
        stage.api.until_ready(&Object::of(one), SOON).await;
    }
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
        stage.api.until_gone(&Object::of(one), SOON * 2).await;
    }
    let audited = stage.audited();
    let refused: Vec<&Value> =
        audited.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "its roles are enough: {refused:#?}");
    assert!(audited.len() > 10, "{}", audited.len());
    // What it is given and never uses is too much.
    let needless = roles::unused(&audited);
    assert!(needless.is_empty(), "its roles are no more than it needs: {needless:?}");
    Ok(())
}
