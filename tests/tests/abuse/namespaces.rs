//! A node's runtime sends every pull here and names the registry by `?ns=` (containerd's `_default`, k3s's `*`):
//! whoever may name a repository must not answer for a registry that nobody has allowed it to mirror.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Proxy, Registry, RemoteManifest, Upstream,
    fixtures::oci,
    http::{self, Fetched},
    manifest,
    proxy::Options,
    registry::index_of,
};
use reqwest::Method;
use serde_json::{Value, json};

/// What the proxy is known by outside.
const PUBLIC: &str = "packages.test";
/// Repositories as somebody would name them who wants to answer for images of other registries: a Local, a Remote, a
/// Virtual.
const NAMES: [&str; 3] = ["cilium", "calico", "library"];

struct Bench {
    upstream: Upstream,
    proxy: Proxy,
}

impl Bench {
    /// With an image `NAME/app:1` in each of [`NAMES`], and a mirror of `mirrored.test`.
    async fn start() -> Bench {
        let upstream = Upstream::start().await;
        oci::Image::of_layer(b"whatever").stock(&upstream, "app", &["1"]);
        let [local, remote, united] = NAMES;
        let mirror = json!({ "mirrorFor": ["mirrored.test"] });
        let manifests = manifest::join(&[
            document("Local", local, &json!({ "type": "docker", "access": { "anonymousWrite": true } })),
            RemoteManifest::new(remote, PackageType::Docker, &upstream).document(),
            manifest::united(united, PackageType::Docker, &[remote], &json!({})),
            RemoteManifest::new("mirror", PackageType::Docker, &upstream).set("docker", mirror).document(),
        ]);
        let options = Options::new(manifests).env("ARTIFACTAPI_PUBLIC_URL", format!("https://{PUBLIC}"));
        let bench = Bench { upstream, proxy: options.start().await };
        let image = Registry::new([bench.proxy.url()], "").image(&format!("{local}/app"));
        image.put_manifest(0, "1", &index_of(&[])).await.unwrap_or_else(|refused| panic!("{refused}"));
        bench
    }

    /// What a runtime gets that asks for `image` of the registry `ns` here, under the name `host`.
    async fn pull(&self, method: Method, image: &str, host: &str, ns: Option<&str>) -> Fetched {
        let query = ns.map(|ns| format!("?ns={}", ns.replace(':', "%3A"))).unwrap_or_default();
        let url = format!("{}/v2/{image}/manifests/1{query}", self.proxy.url());
        http::request(method, &url, &[("host", host), ("accept", oci::INDEX)]).await
    }
}

fn document(kind: &str, name: &str, spec: &Value) -> String {
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    format!("{manifest}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_repository_answers_for_a_registry_that_nobody_mirrors() {
    let bench = Bench::start().await;
    let own = bench.proxy.host();
    for name in NAMES {
        for ns in ["quay.io", "docker.io", "quay.io:443", "packages.test:8443", "127.0.0.1", ""] {
            for method in [Method::GET, Method::HEAD] {
                let image = format!("{name}/app");
                let answer = bench.pull(method.clone(), &image, &own, Some(ns)).await;
                assert_eq!(answer.status, 404, "{method} {image} of {ns}: {}", answer.text());
                if method == Method::GET {
                    let told = answer.json();
                    assert_eq!(told["errors"][0]["code"], "NAME_UNKNOWN", "{told}");
                    let words = told["errors"][0]["message"].as_str().unwrap_or_default();
                    assert!(words.contains("docker.mirrorFor"), "{told}");
                }
            }
        }
    }
    // Nor does the catalog, or a repository of another type.
    let catalog = http::get(&format!("{}/v2/_catalog?ns=quay.io", bench.proxy.url())).await;
    assert_eq!(catalog.status, 404, "{}", catalog.text());
    assert_eq!(bench.upstream.requests().len(), 0, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_our_own_come_by_the_same_way() {
    let bench = Bench::start().await;
    let own = bench.proxy.host();
    for name in NAMES {
        let image = format!("{name}/app");
        for (host, ns) in [
            (own.as_str(), None),
            // The registry by its public name, asked for by the node's address of it.
            (own.as_str(), Some(PUBLIC)),
            (own.as_str(), Some("Packages.test:443")),
            // Both by the same name.
            (own.as_str(), Some(own.as_str())),
            ("node-1:30800", Some("node-1:30800")),
        ] {
            let answer = bench.pull(Method::GET, &image, host, ns).await;
            assert!(answer.is_ok(), "{image} of {ns:?} at {host}: {} {}", answer.status, answer.text());
            assert_eq!(answer.header("oci-namespace"), "", "{image} is no mirror's");
        }
    }
    // A mirror goes on as before, with the whole path or behind its own name.
    for image in ["app", "mirror/app"] {
        let answer = bench.pull(Method::GET, image, &own, Some("mirrored.test")).await;
        assert!(answer.is_ok(), "{image}: {} {}", answer.status, answer.text());
        assert_eq!(answer.header("oci-namespace"), "mirrored.test");
    }
}
