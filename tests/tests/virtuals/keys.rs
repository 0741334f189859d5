//! What Virtuals keep is known by what counts: queries make nothing new, and another upstream is another member.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Proxy, RemoteManifest, Upstream,
    fixtures::{marked, terraform},
    http::{self, PATIENCE},
    manifest, wait,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::{Stand, chart};

const JSON_PAGE: &str = "application/vnd.pypi.simple.v1+json";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
/// Queries that are tried of each path.
const QUERIES: u64 = 40;

/// Everything that one upstream has of one type, each byte of which tells whose it is.
async fn stock(package_type: PackageType, upstream: &Upstream, mark: &str) {
    match package_type {
        PackageType::Generic => {
            upstream.put("dir/file", mark.to_owned());
            upstream.script(
                "dir/versioned",
                artifactapi_tests::Behaviour::handler({
                    let mark = mark.to_owned();
                    move |request| {
                        artifactapi_tests::Answer::json(
                            &json!({ "mark": mark, "of": request.parameter("v") }),
                        )
                    }
                }),
            );
        }
        PackageType::Helm => {
            let index = format!(
                "apiVersion: v1\nentries:\n  a:\n  - apiVersion: v2\n    name: a\n    version: 1.0.0\n    description: {mark}\n    urls:\n    - charts/a-1.0.0.tgz\n"
            );
            upstream.put("index.yaml", index).put("charts/a-1.0.0.tgz", chart(mark));
        }
        PackageType::Npm => {
            let dist = json!({ "tarball": format!("{}tool/-/tool-1.0.0.tgz", upstream.url()) });
            let version = json!({ "name": "tool", "version": "1.0.0", "description": mark, "dist": dist });
            let packument = json!({
                "name": "tool", "description": mark, "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version },
            });
            upstream.put_with("tool", packument.to_string(), &JSON).put("tool/-/tool-1.0.0.tgz", chart(mark));
        }
        PackageType::Pypi => marked::stock_wheels(upstream, upstream, "", mark, &["1.0"], true),
        PackageType::Goproxy => {
            upstream.put("example.test/m/@v/list", "v1.0.0\n");
            let info =
                json!({ "Version": "v1.0.0", "Time": "2024-01-01T00:00:00Z", "Origin": { "Hash": mark } });
            upstream.put("example.test/m/@v/v1.0.0.info", info.to_string());
        }
        PackageType::Puppet => {
            marked::stock_modules(upstream, "", mark, &["1.0.0", "1.1.0"]).await.expect("tar");
        }
        PackageType::Terraform => {
            let release = terraform::provider_of(mark, "1.0.0").await.expect("GnuPG");
            terraform::stock(upstream, upstream, "", &[release]);
        }
        other => unreachable!("no fixture of {other}"),
    }
}

/// Paths of what [`stock`] has, with the queries that count, in a Virtual whose indexes are merged or not.
fn targets(package_type: PackageType, is_union: bool, host: &str) -> Vec<String> {
    let wheel = marked::wheel_name("1.0");
    let page = format!("simple/{}/", marked::PROJECT);
    let (os, arch) = terraform::platform();
    let provider = format!("{}/{}", terraform::NAMESPACE, terraform::TYPE);
    match package_type {
        PackageType::Generic => {
            vec!["dir/file".into(), "dir/versioned?v=1".into(), "dir/versioned?v=2".into()]
        }
        PackageType::Helm => vec!["index.yaml".into(), "-/m/first/charts/a-1.0.0.tgz".into()],
        PackageType::Npm => vec!["tool".into(), "tool/-/tool-1.0.0.tgz".into()],
        PackageType::Pypi if is_union => vec![
            page.clone(),
            format!("{page}?format={JSON_PAGE}"),
            format!("{page}-/m/first/-/top/packages/{wheel}"),
        ],
        PackageType::Pypi => {
            vec![page.clone(), format!("{page}?format={JSON_PAGE}"), format!("packages/{wheel}")]
        }
        PackageType::Goproxy => {
            vec!["example.test/m/@v/list".into(), "example.test/m/@v/v1.0.0.info".into()]
        }
        PackageType::Puppet => {
            let list = format!("v3/releases?module={}", marked::MODULE);
            vec![
                format!("{list}&limit=20&sort_by=version"),
                format!("{list}&offset=1"),
                format!("v3/modules/{}", marked::MODULE),
                format!("v3/files/{}-1.0.0.tar.gz", marked::MODULE),
            ]
        }
        PackageType::Terraform => vec![
            format!("{}{provider}/versions", terraform::BASE),
            format!("{}{provider}/1.0.0/download/{os}/{arch}", terraform::BASE),
            format!("{host}/{provider}/index.json"),
            format!("{host}/{provider}/1.0.0.json"),
        ],
        other => unreachable!("no fixture of {other}"),
    }
}

