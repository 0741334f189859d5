//! RS-37: no secret gets into what the proxy writes or answers, whatever becomes of the request it was for.

pub(crate) mod search;

use std::fs;

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Answer, Behaviour, Guard, Proxy, RemoteManifest, Upstream, http, manifest, proxy,
    proxy::{Options, Told},
    upstream::Authority,
    wait,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use self::search::{Canaries, Listener, Place, files};
use artifactapi_tests::fixtures::noise;

use crate::support::logged;

/// What is no secret and must therefore be found: a search that finds nothing finds this neither.
const BEACON: &str = "beacon0f7d";

/// The upstreams of this test.
struct World {
    /// Wants a user name and a password.
    basic: Upstream,
    /// Wants a token.
    bearer: Upstream,
    /// Refuses everyone, and repeats what they said.
    echo: Upstream,
    /// A registry with a token service.
    registry: Upstream,
    /// A registry whose token service is elsewhere.
    astray: Upstream,
    /// Somebody else's, to whom redirects lead.
    foreign: Upstream,
    /// Not there.
    dead: Upstream,
}

/// Password with everything that somebody may have to escape.
fn password(canaries: &mut Canaries) -> String {
    format!("{}/+%&= \"'\\é", canaries.of("password"))
}

impl World {
    async fn start(canaries: &mut Canaries) -> World {
        let world = World {
            basic: Upstream::start().await,
            bearer: Upstream::start().await,
            echo: Upstream::start().await,
            registry: Upstream::start().await,
            astray: Upstream::start().await,
            foreign: Upstream::start().await,
            dead: Upstream::start().await,
        };
        world.dead.off().await;
        world.basic.guard(Guard::Basic(canaries.of("user name"), password(canaries)));
        world.bearer.guard(Guard::FixedBearer(canaries.of("bearer token")));
        world.echo.script_all(Behaviour::handler(|request| {
            let said = request.header("authorization").unwrap_or_default();
            Answer::new(401, format!("not you: {said}"))
                .with("www-authenticate", format!("Basic realm=\"{said}\""))
        }));
        world.basic.put("whole.bin", [BEACON.as_bytes(), &noise(1, 200 << 10)].concat());
        for path in ["cut.bin", "cookie.bin"] {
            world.basic.put(path, noise(2, 200 << 10));
        }
        world.basic.script("cut.bin", Behaviour::CutAt(1000));
        let cookie = format!("session={}", canaries.of("cookie of the upstream"));
        world.basic.script("cookie.bin", Behaviour::Headers(vec![("set-cookie", cookie)]));
        world.basic.script(
            "fail.bin",
            Behaviour::handler(|request| {
                Answer::new(500, format!("{request:?}")).with("content-type", "text/html")
            }),
        );
        world.bearer.put("token.bin", noise(2, 3000));
        world.redirects(canaries);
        world.registries(canaries);
        world
    }

    /// Signed URLs, as object stores have them.
    fn redirects(&self, canaries: &mut Canaries) {
        let body = noise(3, 100 << 10);
        for (path, what) in [
            ("stored", "signature of a stored body"),
            ("cut", "signature of a truncated body"),
            ("forbidden", "signature of a refused URL"),
        ] {
            self.foreign.put(path, body.clone());
            let url = format!("{}{path}?X-Amz-Signature={}", self.foreign.url(), canaries.of(what));
            self.basic.script(&format!("to-{path}"), Behaviour::Redirect(302, url));
        }
        self.foreign.script("cut", Behaviour::CutAt(1000));
        self.foreign
            .script("forbidden", Behaviour::handler(|request| Answer::new(403, format!("{request:?}"))));
        let dead = format!("{}x?sig={}", self.dead.url(), canaries.of("signature for a dead host"));
        self.basic.script("to-dead", Behaviour::Redirect(307, dead));
        let userinfo =
            format!("http://u:{}@{}/userinfo", canaries.of("user name in a redirect"), self.foreign.host());
        self.foreign.put("userinfo", noise(4, 100));
        self.basic.script("to-userinfo", Behaviour::Redirect(302, userinfo));
        let strange = format!("ftp://{}/?t={}", self.foreign.host(), canaries.of("redirect away from http"));
        self.basic.script("to-strange", Behaviour::Redirect(302, strange));
    }

