//! Who may do what, against the running proxy: private repositories, tokens made and revoked while it runs, and the
//! ways in which clients show them.

use std::fs;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Proxy, RemoteManifest, Run, Upstream, client,
    fixtures::{noise, oci},
    http::{self, PATIENCE},
    manifest,
    proxy::Options,
    wait,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{logged, packument};

const FILE: &str = "tool-1.0.tar.gz";

/// A private repository of every type that these tests touch, an open one, and a registry.
struct World {
    _upstream: Upstream,
    proxy: Proxy,
    body: Bytes,
}

fn closed(name: &str, package_type: PackageType, upstream: &Upstream) -> String {
    let access = json!({ "read": "authenticated" });
    RemoteManifest::new(name, package_type, upstream).set("access", access).document()
}

/// A Robot document.
fn robot(name: &str, repositories: &[&str], actions: &[&str]) -> String {
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1",
        "kind": "Robot",
        "metadata": { "name": name },
        "spec": { "grants": [{ "repositories": repositories, "actions": actions }] },
    });
    format!("{manifest}\n")
}

fn documents(upstream: &Upstream) -> Vec<String> {
    vec![
        closed("files", PackageType::Generic, upstream),
        closed("other", PackageType::Generic, upstream),
        closed("packages", PackageType::Npm, upstream),
        closed("images", PackageType::Docker, upstream),
        RemoteManifest::new("open", PackageType::Generic, upstream).document(),
        RemoteManifest::new("open-images", PackageType::Docker, upstream).document(),
        robot("reader", &["files", "packages", "images"], &["pull"]),
    ]
}

impl World {
    async fn start() -> World {
        let upstream = Upstream::start().await;
        let body = noise(1, 200 << 10);
        upstream.put(FILE, body.clone());
        let (document, tarball) = packument("widget", &upstream.url());
        upstream.put("widget", document);
        upstream.put("widget/-/widget-1.0.0.tgz", tarball);
        let index = json!({ "schemaVersion": 2, "mediaType": oci::INDEX, "manifests": [] });
        upstream.put_with("v2/a/manifests/1", index.to_string(), &[("content-type", oci::INDEX)]);
        let proxy =
            Options::new(manifest::join(&documents(&upstream))).env("RUST_LOG", "debug").start().await;
        World { _upstream: upstream, proxy, body }
    }

    /// A new token, as the command line prints it.
    async fn token(&self, arguments: &[&str]) -> String {
        let told = self.tool(&[&["token", "create"], arguments, &["--json"]].concat()).await;
        told["token"].as_str().expect("a token").to_owned()
    }

    async fn tool(&self, arguments: &[&str]) -> Value {
        let told = self.proxy.tool(arguments, &[]).await;
        assert_eq!(told.code, Some(0), "{arguments:?}: {}", told.text);
        serde_json::from_str(&told.text).unwrap_or_else(|error| panic!("{error}: {}", told.text))
    }

    fn url(&self, repository: &str) -> String {
        format!("{}{FILE}", self.proxy.remote(repository))
    }

    async fn status(&self, method: Method, url: &str, authorization: &str) -> u16 {
        let headers = [("authorization", authorization)];
        let shown = if authorization.is_empty() { &[][..] } else { &headers };
        http::request(method, url, shown).await.status
    }
}

fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("anyone:{token}")))
}

/// Well formed, and nobody's.
fn foreign() -> String {
    artifactapi_model::account::RobotToken::generate().expect("random bytes").expose().to_owned()
}