/// The same question with other words in it: parameters that nobody knows, others' order, everything twice.
fn spellings(target: &str) -> Vec<String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let reversed = query.split('&').rev().collect::<Vec<_>>().join("&");
    let spelled = |number: u64| {
        let noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match number % 4 {
            0 => format!("{path}?{query}&x={noise:x}"),
            1 => format!("{path}?{noise:x}&{reversed}"),
            2 => format!("{path}?{query}&ns=h{noise:x}.example&{query}"),
            _ => format!("{path}?a={noise:x}&a={number}&&=&{reversed}"),
        }
    };
    (0..QUERIES).map(spelled).collect()
}

/// What the proxy keeps: what fsck counts, and merges it has told of.
async fn kept(stand: &mut Stand) -> (String, usize) {
    stand.proxy.stop().await;
    let told = stand.proxy.fsck(false).await.text;
    let rows = told.split(':').next().unwrap_or_default().to_owned();
    assert!(rows.contains(" artifacts, "), "{told}");
    let merges = stand.proxy.logs().matches("a merged index was made").count();
    stand.proxy.respawn().await;
    (rows, merges)
}

#[tokio::test]
async fn rs_22_queries_make_nothing_in_a_virtual() {
    use PackageType as T;
    for (package_type, is_union) in [
        (T::Generic, false),
        (T::Helm, false),
        (T::Npm, false),
        (T::Npm, true),
        (T::Pypi, false),
        (T::Pypi, true),
        (T::Goproxy, false),
        (T::Goproxy, true),
        (T::Puppet, false),
        (T::Puppet, true),
        (T::Terraform, false),
        (T::Terraform, true),
    ] {
        let case = format!("{package_type}{}", if is_union { " united" } else { "" });
        let spec = if is_union { json!({ "resolution": "union" }) } else { json!({}) };
        let remotes = match package_type {
            T::Generic => json!({ "generic": { "queryParameters": ["v"] } }),
            _ => json!({}),
        };
        let mut stand = Stand::start(package_type, &remotes, &spec).await;
        stock(package_type, &stand.first, "one").await;
        let targets = targets(package_type, is_union, &stand.first.host());
        let mut bodies = Vec::new();
        for target in &targets {
            let answer = stand.get(target).await;
            assert!(answer.is_ok(), "{case}: {target}: {} {}", answer.status, answer.text());
            bodies.push(answer.body);
        }
        let before = kept(&mut stand).await;
        let asked = |stand: &Stand| stand.first.requests().len() + stand.second.requests().len();
        for target in &targets {
            assert!(stand.get(target).await.is_ok(), "{case}: {target}");
        }
        let requests = asked(&stand);
        for (target, body) in targets.iter().zip(&bodies) {
            for spelling in spellings(target) {
                let answer = stand.get(&spelling).await;
                assert!(answer.is_ok() && answer.body == *body, "{case}: {spelling}: {answer:?}");
            }
        }
        assert_eq!(asked(&stand), requests, "{case}: {:?}", stand.first.requests());
        assert_eq!(kept(&mut stand).await, before, "{case}");
        println!("figure: {case}: {} questions in {QUERIES} spellings made nothing new", targets.len());
    }
}

