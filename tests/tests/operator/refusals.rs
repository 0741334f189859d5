//! What is wrong with an object is told in its own status, in time, and costs no other.

use artifactapi_crds::bad;
use artifactapi_tests::kubernetes::{Condition, Object};
use serde_json::{Value, json};

use crate::{
    Ending,
    bench::Bench,
    stage::{PATIENCE, SOON, Stage, Wishes, manifest, secret},
};

/// RS-132, the operator's half.
pub(crate) async fn bad_manifests(bench: &Bench) -> Ending {
    let stage =
        Stage::with(bench, "refused", Wishes { namespaces: vec!["far"], ..Wishes::default() }).await?;
    let _operator = stage.operator().await;
    let placed = |mut manifest: Value| {
        let home = if manifest["metadata"]["namespace"] == bad::NAMESPACE { 0 } else { 1 };
        manifest["metadata"]["namespace"] = json!(stage.namespaces[home]);
        manifest
    };
    let neighbours: Vec<Value> = bad::neighbours().into_iter().map(placed).collect();
    for neighbour in &neighbours {
        stage.api.apply(neighbour).await;
    }
    let sound = ["npm", "pypi", "d", "inner", "origin", "pushed"];
    let ours = |one: &&Value| sound.iter().any(|name| one["metadata"]["name"] == *name);
    for neighbour in neighbours.iter().filter(ours) {
        stage.api.until_ready(&Object::of(neighbour), PATIENCE).await;
    }
    let (mut rejected, mut told, mut slowest) = (0, 0, std::time::Duration::ZERO);
    for bad in bad::manifests() {
        let manifest = placed(bad.manifest());
        // Without the author's help: fields that nobody knows are dropped, as old clients have it.
        let created = stage.api.create(&manifest, "fieldValidation=Strict").await;
        if !created.is_ok() {
            rejected += 1;
            continue;
        }
        told += 1;
        let object = Object::of(&manifest);
        let refused = |one: &Condition| one.status == "False";
        let (condition, took) = stage.api.until(&object, "Ready", SOON, refused).await;
        assert!(!condition.reason.is_empty() && condition.reason != "Stored", "{manifest}: {condition:?}");
        assert!(condition.message.contains(bad.field), "{manifest}: wanted {}: {condition:?}", bad.field);
        slowest = slowest.max(took);
        stage.api.delete(&object).await.ok();
        stage.api.until_gone(&object, PATIENCE).await;
    }
    println!(
        "figure: bad manifests: {rejected} rejected by the API server, {told} Ready=False, after {slowest:.1?} at most"
    );
    assert!(rejected + told >= 40, "{rejected} and {told}");
    for neighbour in neighbours.iter().filter(ours) {
        let found = stage.api.get(&Object::of(neighbour)).await.expect("nobody deleted it");
        assert!(Condition::of(&found, "Ready").is_some_and(|one| one.holds()), "{found:#}");
    }
    Ok(())
}

/// A good object that becomes bad keeps serving as it was.
pub(crate) async fn last_good(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "lastgood").await?;
    let _operator = stage.operator().await;
    let remote = stage.remote_at("one", "http://127.0.0.1:9/", json!({}));
    stage.api.apply(&remote).await;
    let object = Object::of(&remote);
    stage.api.until_ready(&object, PATIENCE).await;
    let before = stage.rows();
    let broken = stage.remote_at("one", "http://127.0.0.1:9/", json!({ "patterns": ["("] }));
    stage.api.apply(&broken).await;
    let condition = stage.until_refused(&object, "Invalid").await;
    assert!(condition.message.contains("spec.patterns[0]"), "{condition:?}");
    assert_eq!(stage.rows(), before, "the last good configuration stays");
    stage.api.apply(&remote).await;
    stage.api.until_ready(&object, PATIENCE).await;
    Ok(())
}