    fn registries(&self, canaries: &mut Canaries) {
        let (token, refresh) = (canaries.of("registry token"), canaries.of("refresh token"));
        let document = json!({ "schemaVersion": 2, "mediaType": artifactapi_tests::fixtures::oci::INDEX, "manifests": [] });
        let wanted = format!("Bearer {token}");
        let challenge = format!("Bearer realm=\"{}token\",service=\"s\"", self.registry.url());
        self.registry.script_all(Behaviour::handler(move |request| match request.path() {
            "token" if request.query().contains("broken") => {
                Answer::new(403, format!("{request:?}")).with("content-type", "application/json")
            }
            "token" => Answer::json(&json!({ "token": token, "refresh_token": refresh, "expires_in": 300 })),
            _ if request.header("authorization") == Some(&wanted) => {
                let document = document.to_string();
                Answer::new(200, document).with("content-type", artifactapi_tests::fixtures::oci::INDEX)
            }
            _ => Answer::new(401, "").with("www-authenticate", challenge.clone()),
        }));
        let realm = format!("{}token?key={}", self.foreign.url(), canaries.of("query of a realm"));
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        self.astray.script_all(Behaviour::handler(move |_| {
            Answer::new(401, "").with("www-authenticate", challenge.clone())
        }));
    }

    fn manifests(&self, canaries: &mut Canaries) -> String {
        let with = |name: &str, kind, upstream: &Upstream, secret: &str| {
            let auth = json!({ "secretRef": { "name": secret } });
            let anyone = json!({ "read": "anonymous" });
            RemoteManifest::new(name, kind, upstream).set("auth", auth).set("access", anyone).document()
        };
        let generic = PackageType::Generic;
        let closed = json!({ "read": "authenticated" });
        let basic = json!({ "username": canaries.of("user name"), "password": password(canaries) });
        let packed = STANDARD.encode(format!("robot:{}", canaries.of("dockerconfigjson")));
        let auths = [&self.registry, &self.astray].map(|at| (at.host(), json!({ "auth": packed })));
        let config = json!({ "auths": Value::from_iter(auths) });
        manifest::join(&[
            manifest::secret("basic", &basic),
            manifest::secret("bearer", &json!({ "token": canaries.of("bearer token") })),
            manifest::secret("docker", &json!({ ".dockerconfigjson": config.to_string() })),
            with(BEACON, generic, &self.basic, "basic"),
            with("bearer", generic, &self.bearer, "bearer"),
            with("echo", generic, &self.echo, "basic"),
            with("dead", generic, &self.dead, "basic"),
            with("registry", PackageType::Docker, &self.registry, "docker"),
            with("astray", PackageType::Docker, &self.astray, "docker"),
            RemoteManifest::new("closed", generic, &self.basic).set("access", closed.clone()).document(),
            RemoteManifest::new("closed-images", PackageType::Docker, &self.registry)
                .set("access", closed)
                .document(),
        ])
    }
}