#[tokio::test]
async fn rs_22_what_is_known_of_a_name_is_found_by_every_spelling() {
    let remotes = json!({ "negativeTTL": "1h" });
    let documents = |stand: (&Upstream, &Upstream), package_type, is_suspended: bool| {
        let first = RemoteManifest::new("first", package_type, stand.0).set_all(&remotes);
        manifest::join(&[
            first.set("suspend", is_suspended).document(),
            RemoteManifest::new("second", package_type, stand.1).set_all(&remotes).document(),
            manifest::united("v", package_type, &["first", "second"], &json!({})),
        ])
    };
    let wheel = format!("packages/{}", marked::wheel_name("1.0"));
    for (package_type, path, spelled) in [
        (PackageType::Generic, "dir/file", ["dir/file?x=1", "dir/%66ile", "dir/file?v=2&ns=a.example"]),
        (
            PackageType::Pypi,
            &wheel,
            [
                &wheel.replace("thing", "%74hing"),
                &format!("{wheel}?x=1"),
                &wheel.replace("marked", "m%61rked"),
            ],
        ),
    ] {
        let (first, second) = (Upstream::start().await, Upstream::start().await);
        stock(package_type, &second, "two").await;
        let proxy = Proxy::start(documents((&first, &second), package_type, false)).await;
        let url = |path: &str| format!("{}/api/v1/virtual/v/{path}", proxy.url());
        let before = http::get(&url(path)).await;
        assert!(before.is_ok(), "{before:?}");
        // From now on the first member can say nothing: whoever asks it once more fails.
        proxy.apply(&documents((&first, &second), package_type, true));
        wait::until("the first member to be suspended", PATIENCE, async || {
            http::get(&format!("{}other", proxy.remote("first"))).await.status == 503
        })
        .await;
        for spelling in spelled {
            let answer = http::get(&url(spelling)).await;
            assert!(answer.is_ok() && answer.body == before.body, "{spelling}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn rs_49_queries_do_not_lead_to_another_member() {
    let reserved = json!({ "reserved": [{ "member": "first", "patterns": ["corp-.*"] }] });
    let stand = Stand::start(PackageType::Puppet, &json!({}), &reserved).await;
    for path in [
        "v3/releases?module=acme-marked&module=corp-secret",
        "v3/releases?x=1&module=corp%2Fsecret",
        "v3/releases?module=corp-secret&limit=1&module=corp-secret",
        "v3/modules?query=corp-secret",
    ] {
        assert_eq!(stand.get(path).await.status, 404, "{path}");
    }
    assert_eq!(stand.second.requests().len(), 0, "{:?}", stand.second.requests());
    // What looks for packages by words tells the words to whoever is asked.
    let stand = Stand::start(PackageType::Npm, &json!({}), &json!({})).await;
    for query in ["text=corp", "x=1&text=corp", "text=a&text=b", "size=20&text=corp"] {
        assert_eq!(stand.get(&format!("-/v1/search?{query}")).await.status, 404, "{query}");
    }
    assert_eq!(stand.first.requests().len() + stand.second.requests().len(), 0);
}

/// One member or one Virtual that becomes another under its name.
struct Changing {
    package_type: PackageType,
    spec: Value,
    old: Upstream,
    new: Upstream,
}

impl Changing {
    async fn of(package_type: PackageType, is_union: bool) -> Self {
        let spec = if is_union { json!({ "resolution": "union" }) } else { json!({}) };
        let (old, new) = (Upstream::start().await, Upstream::start().await);
        stock(package_type, &old, "old").await;
        stock(package_type, &new, "new").await;
        Changing { package_type, spec, old, new }
    }

    fn member(&self, name: &str, upstream: &Upstream) -> String {
        RemoteManifest::new(name, self.package_type, upstream).document()
    }

    fn over(&self, member: &str) -> String {
        manifest::united("v", self.package_type, &[member], &self.spec)
    }
}

fn url(proxy: &Proxy, path: &str) -> String {
    format!("{}/api/v1/virtual/v/{path}", proxy.url())
}

/// How something becomes another under its name.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The member's base URL is edited.
    Edited,
    /// The member is deleted, and comes back with another base URL.
    Returned,
    /// The Virtual gets another member.
    Pointed,
    /// The Virtual is deleted, and comes back over another member.
    Replaced,
}

#[tokio::test]
async fn rs_24_what_becomes_another_under_its_name_never_serves_the_old_bytes() {
    use PackageType as T;
    let types = [
        (T::Generic, false),
        (T::Helm, false),
        (T::Npm, false),
        (T::Npm, true),
        (T::Pypi, true),
        (T::Goproxy, false),
    ];
    let changes = [Change::Edited, Change::Returned, Change::Pointed, Change::Replaced];
    let cases = types.into_iter().flat_map(|of| changes.map(|change| (of, change)));
    // They wait more than they work.
    futures_util::stream::iter(cases)
        .for_each_concurrent(6, |((package_type, is_union), change)| async move {
            let case = Changing::of(package_type, is_union).await;
            changed(&case, change, &targets(package_type, is_union, "")).await;
        })
        .await;
}

async fn changed(case: &Changing, change: Change, targets: &[String]) {
    let alone = |upstream| manifest::join(&[case.member("first", upstream), case.over("first")]);
    let both = [case.member("first", &case.old), case.member("second", &case.new)];
    let over = |member: &str| manifest::join(&[both.to_vec(), vec![case.over(member)]].concat());
    let moved: Vec<_> = targets.iter().map(|target| target.replace("-/m/first/", "-/m/second/")).collect();
    let (first, gone, then, after) = match change {
        Change::Edited => (alone(&case.old), None, alone(&case.new), targets),
        Change::Returned => (alone(&case.old), Some(case.over("first")), alone(&case.new), targets),
        Change::Pointed => (over("first"), None, over("second"), &moved[..]),
        Change::Replaced => (over("first"), Some(manifest::join(&both)), over("second"), &moved[..]),
    };
    compare(case, &first, gone.into_iter().chain([then]), targets, after).await;
}

/// Starts with `first`, goes through `steps`, and compares what is served before and after.
async fn compare(
    case: &Changing,
    first: &str,
    steps: impl Iterator<Item = String>,
    before: &[String],
    after: &[String],
) {
    let proxy = Proxy::start(first.to_owned()).await;
    let mut old = Vec::new();
    for target in before {
        let answer = http::get(&url(&proxy, target)).await;
        assert!(answer.is_ok(), "{}: {target}: {} {}", case.package_type, answer.status, answer.text());
        old.push(answer.body);
    }
    let mut steps = steps.peekable();
    while let Some(step) = steps.next() {
        proxy.apply(&step);
        if steps.peek().is_some() {
            wait::until("it to be gone", PATIENCE, async || {
                !http::get(&url(&proxy, &before[0])).await.is_ok()
            })
            .await;
        }
    }
    wait::until("its successor", PATIENCE, async || {
        let probe = after.iter().zip(&old).find(|(target, _)| !says_nothing(target));
        let (target, old) = probe.expect("something that tells them apart");
        let answer = http::get(&url(&proxy, target)).await;
        answer.is_ok() && answer.body != *old
    })
    .await;
    for ((was, target), old) in before.iter().zip(after).zip(&old) {
        let answer = http::get(&url(&proxy, target)).await;
        assert!(answer.is_ok(), "{}: {target}: {} {}", case.package_type, answer.status, answer.text());
        let is_same = answer.body == *old && !says_nothing(target);
        assert!(!is_same, "{}: {target} is still the old one: {}", case.package_type, answer.text());
        let again = http::get(&url(&proxy, was)).await;
        assert!(!(again.is_ok() && again.body == *old) || says_nothing(was), "{}: {was}", case.package_type);
    }
    // The new upstream is silent: nothing old stands in for it.
    case.new.off().await;
    for (was, old) in before.iter().zip(&old) {
        let answer = http::get(&url(&proxy, was)).await;
        assert!(
            !(answer.is_ok() && answer.body == *old) || says_nothing(was),
            "{}: {was}",
            case.package_type
        );
    }
}

/// Whether both upstreams have the same there: a list of versions.
fn says_nothing(target: &str) -> bool {
    target.ends_with("@v/list")
}