pub(crate) async fn missing_secret(bench: &Bench) -> Ending {
    let stage =
        Stage::with(bench, "secret", Wishes { namespaces: vec!["other"], ..Wishes::default() }).await?;
    let _operator = stage.operator().await;
    // It is there, but not here.
    stage.api.apply(&secret(&stage.namespaces[1], "login", json!({ "token": "elsewhere" }))).await;
    let remote = stage.remote_at(
        "closed",
        "http://127.0.0.1:9/",
        json!({ "auth": { "secretRef": { "name": "login" } } }),
    );
    stage.api.apply(&remote).await;
    let object = Object::of(&remote);
    let condition = stage.until_refused(&object, "SecretNotFound").await;
    for word in ["spec.auth.secretRef.name", "login", &stage.namespace] {
        assert!(condition.message.contains(word), "{word}: {condition:?}");
    }
    stage.api.apply(&stage.secret("login", json!({ "wrong": "hunter2" }))).await;
    let condition = stage.until_refused(&object, "SecretInvalid").await;
    assert!(condition.message.contains("login") && !condition.message.contains("hunter2"), "{condition:?}");
    stage.api.apply(&stage.secret("login", json!({ "username": "me", "password": "hunter2" }))).await;
    stage.api.until_ready(&object, PATIENCE).await;
    let sealed =
        "SELECT count(*) FROM objects WHERE kind = 'Secret' AND sealed AND document NOT LIKE '%hunter2%'";
    assert_eq!(stage.site.sql(sealed), "1", "a password is stored sealed");
    let found = stage.api.get(&object).await.expect("it is there");
    assert!(!found["status"].to_string().contains("hunter2"));
    assert_eq!(found["status"]["effective"]["read"], "authenticated");
    // It goes: what was good stays, and the author is told.
    stage.api.delete(&stage.object("Secret", "login")).await.ok();
    stage.until_refused(&object, "SecretNotFound").await;
    Ok(())
}

/// RS-39.
pub(crate) async fn other_namespace(bench: &Bench) -> Ending {
    let stage =
        Stage::with(bench, "foreign", Wishes { namespaces: vec!["other"], ..Wishes::default() }).await?;
    let _operator = stage.operator().await;
    let other = &stage.namespaces[1];
    stage.api.apply(&secret(other, "login", json!({ "token": "elsewhere" }))).await;
    let reference = json!({ "auth": { "secretRef": { "name": "login", "namespace": other } } });
    let remote = stage.remote_at("thief", "http://127.0.0.1:9/", reference);
    let strict = stage.api.create(&remote, "fieldValidation=Strict").await;
    assert!(!strict.is_ok() && strict.message().contains("spec.auth.secretRef.namespace"), "{}", strict.body);
    // Who insists has the field dropped.
    stage.api.create(&remote, "fieldValidation=Ignore").await.ok();
    let condition = stage.until_refused(&Object::of(&remote), "SecretNotFound").await;
    assert!(condition.message.contains(&stage.namespace), "{condition:?}");
    assert_eq!(stage.site.sql("SELECT count(*) FROM objects"), "0");
    // Nor does a member of a Virtual come from there.
    let far = manifest("Remote", other, "far", json!({ "type": "npm", "baseURL": "https://h/" }));
    stage.api.apply(&far).await;
    stage.api.until_ready(&Object::of(&far), PATIENCE).await;
    let virt = stage.manifest("Virtual", "v", json!({ "type": "npm", "members": ["far"] }));
    stage.api.apply(&virt).await;
    let condition = stage.until_refused(&Object::of(&virt), "MemberNotFound").await;
    assert!(condition.message.contains("spec.members[0]"), "{condition:?}");
    Ok(())
}