#[tokio::test]
async fn rs_47_what_is_private_is_so_in_every_way_it_can_be_asked_for() {
    let world = World::start().await;
    let reader = world.token(&["reader"]).await;
    let url = world.url("files");
    let whole = http::request(Method::GET, &url, &[("authorization", &basic(&reader))]).await;
    assert!(whole.is_ok() && whole.body == world.body, "{whole:?}");
    assert!(whole.header("cache-control").contains("private"), "{whole:?}");
    // Only what is stored has one.
    let stored = http::request(Method::HEAD, &url, &[("authorization", &basic(&reader))]).await;
    let etag = stored.header("etag").to_owned();
    assert!(!etag.is_empty(), "{stored:?}");
    // Everything is stored by now; that must not open it.
    for shown in ["", &basic(&foreign()), "Basic bm9ib2R5OndvcmQ=", "Bearer x"] {
        for (method, more) in [
            (Method::GET, ("accept", "*/*")),
            (Method::HEAD, ("accept", "*/*")),
            (Method::GET, ("range", "bytes=0-9")),
            (Method::GET, ("range", "bytes=999999999-")),
            (Method::GET, ("if-none-match", etag.as_str())),
            (Method::PUT, ("accept", "*/*")),
            (Method::POST, ("accept", "*/*")),
            (Method::DELETE, ("accept", "*/*")),
        ] {
            let mut headers = vec![more];
            if !shown.is_empty() {
                headers.push(("authorization", shown));
            }
            let refused = http::request(method.clone(), &url, &headers).await;
            assert_eq!(refused.status, 401, "{method} {more:?} {shown}");
            assert_eq!(refused.header("www-authenticate"), "Basic realm=\"artifactapi\", charset=\"UTF-8\"");
            assert_eq!(refused.header("etag"), "", "nothing is told of what is there");
        }
    }
    for (method, more, want) in [
        (Method::HEAD, ("accept", "*/*"), 200),
        (Method::GET, ("range", "bytes=0-9"), 206),
        (Method::GET, ("range", "bytes=999999999-"), 416),
        (Method::GET, ("if-none-match", etag.as_str()), 304),
        (Method::PUT, ("accept", "*/*"), 405),
        (Method::DELETE, ("accept", "*/*"), 405),
    ] {
        let bearer = format!("Bearer {reader}");
        for shown in [basic(&reader), bearer] {
            let answer = http::request(method.clone(), &url, &[more, ("authorization", &shown)]).await;
            assert_eq!(answer.status, want, "{method} {more:?}");
        }
    }
    let other = http::request(Method::GET, &world.url("other"), &[("authorization", &basic(&reader))]).await;
    assert_eq!(other.status, 403, "its grants do not name it");
    assert!(other.text().contains("robot default/reader has no grant to pull in other"), "{}", other.text());
    logged(&world.proxy, "default/reader").await;
    assert_eq!(http::get(&world.proxy.metrics_url()).await.status, 200);
}

#[tokio::test]
async fn what_is_open_does_not_look_at_credentials() {
    let world = World::start().await;
    for shown in ["", &basic(&foreign()), "Basic !!!", "Bearer x", "Negotiate abc"] {
        assert_eq!(world.status(Method::GET, &world.url("open"), shown).await, 200, "{shown}");
        let image = format!("{}/v2/open-images/a/manifests/1", world.proxy.url());
        assert_eq!(world.status(Method::GET, &image, shown).await, 200, "{shown}");
        assert_eq!(world.status(Method::GET, &format!("{}/livez", world.proxy.url()), shown).await, 200);
    }
}