/// Files that are wrong, each around a secret: name and text.
fn broken(canaries: &mut Canaries) -> Vec<(String, String)> {
    let remote = |spec: Value| {
        RemoteManifest::at("oops", PackageType::Generic, "https://up.test/").set_all(&spec).document()
    };
    let named = |name: &str| remote(json!({ "auth": { "secretRef": { "name": name } } }));
    let raw = |line: String| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: raw}}\nstringData:\n  password: {line}\n")
    };
    let mut c = |what| canaries.of(what);
    let mut texts = vec![
        remote(json!({ "baseURL": format!("https://user:{}@up.test/", c("password in baseURL")) })),
        remote(json!({ "baseURL": format!("https://up.test/?token={}", c("query of baseURL")) })),
        remote(json!({ "baseURL": format!("https://user:{}@up.test:port/", c("password in a wrong URL")) })),
        remote(
            json!({ "egress": { "proxyURL": format!("http://user:{}@proxy.test/", c("password of the egress proxy")) } }),
        ),
        remote(json!({ "auth": { "password": c("password in the manifest") } })),
        remote(json!({ "auth": c("password for auth") })),
        remote(json!({ "authRealms": [format!("user:{}@auth.test", c("password in authRealms"))] })),
        raw(format!("*{}", c("YAML alias"))),
        raw(format!("&{0} *{0}", c("YAML anchor"))),
        raw(format!("!{} x", c("YAML tag"))),
        raw(format!("!!int {}", c("YAML integer"))),
        raw(format!("!!bool {}", c("YAML bool"))),
        raw(format!("!!float {}", c("YAML float"))),
        raw(format!("@{}", c("YAML at sign"))),
        raw(format!("%{}", c("YAML percent"))),
        raw(format!("`{}", c("YAML backtick"))),
        raw(format!("\"{}", c("YAML open quote"))),
        raw(format!("\"\\{}", c("YAML escape"))),
        raw(format!("{}: x: y", c("YAML map"))),
        raw(format!("x\n  {0}: a\n  {0}: b", c("YAML duplicate"))),
        raw(format!("[{}", c("YAML list"))),
        raw(format!("{}\n {}: x", c("YAML indent"), c("YAML indented key"))),
        raw(format!("\n    ? [{}]\n    : x", c("YAML complex key"))),
        raw(format!("{{a: {}}}", c("map for text"))),
        raw("x".into())
            .replace("stringData:", &format!("stringData: {}", c("text for stringData")))
            .replace("  password: x\n", ""),
        raw(c("not base64")).replace("stringData", "data").replace("password: ", "password: not-base64-"),
        manifest::secret(
            "control",
            &json!({ "username": "u", "password": format!("\u{7}{}", c("control character")) }),
        ) + "---\n"
            + &named("control"),
        manifest::secret("spaces", &json!({ "token": format!("a {}", c("token with a space")) }))
            + "---\n"
            + &named("spaces"),
        manifest::secret("many", &json!({ "token": c("token"), "password": c("and password") }))
            + "---\n"
            + &named("many"),
        manifest::secret(
            "torn",
            &json!({ ".dockerconfigjson": format!("{{\"auths\": {{\"up.test\": {{\"auth\": \"{}\"", c("torn dockerconfigjson")) }),
        ) + "---\n"
            + &named("torn"),
        manifest::secret(
            "unusable",
            &json!({ ".dockerconfigjson": json!({ "auths": { "up.test": { "auth": c("unusable auth") } } }).to_string() }),
        ) + "---\n"
            + &named("unusable"),
        manifest::secret(
            "key",
            &json!({ "tls.crt": "no certificate", "tls.key": format!("-----BEGIN PRIVATE KEY-----\n{}\n", c("client key")) }),
        ) + "---\n"
            + &remote(json!({ "tls": { "certSecretRef": { "name": "key" } } })),
    ];
    let own_name = |(n, text): (usize, String)| {
        // Or else they would be refused for having one name.
        let text =
            text.replace("oops", &format!("oops-{n}")).replace("{name: raw}", &format!("{{name: raw-{n}}}"));
        (format!("broken-{n}.yaml"), text)
    };
    texts.drain(..).enumerate().map(own_name).collect()
}

/// Everything that clients can be told, with credentials of their own that are nobody's business.
async fn drive(proxy: &Proxy, canaries: &mut Canaries) -> Vec<Place> {
    let basic = STANDARD.encode(format!("me:{}", canaries.of("password of the client")));
    let authorizations = [format!("Basic {basic}"), format!("Bearer {}", canaries.of("token of the client"))];
    let cookie = format!("session={}", canaries.of("cookie of the client"));
    let proxied =
        format!("Basic {}", STANDARD.encode(format!("me:{}", canaries.of("proxy password of the client"))));
    let key = canaries.of("API key of the client");
    let query = canaries.of("query of the client");
    let mut listener = Listener::default();
    let (remote, registry) = (|name: &str| proxy.remote(name), format!("{}/v2/", proxy.url()));
    let urls = [
        (format!("{}whole.bin?token={query}", remote(BEACON)), true),
        (format!("{}cut.bin", remote(BEACON)), false),
        (format!("{}cookie.bin", remote(BEACON)), true),
        (format!("{}fail.bin", remote(BEACON)), false),
        (format!("{}absent.bin", remote(BEACON)), false),
        (format!("{}to-stored", remote(BEACON)), true),
        (format!("{}to-cut", remote(BEACON)), false),
        (format!("{}to-forbidden", remote(BEACON)), false),
        (format!("{}to-dead", remote(BEACON)), false),
        (format!("{}to-userinfo", remote(BEACON)), true),
        (format!("{}to-strange", remote(BEACON)), false),
        (format!("{}token.bin", remote("bearer")), true),
        (format!("{}x", remote("echo")), false),
        (format!("{}x", remote("dead")), false),
        (format!("{registry}registry/a/manifests/1"), true),
        (format!("{registry}astray/a/manifests/1"), false),
        (format!("{}x", remote("nowhere")), false),
        (format!("{}/api/v1/remote/{BEACON}/%zz", proxy.url()), false),
    ];
    for authorization in &authorizations {
        let headers = [
            ("authorization", authorization.as_str()),
            ("cookie", &cookie),
            ("proxy-authorization", &proxied),
            ("x-api-key", &key),
        ];
        for (url, whole) in &urls {
            let answer = listener.ask(Method::GET, url, &headers).await;
            assert_eq!(answer.as_ref().is_some_and(http::Fetched::is_ok), *whole, "{url}: {answer:?}");
            listener.ask(Method::HEAD, url, &headers).await;
            listener.ask(Method::PUT, url, &headers).await;
            listener.ask(Method::GET, url, &[headers[0], ("range", "bytes=5-")]).await;
        }
    }
    listener.0
}