/// What a namespace may not give itself.
pub(crate) async fn ceilings(bench: &Bench) -> Ending {
    let environment =
        vec![("ARTIFACTAPI_ALLOW_CIDRS", "10.1.0.0/16"), ("ARTIFACTAPI_ALLOW_MIRROR_FOR", "quay.io")];
    let stage = Stage::with(bench, "ceilings", Wishes { environment, ..Wishes::default() }).await?;
    let _operator = stage.operator().await;
    let docker = |name: &str, more: Value| {
        let mut spec = json!({ "type": "docker", "baseURL": "https://h/" });
        spec.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        stage.manifest("Remote", name, spec)
    };
    for (number, (more, field)) in [
        (json!({ "docker": { "mirrorFor": ["quay.io", "docker.io"] } }), Some("spec.docker.mirrorFor[1]")),
        (json!({ "docker": { "rootMirror": true } }), Some("spec.docker.rootMirror")),
        (
            json!({ "egress": { "allowCIDRs": ["10.1.2.0/24", "10.0.0.0/8"] } }),
            Some("spec.egress.allowCIDRs[1]"),
        ),
        (
            json!({ "docker": { "mirrorFor": ["quay.io"] }, "egress": { "allowCIDRs": ["10.1.2.3/32"] } }),
            None,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let remote = docker(&format!("r{number}"), more);
        stage.api.apply(&remote).await;
        match field {
            Some(field) => {
                let condition = stage.until_refused(&Object::of(&remote), "NotPermitted").await;
                assert!(condition.message.contains(field), "{condition:?}");
            }
            None => drop(stage.api.until_ready(&Object::of(&remote), PATIENCE).await),
        }
    }
    Ok(())
}

/// What PostgreSQL refuses of one object costs no other, though they are written together.
pub(crate) async fn by_the_database(bench: &Bench) -> Ending {
    let stage = Stage::new(bench, "constraint").await?;
    stage.site.sql("ALTER TABLE objects ADD CONSTRAINT no_seven CHECK (name <> 'r7')");
    let remotes: Vec<Value> = (0..20)
        .map(|number| stage.remote_at(&format!("r{number}"), "http://127.0.0.1:9/", json!({})))
        .collect();
    for remote in &remotes {
        stage.api.apply(remote).await;
    }
    // All of them wait when it comes.
    let _operator = stage.operator().await;
    for (number, remote) in remotes.iter().enumerate() {
        if number != 7 {
            stage.api.until_ready(&Object::of(remote), PATIENCE).await;
        }
    }
    let condition = stage.until_refused(&Object::of(&remotes[7]), "StoreRefused").await;
    assert!(condition.message.contains("no_seven"), "it names the cause: {condition:?}");
    assert_eq!(stage.site.sql("SELECT count(*) FROM objects"), "19");
    stage.site.sql("ALTER TABLE objects DROP CONSTRAINT no_seven");
    let mut mended = remotes[7].clone();
    mended["spec"]["suspend"] = json!(true);
    stage.api.apply(&mended).await;
    stage.api.until_ready(&Object::of(&mended), PATIENCE).await;
    Ok(())
}

/// A Robot is granted nothing of another namespace.
pub(crate) async fn foreign_grants(bench: &Bench) -> Ending {
    let stage = Stage::with(bench, "grants", Wishes { namespaces: vec!["far"], ..Wishes::default() }).await?;
    let _operator = stage.operator().await;
    let theirs = manifest("Local", &stage.namespaces[1], "theirs", json!({ "type": "docker" }));
    stage.api.apply(&theirs).await;
    stage.api.until_ready(&Object::of(&theirs), PATIENCE).await;
    let grants = json!({ "grants": [{ "repositories": ["mine", "theirs"], "actions": ["push"] }] });
    let robot = stage.manifest("Robot", "ci", grants);
    stage.api.apply(&robot).await;
    let condition = stage.until_refused(&Object::of(&robot), "NotPermitted").await;
    assert!(
        condition.message.starts_with("spec.grants[0].repositories[1]: theirs is a repository of another")
    );
    assert!(stage.api.get(&stage.object("Secret", "ci")).await.is_none(), "it has no token");
    // By pattern it is granted what is its own, and nothing else; so it is ready.
    let grants = json!({ "grants": [{ "repositories": ["mine", "t*"], "actions": ["push"] }] });
    stage.api.apply(&stage.manifest("Robot", "ci", grants)).await;
    stage.api.until_ready(&Object::of(&robot), PATIENCE).await;
    Ok(())
}
