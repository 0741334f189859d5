//! What a Local promises whoever pushes to it, beside the specification: switches, quotas, immutable tags, walls
//! between images, bounds, sessions, and that what was acknowledged stays. On one process without services.

mod immutable;
mod kept;
mod limits;
mod memory;
mod pages;
mod quota;
mod sessions;
mod shown;
mod switches;
mod walls;

use artifactapi_tests::{
    Proxy, Registry,
    http::{Fetched, PATIENCE},
    manifest,
    registry::Image,
    wait,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Body, Method};
use serde_json::{Value, json};

use crate::Alone;

/// All of them.
pub(crate) const ALL: [(&str, Alone); 22] = [
    ("rs_52_every_mutating_route_under_every_switch", || Box::pin(switches::table())),
    ("rs_52_an_immutable_tag_cannot_be_moved_in_any_way", || Box::pin(immutable::moved())),
    ("rs_52_an_immutable_tag_cannot_be_deleted", || Box::pin(immutable::deleted())),
    ("rs_67_a_push_over_quota_leaves_nothing_that_counts", || Box::pin(quota::leaves_nothing())),
    ("rs_67_a_blob_in_two_images_counts_once", || Box::pin(quota::counts_once())),
    ("rs_67_uploads_at_once_do_not_exceed_the_quota_together", || Box::pin(quota::together())),
    ("rs_67_a_quota_may_change", || Box::pin(quota::changes())),
    ("rs_45_a_private_local_is_as_if_it_were_not_there", || Box::pin(walls::private())),
    ("rs_45_an_image_never_sees_the_blobs_of_another", || Box::pin(walls::images())),
    ("rs_46_a_blob_that_is_taken_from_an_image_is_gone_at_once", || Box::pin(walls::taken())),
    ("rs_61_a_manifest_that_is_too_large_is_refused_at_once", || Box::pin(limits::manifests())),
    ("rs_64_slow_readers_of_large_manifests_cost_bounded_memory", || Box::pin(memory::of_slow_readers())),
    ("rs_68_odd_pages", || Box::pin(pages::odd())),
    ("rs_68_pages_make_the_whole", || Box::pin(pages::whole())),
    ("rs_68_no_page_is_larger_than_a_thousand", || Box::pin(pages::bounded())),
    ("rs_110_a_chunk_out_of_order_is_told_where_to_go_on", || Box::pin(sessions::out_of_order())),
    ("rs_110_two_chunks_at_once", || Box::pin(sessions::at_once())),
    ("rs_110_what_is_over_is_over", || Box::pin(sessions::over())),
    ("rs_110_a_session_belongs_to_its_image", || Box::pin(sessions::of_another())),
    ("rs_111_what_was_acknowledged_outlives_the_process", || Box::pin(kept::restarted())),
    ("rs_111_a_manifest_that_comes_back_brings_its_pushes", || Box::pin(kept::put_back())),
    ("rs_111_a_push_shows_through_a_virtual_that_had_nothing", || Box::pin(shown::later())),
];

/// A `Local` document: everybody may push, unless `more` says something else.
fn local(name: &str, more: &Value) -> String {
    let mut spec = json!({ "type": "docker", "access": { "anonymousWrite": true } });
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    document("Local", name, &spec)
}

fn document(kind: &str, name: &str, spec: &Value) -> String {
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    format!("{manifest}\n")
}

/// A proxy with Locals.
struct World {
    proxy: Proxy,
    registry: Registry,
}

impl World {
    async fn start(documents: &[String]) -> World {
        let proxy = Proxy::start(manifest::join(documents)).await;
        let registry = Registry::new([proxy.url()], "");
        World { proxy, registry }
    }

    /// With one Local, `l`.
    async fn of_local(more: &Value) -> World {
        World::start(&[local("l", more)]).await
    }

    /// An image, with the name of its Local in front.
    fn image(&self, name: &str) -> Image {
        self.registry.image(name)
    }

    /// Replaces all manifests, and waits until `seen` holds.
    async fn change(&self, documents: &[String], what: &str, seen: impl AsyncFnMut() -> bool) {
        self.proxy.apply(&manifest::join(documents));
        wait::until(what, PATIENCE, seen).await;
    }

    /// The `Authorization` with a new token of `robot`.
    async fn authorization(&self, robot: &str) -> String {
        let told = self.proxy.tool(&["token", "create", robot, "--json"], &[]).await;
        assert_eq!(told.code, Some(0), "{}", told.text);
        let told: Value = serde_json::from_str(&told.text).expect("JSON");
        basic(told["token"].as_str().expect("a token"))
    }
}

fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("anyone:{token}")))
}

/// One request below an image.
async fn ask(image: &Image, method: Method, rest: &str) -> Fetched {
    send(image, method, rest, &[], "").await
}

/// The same with headers and a body.
async fn send(
    image: &Image,
    method: Method,
    rest: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Fetched {
    let path = format!("/v2/{}/{rest}", image.name());
    at(image, method, &path, headers, body).await
}

/// One request for a path, as a registry gives it in `Location`.
async fn at(
    image: &Image,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Fetched {
    let answer = image.registry().send(0, method.clone(), path, headers, body).await;
    answer.unwrap_or_else(|refused| panic!("{method} {path}: {refused}"))
}

/// What an answer is, for comparisons: its status, and the code of its error.
fn told(answer: &Fetched) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, body["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
}

/// Holds that `answer` is a refusal with this status and code.
#[track_caller]
fn assert_refused(answer: &Fetched, status: u16, code: &str, what: &str) {
    assert_eq!(told(answer), (status, code.to_owned()), "{what}: {} {answer:?}", answer.text());
}