/// Tokens of robots, shown in every way, good and revoked, and traded for others.
async fn show_tokens(proxy: &Proxy, canaries: &mut Canaries) -> Vec<Place> {
    let mut listener = Listener::default();
    let mut ids = Vec::new();
    for what in ["token of a robot", "revoked token of a robot"] {
        let told = proxy.tool(&["token", "create", "ci", "--allow", "*=pull", "--json"], &[]).await;
        let made: Value = serde_json::from_str(&told.text).expect("a token");
        let token = made["token"].as_str().expect("a token").to_owned();
        // The prefix is no secret.
        canaries.add(what, token.strip_prefix("aapi_").expect("our prefix"));
        ids.push((made["id"].as_str().expect("an id").to_owned(), token));
    }
    let told = proxy.tool(&["token", "revoke", &ids[1].0], &[]).await;
    assert_eq!(told.code, Some(0), "{}", told.text);
    let listed = proxy.tool(&["token", "list"], &[]).await.text;
    assert!(listed.contains(&ids[0].0), "{listed}");
    let registry = format!("{}/v2/", proxy.url());
    for (_, token) in &ids {
        let basic = format!("Basic {}", STANDARD.encode(format!("me:{token}")));
        for shown in [basic.clone(), format!("Bearer {token}"), format!("Basic {token}")] {
            let headers = [("authorization", shown.as_str())];
            for url in
                [format!("{}x", proxy.remote("closed")), registry.clone(), format!("{registry}_catalog")]
            {
                listener.ask(Method::GET, &url, &headers).await;
            }
        }
        let url = format!("{}/token?service=s&scope=repository:closed-images/a:pull", proxy.url());
        let answer = http::request(Method::GET, &url, &[("authorization", &basic)]).await;
        if answer.status != 200 {
            continue;
        }
        let short = answer.json()["token"].as_str().expect("a token").to_owned();
        canaries.add("short-lived token", &short);
        for shown in [format!("Bearer {short}"), format!("Bearer {short}x")] {
            let headers = [("authorization", shown.as_str())];
            listener.ask(Method::GET, &format!("{registry}closed-images/a/manifests/1"), &headers).await;
        }
    }
    let mut places = listener.0;
    places.push(Place::new("token list", listed));
    places
}

/// Credentials must have been used where they belong, or else their absence elsewhere means nothing.
fn were_used(world: &World, canaries: &mut Canaries) {
    let mut sent = |upstream: &Upstream, what: &'static str, packed: &str| {
        let text = packed.to_owned() + &canaries.of(what);
        let forms = search::forms(&text);
        let met =
            upstream.requests().iter().any(|request| forms.iter().any(|(_, form)| request.contains(form)));
        assert!(met, "{what} was never sent to where it belongs");
    };
    sent(&world.basic, "user name", "");
    sent(&world.basic, "password", "");
    sent(&world.echo, "password", "");
    sent(&world.bearer, "bearer token", "");
    sent(&world.registry, "dockerconfigjson", "");
    sent(&world.registry, "registry token", "");
    sent(&world.foreign, "signature of a stored body", "");
    sent(&world.foreign, "signature of a truncated body", "");
    sent(&world.foreign, "signature of a refused URL", "");
}

