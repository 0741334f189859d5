//! Each service starts, answers, stands still, ends and comes back.

use artifactapi_services::{Minio, Postgres, Redis, provided};

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
