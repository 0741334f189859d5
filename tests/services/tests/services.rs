//! Each service starts, answers, stands still, ends and comes back.

use std::time::{Duration, Instant};

use artifactapi_services::{Kubernetes, Minio, Postgres, Redis, provided};

#[test]
fn redis_comes_and_goes() {
    let Some(mut redis) = provided(Redis::start(), "redis_comes_and_goes") else { return };
    assert_eq!(redis.command("SET a b"), "+OK");
    redis.0.stop();
    redis.0.start_again();
    assert_eq!(redis.command("GET a"), "$-1", "nothing is persisted");
    redis.0.pause();
    redis.0.resume();
    assert_eq!(redis.command("PING"), "+PONG");
}

#[test]
fn postgresql_comes_and_goes() {
    let Some(mut postgres) = provided(Postgres::start(), "postgresql_comes_and_goes") else { return };
    postgres.database("one");
    postgres.sql("one", "CREATE TABLE a (b TEXT); INSERT INTO a VALUES ('c')");
    postgres.process.kill();
    postgres.process.start_again();
    assert_eq!(postgres.sql("one", "SELECT b FROM a"), "c");
}

#[test]
fn minio_comes_and_goes() {
    let Some(mut minio) = provided(Minio::start(), "minio_comes_and_goes") else { return };
    minio.bucket("another");
    minio.0.stop();
    minio.0.start_again();
}

#[test]
fn kubernetes_comes_and_goes() {
    let Some(mut kubernetes) = provided(Kubernetes::start(&["somebody"]), "kubernetes_comes_and_goes") else {
        return;
    };
    kubernetes.run(&["create", "configmap", "one", "--from-literal=a=b"], "").unwrap();
    let version = kubernetes.run(&["version", "-o", "json"], "").unwrap();
    assert_eq!(
        version.matches(r#""gitVersion": "v1."#).count(),
        2,
        "client and server say what they are: {version}"
    );
    kubernetes.api.kill();
    assert!(kubernetes.run(&["get", "configmaps"], "").is_err());
    kubernetes.api.start_again();
    assert_eq!(kubernetes.run(&["get", "configmap", "one", "-o", "jsonpath={.data.a}"], "").unwrap(), "b");

    kubernetes.kubeconfig("somebody");
    let ask = |user: &str| {
        let output = kubernetes.kubectl_as(user).args(["get", "configmaps"]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(ask("somebody").1.contains("Forbidden"), "{:?}", ask("somebody"));
    kubernetes.run(&["create", "serviceaccount", "robot"], "").unwrap();
    let token = kubernetes.run(&["create", "token", "robot"], "").unwrap();
    kubernetes.kubeconfig_with("robot", token.trim());
    assert!(ask("robot").1.contains("system:serviceaccount:default:robot"), "{:?}", ask("robot"));
    // Not `view` itself: it is put together by a controller.
    let role = "--clusterrole=system:aggregate-to-view";
    kubernetes.run(&["create", "rolebinding", "robot", role, "--serviceaccount=default:robot"], "").unwrap();
    // Rights are looked up in a cache that a watch fills.
    let end = Instant::now() + Duration::from_secs(10);
    while !ask("robot").0 {
        assert!(Instant::now() < end, "{:?}", ask("robot"));
    }
    assert!(kubernetes.audit().contains(r#""username":"system:serviceaccount:default:robot""#));
}