/// Nobody else gets to see credentials: neither ours nor the clients'.
fn were_kept(world: &World, canaries: &mut Canaries) {
    let told: Vec<_> = world.foreign.requests();
    assert!(told.iter().any(|request| request.path() == "userinfo"));
    for request in &told {
        for name in ["authorization", "cookie", "proxy-authorization", "x-api-key"] {
            assert_eq!(request.header(name), None, "{request:?}");
        }
    }
    let all = [&world.basic, &world.bearer, &world.echo, &world.registry, &world.astray, &world.foreign];
    let asked: Vec<_> = all.iter().flat_map(|upstream| upstream.requests()).collect();
    let of_clients = Place::new("a request upstream", format!("{asked:?}"));
    let mut clients = Canaries::default();
    for what in [
        "password of the client",
        "token of the client",
        "cookie of the client",
        "proxy password of the client",
        "API key of the client",
        "query of the client",
        "cookie of the upstream",
    ] {
        clients.add(what, &canaries.of(what));
    }
    assert_eq!(clients.found_in(&[of_clients]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_37_no_secret_is_logged_counted_answered_or_stored() {
    let mut canaries = Canaries::default();
    let world = World::start(&mut canaries).await;
    let manifests = world.manifests(&mut canaries);
    let mut proxy = Options::new(manifests).env("RUST_LOG", "trace").start().await;
    let broken = broken(&mut canaries);
    for (name, text) in &broken {
        fs::write(proxy.manifests().join(name), text).unwrap();
    }
    for (name, _) in &broken {
        logged(&proxy, name).await;
    }
    let checked = check(&proxy).await;
    assert_eq!(checked.code, Some(2), "{}", checked.text);
    for (name, text) in &broken {
        assert!(checked.text.contains(&format!("{name}:")), "{name} is not reported: {text}");
    }
    let mut places = drive(&proxy, &mut canaries).await;
    places.extend(show_tokens(&proxy, &mut canaries).await);
    places.push(Place::new("the metrics", http::get(&proxy.metrics_url()).await.text()));
    were_used(&world, &mut canaries);
    were_kept(&world, &mut canaries);
    proxy.stop().await;
    places.push(Place::new("check-config", &checked.text));
    places.push(Place::new("the log", proxy.logs()));
    let stored = files(&proxy.data());
    let read =
        |name: &str| places.iter().filter(|place| place.name.contains(name)).any(|place| place.holds(BEACON));
    assert!(
        read("whole.bin") && read("the metrics") && read("the log"),
        "the search must find what is there"
    );
    let kept =
        |end: &str| stored.iter().filter(|place| place.name.contains(end)).any(|place| place.holds(BEACON));
    assert!(kept(".db") && kept("/blobs/"), "the search must find what is there");
    places.extend(stored);
    assert!(canaries.count() >= 20, "{}", canaries.count());
    println!("{} canaries in {} places", canaries.count(), places.len());
    assert_eq!(canaries.found_in(&places), Vec::<String>::new());
}

async fn check(proxy: &Proxy) -> Told {
    let dir = proxy.manifests().display().to_string();
    proxy::command(["check-config", "--manifests", &dir]).await
}

/// The lines of a PEM file between its marks.
fn lines_of(pem: &str) -> Vec<String> {
    pem.lines().filter(|line| !line.starts_with("---") && !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn rs_37_the_servers_key_stays_in_its_file() {
    let authority = Authority::new();
    let mut proxy = Options::new("").tls(&authority).env("RUST_LOG", "trace").start().await;
    let key = fs::read_to_string(proxy.tls_files().1).unwrap();
    let mut canaries = Canaries::default();
    for (what, line) in ["first line", "second line", "third line"].into_iter().zip(lines_of(&key)) {
        canaries.add(what, &line);
    }
    assert!(canaries.count() > 1, "{key}");
    // A torn file, and one that is something else.
    let torn = format!("{}{}", &key[..key.len() / 2], canaries.of("torn key"));
    for text in [torn, format!("password={}", canaries.of("no key"))] {
        let lines = proxy.logs().matches("stays in use").count();
        fs::write(proxy.tls_files().1, text).unwrap();
        wait::until("the key to be read", http::PATIENCE, async || {
            proxy.logs().matches("stays in use").count() > lines
        })
        .await;
    }
    proxy.stop().await;
    let mut places = vec![Place::new("the log", proxy.logs())];
    let (certificate, key) = proxy.tls_files();
    let (data, manifests) = (proxy.data(), proxy.manifests());
    let arguments = [
        "standalone".as_ref(),
        "--data".as_ref(),
        data.as_os_str(),
        "--manifests".as_ref(),
        manifests.as_os_str(),
    ];
    let tls = ["--tls-cert".as_ref(), certificate.as_os_str(), "--tls-key".as_ref(), key.as_os_str()];
    let told = proxy::command(arguments.into_iter().chain(tls)).await;
    assert_ne!(told.code, Some(0));
    assert!(told.text.contains("tls.key"), "{}", told.text);
    places.push(Place::new("a start with a bad key", told.text));
    places.extend(files(&proxy.data()));
    assert_eq!(canaries.found_in(&places), Vec::<String>::new());
}