#[tokio::test]
async fn rs_54_a_revoked_or_expired_token_is_refused_and_so_is_one_whose_robot_is_gone() {
    let world = World::start().await;
    let url = world.url("files");
    let revoked = world.tool(&["token", "create", "reader", "--json"]).await;
    let [token, id] = ["token", "id"].map(|field| revoked[field].as_str().unwrap());
    let expired = world.token(&["reader", "--ttl", "1s"]).await;
    let kept = world.token(&["reader"]).await;
    let by_hand = world.token(&["ci", "--allow", "f*=pull,push", "--ttl", "30d"]).await;
    for token in [token, &kept, &by_hand] {
        assert_eq!(world.status(Method::GET, &url, &basic(token)).await, 200);
    }
    let gone = async |token: &str, why: &str| {
        wait::until(why, PATIENCE, async || world.status(Method::GET, &url, &basic(token)).await == 401)
            .await;
    };
    gone(&expired, "the end of a token's life").await;
    assert_eq!(world.tool(&["token", "revoke", id, "--json"]).await["revoked"], id);
    gone(token, "a token to be revoked").await;
    let again = world.proxy.tool(&["token", "revoke", id], &[]).await;
    assert_eq!(again.code, Some(1), "{}", again.text);
    let listed = world.tool(&["token", "list", "--json"]).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");

    world.tool(&["token", "forget", "ci", "--json"]).await;
    gone(&by_hand, "a robot made by hand to be forgotten").await;
    assert_eq!(world.status(Method::GET, &url, &basic(&kept)).await, 200, "others go on");
    let without = documents(&world._upstream).into_iter().filter(|text| !text.contains("\"Robot\""));
    world.proxy.apply(&manifest::join(&without.collect::<Vec<_>>()));
    gone(&kept, "a robot whose manifest is deleted").await;
    world.proxy.apply(&manifest::join(&documents(&world._upstream)));
    let anew = async || world.proxy.tool(&["token", "create", "reader", "--json"], &[]).await.code == Some(0);
    wait::until("the robot to be there again", PATIENCE, anew).await;
    assert_eq!(world.status(Method::GET, &url, &basic(&kept)).await, 401, "its old tokens stay dead");
}

#[tokio::test]
async fn a_broken_manifest_takes_no_robot_away() {
    let mut world = World::start().await;
    let token = world.token(&["reader"]).await;
    let broken =
        documents(&world._upstream).join("---\n").replace("\"actions\":[\"pull\"]", "\"actions\":[\"fly\"]");
    world.proxy.apply(&broken);
    logged(&world.proxy, "spec.grants").await;
    assert_eq!(world.status(Method::GET, &world.url("files"), &basic(&token)).await, 200);
    world.proxy.restart().await;
    assert_eq!(
        world.status(Method::GET, &world.url("files"), &basic(&token)).await,
        200,
        "also after a restart"
    );
}

#[tokio::test]
async fn the_command_line_says_what_is_wrong() {
    let world = World::start().await;
    for (arguments, want) in [
        (&["token", "create", "nobody"][..], "there is no robot default/nobody"),
        (
            &["token", "create", "reader", "--allow", "*=push"],
            "a manifest says what robot default/reader may do",
        ),
        (&["token", "create", "NO NAME"], "1 to 63 characters"),
        (&["token", "create", "x", "--allow", "*=fly"], "pull, push or delete"),
        (&["token", "create", "x", "--allow", "A=pull"], "repository name"),
        (&["token", "create", "reader", "--ttl", "soon"], "must be a duration"),
        (&["token", "revoke", "0123456789ab"], "there is no token 0123456789ab"),
        (&["token", "revoke", "x"], "12 hex digits"),
        (&["token", "forget", "reader"], "no robot default/reader was made here"),
    ] {
        let told = world.proxy.tool(arguments, &[]).await;
        assert!(told.code != Some(0) && told.text.contains(want), "{arguments:?}: {}", told.text);
    }
}

