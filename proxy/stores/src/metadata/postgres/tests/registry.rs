//! Locals of type docker.

use super::*;
use crate::metadata::registry_suite;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_the_suite() {
    let Some(server) = Server::start("registry::passes_the_suite") else { return };
    registry_suite::suite(async || registry_suite::Faces::of(server.store().await)).await;
}
