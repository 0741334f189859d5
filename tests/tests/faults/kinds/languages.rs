//! pypi, npm and goproxy.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Upstream,
    fingerprint::of_bytes,
    fixtures::{npm::Package, zip::zip},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{FILE_BYTES, Kind, Place, Stock, Versions, noise, nothing, put_json, tgz};

const WHEEL: &str = "my_widget-1.0-py3-none-any.whl";

fn wheel() -> Bytes {
    zip(&[("my_widget/data.bin", &noise(FILE_BYTES))]).into()
}

fn put_project(upstream: &Upstream, second: bool) {
    let file = |name: &str, digest: String| json!({ "filename": name, "url": format!("{}packages/{name}", upstream.url()), "hashes": { "sha256": digest } });
    let mut files = vec![file(WHEEL, of_bytes(&wheel()))];
    files.extend(second.then(|| file("my_widget-1.1-py3-none-any.whl", of_bytes(b"other"))));
    let page = json!({ "meta": { "api-version": "1.0" }, "name": "my-widget", "files": files });
    let kind = [("content-type", "application/vnd.pypi.simple.v1+json")];
    upstream.put_with("simple/my-widget/", page.to_string(), &kind);
}

pub(super) const PYPI: Kind = Kind {
    package_type: PackageType::Pypi,
    spec: nothing,
    stock: |upstream| {
        put_project(upstream, false);
        upstream.put(&format!("packages/{WHEEL}"), wheel());
        Stock {
            index: ("simple/my-widget/", "simple/my-widget/"),
            versions: Versions::Mark("my_widget-1.1"),
            change: Box::new(|upstream| put_project(upstream, true)),
            way: Vec::new(),
            file: Place::Linked(WHEEL),
            file_upstream: format!("packages/{WHEEL}"),
            bytes: wheel(),
            published: true,
            block: "^simple/my-widget/|my_widget-1[.]0-py3-none-any[.]whl$",
            aliases: ["simple/my-widget/", "simple/My_Widget/", "simple/my.widget/", "simple/my%2Dwidget/"]
                .map(str::to_owned)
                .to_vec(),
        }
    },
};

fn package(version: &str) -> Package {
    Package {
        name: "@acme/widget".into(),
        version: version.into(),
        manifest: json!({ "name": "@acme/widget", "version": version }),
        tarball: tgz(),
    }
}

pub(super) const NPM: Kind = Kind {
    package_type: PackageType::Npm,
    spec: nothing,
    stock: |upstream| {
        let first = package("1.0.0");
        put_json(upstream, "@acme%2fwidget", &first.packument(&upstream.url()));
        upstream.put(&first.tarball_path(), first.tarball.clone());
        Stock {
            index: ("@acme%2fwidget", "@acme%2fwidget"),
            versions: Versions::Mark("1.1.0"),
            change: Box::new(|upstream| {
                put_json(upstream, "@acme%2fwidget", &package("1.1.0").packument(&upstream.url()));
            }),
            way: Vec::new(),
            file: Place::Linked("widget-1.0.0.tgz"),
            file_upstream: first.tarball_path(),
            bytes: first.tarball,
            published: true,
            block: "^@acme/widget(/|$)",
            aliases: [
                "@acme%2fwidget",
                "@acme/widget",
                "%40acme%2Fwidget",
                "@acme%2Fwidget/-/widget-1.0.0.tgz",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    },
};

const MODULE: &str = "example.test/widget";
const LOOKUP: &str = "sumdb/sum.golang.org/lookup/example.test/widget@v1.0.0";

/// `h1:` of a zip with these members (golang.org/x/mod/sumdb/dirhash).
fn h1(members: &[(&str, &[u8])]) -> String {
    let mut lines: Vec<_> =
        members.iter().map(|(name, bytes)| format!("{}  {name}\n", of_bytes(bytes))).collect();
    lines.sort_by(|a, b| a[64..].cmp(&b[64..]));
    format!("h1:{}", STANDARD.encode(Sha256::digest(lines.concat())))
}

pub(super) const GOPROXY: Kind = Kind {
    package_type: PackageType::Goproxy,
    spec: nothing,
    stock: |upstream| {
        let data = noise(FILE_BYTES);
        let module = b"module example.test/widget\n";
        let members: [(&str, &[u8]); 2] =
            [("example.test/widget@v1.0.0/go.mod", module), ("example.test/widget@v1.0.0/data.bin", &data)];
        let bytes = Bytes::from(zip(&members));
        let record = format!(
            "1\n{MODULE} v1.0.0 {}\n{MODULE} v1.0.0/go.mod {}\n\ngo.sum database tree\n",
            h1(&members),
            h1(&[("go.mod", module)])
        );
        let list = "example.test/widget/@v/list";
        upstream.put(list, "v1.0.0\n").put(LOOKUP, record);
        upstream.put("example.test/widget/@v/v1.0.0.zip", bytes.clone());
        Stock {
            index: (list, list),
            versions: Versions::Raw("v1.0.0\n".into(), "v1.0.0\nv1.1.0\n".into()),
            change: Box::new(|upstream| {
                upstream.put("example.test/widget/@v/list", "v1.0.0\nv1.1.0\n");
            }),
            way: vec![LOOKUP.into()],
            file: Place::Named("example.test/widget/@v/v1.0.0.zip".into()),
            file_upstream: "example.test/widget/@v/v1.0.0.zip".into(),
            bytes,
            published: true,
            block: "^example[.]test/widget/@v/v1[.]0[.]0[.]zip$",
            aliases: vec!["example.test/widget/%40v/v1.0.0.zip".into()],
        }
    },
};