/// What the challenge of a 401 says.
fn challenge(answer: &http::Fetched, field: &str) -> String {
    let header = answer.header("www-authenticate");
    let from = header.split_once(&format!("{field}=\"")).map_or("", |(_, rest)| rest);
    from.split('"').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_registry_client_finds_its_way() {
    let world = World::start().await;
    let reader = world.token(&["reader"]).await;
    let registry = format!("{}/v2/", world.proxy.url());
    let asked = http::get(&registry).await;
    assert_eq!((asked.status, asked.header("docker-distribution-api-version")), (401, "registry/2.0"));
    assert!(asked.header("www-authenticate").starts_with("Bearer "), "{asked:?}");
    assert_eq!(challenge(&asked, "realm"), format!("{}/token", world.proxy.url()));
    assert_eq!(challenge(&asked, "service"), world.proxy.host());
    assert_eq!(world.status(Method::GET, &registry, &basic(&reader)).await, 200, "docker login");
    assert_eq!(world.status(Method::GET, &registry, &basic(&foreign())).await, 401);

    let image = format!("{registry}images/a/manifests/1");
    let refused = http::get(&image).await;
    assert_eq!((refused.status, challenge(&refused, "scope").as_str()), (401, "repository:images/a:pull"));
    assert_eq!(refused.json()["errors"][0]["code"], "UNAUTHORIZED");
    let token = async |shown: &str| {
        let (realm, service) = (challenge(&refused, "realm"), challenge(&refused, "service"));
        let url = format!("{realm}?service={service}&scope={}", challenge(&refused, "scope"));
        let headers = [("authorization", shown)];
        http::request(Method::GET, &url, if shown.is_empty() { &[] } else { &headers }).await
    };
    assert_eq!(token(&basic(&foreign())).await.status, 401);
    let good = token(&basic(&reader)).await.json();
    let bearer = format!("Bearer {}", good["token"].as_str().unwrap());
    assert_eq!(world.status(Method::GET, &image, &bearer).await, 200);
    assert_eq!(world.status(Method::HEAD, &image, &bearer).await, 200);
    let nobody = token("").await.json();
    let bearer = format!("Bearer {}", nobody["token"].as_str().unwrap());
    assert_eq!(world.status(Method::GET, &image, &bearer).await, 401);
    assert_eq!(world.status(Method::GET, &registry, &bearer).await, 200);
}

#[tokio::test]
async fn where_nothing_is_private_a_registry_asks_nobody() {
    let upstream = Upstream::start().await;
    let documents = [
        RemoteManifest::new("open-images", PackageType::Docker, &upstream).document(),
        closed("files", PackageType::Generic, &upstream),
    ];
    let proxy = Proxy::start(manifest::join(&documents)).await;
    assert_eq!(http::get(&format!("{}/v2/", proxy.url())).await.status, 200);
    assert_eq!(http::get(&proxy.remote("files")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_curl_and_skopeo_show_a_token_in_their_own_ways() {
    let world = World::start().await;
    let token = world.token(&["reader"]).await;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    if client::find("curl").is_ok() {
        fs::write(dir.join(".netrc"), format!("machine 127.0.0.1 login me password {token}\n")).unwrap();
        let got =
            Run::new("curl", dir).args(["-sS", "-f", "-n", "-o", "got", &world.url("files")]).ok().await;
        got.unwrap();
        assert!(fs::read(dir.join("got")).unwrap() == world.body);
        fs::remove_file(dir.join(".netrc")).unwrap();
        let got =
            Run::new("curl", dir).args(["-sS", "-f", "-n", "-o", "got", &world.url("files")]).ok().await;
        assert!(got.unwrap_err().contains("401"));
    }
    if client::find("npm").is_ok() {
        let registry = world.proxy.remote("packages");
        let host = registry.strip_prefix("http:").unwrap();
        let view = async |config: &str| {
            fs::write(dir.join(".npmrc"), config).unwrap();
            let flags = ["view", "widget", "name", "--registry", &registry, "--no-update-notifier"];
            Run::new("npm", dir).args(flags).ok().await
        };
        assert_eq!(view(&format!("{host}:_authToken={token}\n")).await.unwrap().out.trim(), "widget");
        assert!(view(&format!("{host}:_authToken={}\n", foreign())).await.is_err());
    }
    if client::find("skopeo").is_ok() {
        let image = format!("docker://{}/images/a:1", world.proxy.host());
        let inspect = async |creds: &str| {
            let flags = ["inspect", "--raw", "--tls-verify=false", "--creds", creds, &image];
            Run::new("skopeo", dir).args(flags).ok().await
        };
        assert!(inspect(&format!("me:{token}")).await.unwrap().out.contains(oci::INDEX));
        assert!(inspect(&format!("me:{}", foreign())).await.is_err());
    }
}
