//! Names are one space: the oldest claimant has one, and the next takes over when it goes.

use artifactapi_tests::{kubernetes::Object, wait};
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, Stage, Wishes, manifest},
};

/// The API server counts the age of objects in whole seconds: waits until one made now is younger than `object`.
async fn until_younger(stage: &Stage<'_>, object: &Value) {
    let mut number = 0;
    let made = async || {
        number += 1;
        let probe = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "generateName": "probe-", "namespace": stage.namespace },
        });
        let probe = stage.api.create(&probe, "dryRun=All").await.ok();
        probe["metadata"]["creationTimestamp"].as_str() > object["metadata"]["creationTimestamp"].as_str()
    };
    let mut made = made;
    wait::until("the next second of the API server", PATIENCE, async || made().await).await;
}

pub(crate) async fn names(bench: &Bench) -> Ending {
    let environment = vec![("ARTIFACTAPI_NAME_GRACE", "4s")];
    let wishes = Wishes { namespaces: vec!["b", "c"], environment, ..Wishes::default() };
    let stage = Stage::with(bench, "names", wishes).await?;
    let mut operator = stage.operator().await;
    let claims: Vec<Value> = [
        ("Remote", json!({ "type": "npm", "baseURL": "https://first/" })),
        ("Remote", json!({ "type": "npm", "baseURL": "https://second/" })),
        ("Local", json!({ "type": "docker" })),
    ]
    .into_iter()
    .zip(&stage.namespaces)
    .map(|((kind, spec), namespace)| manifest(kind, namespace, "shared", spec))
    .collect();
    let owner = || stage.site.sql("SELECT namespace FROM objects WHERE name = 'shared'");
    for claim in &claims {
        let made = stage.api.apply(claim).await;
        until_younger(&stage, &made).await;
    }
    stage.api.until_ready(&Object::of(&claims[0]), PATIENCE).await;
    for loser in &claims[1..] {
        let condition = stage.until_refused(&Object::of(loser), "NameConflict").await;
        let winner = format!("{}/shared", stage.namespaces[0]);
        assert!(condition.message.contains(&winner), "it names the winner: {condition:?}");
    }
    assert_eq!(owner(), stage.namespaces[0]);
    // Whoever looks at them in whatever order finds the same.
    operator.stop().await;
    operator.start().await;
    stage.until_refused(&Object::of(&claims[1]), "NameConflict").await;
    assert_eq!(owner(), stage.namespaces[0]);

    // One that is deleted and made again is the youngest, and has its name all the same.
    stage.api.delete(&Object::of(&claims[0])).await.ok();
    let is_free = async || owner().is_empty();
    wait::until("the name to be free", PATIENCE, is_free).await;
    stage.api.apply(&claims[0]).await;
    stage.api.until_ready(&Object::of(&claims[0]), PATIENCE).await;
    assert_eq!(owner(), stage.namespaces[0]);

    stage.api.delete(&Object::of(&claims[0])).await.ok();
    stage.api.until_ready(&Object::of(&claims[1]), PATIENCE).await;
    let condition = stage.until_refused(&Object::of(&claims[2]), "NameConflict").await;
    let heir = format!("{}/shared", stage.namespaces[1]);
    assert!(condition.message.contains(&heir), "it names the heir: {condition:?}");
    assert_eq!(owner(), stage.namespaces[1]);
    stage.api.delete(&Object::of(&claims[1])).await.ok();
    stage.api.until_ready(&Object::of(&claims[2]), PATIENCE).await;
    assert_eq!(owner(), stage.namespaces[2]);
    Ok(())
}
