//! generic, docker, helm, puppet and terraform.

use artifactapi_model::PackageType;
use artifactapi_tests::{
    Upstream,
    fingerprint::of_bytes,
    fixtures::{oci, puppet::Release, zip::zip},
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{FILE_BYTES, Kind, Place, Stock, Versions, noise, nothing, put_json, tgz};

pub(super) const GENERIC: Kind = Kind {
    package_type: PackageType::Generic,
    spec: || json!({ "mutablePatterns": ["^latest/"] }),
    stock: |upstream| {
        let bytes = Bytes::from(noise(FILE_BYTES));
        upstream.put("latest/version.txt", "1.0\n").put("releases/tool-1.0.bin", bytes.clone());
        Stock {
            index: ("latest/version.txt", "latest/version.txt"),
            versions: Versions::Raw("1.0\n".into(), "1.1\n".into()),
            change: Box::new(|upstream| {
                upstream.put("latest/version.txt", "1.1\n");
            }),
            way: Vec::new(),
            file: Place::Named("releases/tool-1.0.bin".into()),
            file_upstream: "releases/tool-1.0.bin".into(),
            bytes,
            published: false,
            block: "^releases/tool",
            aliases: Vec::new(),
        }
    },
};

fn image(second: bool) -> oci::Image {
    let mut layer = noise(FILE_BYTES);
    layer[0] = u8::from(second);
    oci::Image::of_layer(&layer)
}

pub(super) const DOCKER: Kind = Kind {
    package_type: PackageType::Docker,
    spec: nothing,
    stock: |upstream| {
        let (one, two) = (image(false), image(true));
        one.stock(upstream, oci::IMAGE, &[oci::TAG]);
        let layer = oci::digest(&one.layer);
        Stock {
            index: ("acme/app/manifests/1.0", "v2/acme/app/manifests/1.0"),
            versions: Versions::Raw(one.index.clone(), two.index),
            change: Box::new(|upstream| image(true).stock(upstream, oci::IMAGE, &[oci::TAG])),
            way: Vec::new(),
            file: Place::Named(format!("acme/app/blobs/{layer}")),
            file_upstream: format!("v2/acme/app/blobs/{layer}"),
            bytes: one.layer,
            published: true,
            block: "^acme/app/blobs/",
            aliases: vec![format!("acme/app/blobs/{}", layer.replace(':', "%3A"))],
        }
    },
};

fn put_chart_index(upstream: &Upstream, chart: &[u8], second: bool) {
    let mut index = format!(
        "apiVersion: v1\nentries:\n  widget:\n  - apiVersion: v2\n    name: widget\n    version: 0.1.0\n    digest: {}\n    \
         created: \"2024-01-01T00:00:00Z\"\n    urls:\n    - {}charts/widget-0.1.0.tgz\n",
        of_bytes(chart),
        upstream.url()
    );
    if second {
        index.push_str(
            "  gadget:\n  - apiVersion: v2\n    name: gadget\n    version: 0.2.0\n    created: \"2024-01-01T00:00:00Z\"\n    \
             urls:\n    - charts/gadget-0.2.0.tgz\n",
        );
    }
    upstream.put("index.yaml", index);
}

pub(super) const HELM: Kind = Kind {
    package_type: PackageType::Helm,
    spec: nothing,
    stock: |upstream| {
        let bytes = tgz();
        put_chart_index(upstream, &bytes, false);
        upstream.put("charts/widget-0.1.0.tgz", bytes.clone());
        Stock {
            index: ("index.yaml", "index.yaml"),
            versions: Versions::Mark("gadget"),
            change: Box::new(|upstream| put_chart_index(upstream, &tgz(), true)),
            way: Vec::new(),
            file: Place::Linked("widget-0.1.0.tgz"),
            file_upstream: "charts/widget-0.1.0.tgz".into(),
            bytes,
            published: true,
            block: "widget-0[.]1[.]0[.]tgz$",
            aliases: Vec::new(),
        }
    },
};

fn release(summary: &str) -> Release {
    let metadata = json!({
        "name": "acme-widget", "version": "1.0.0", "author": "acme", "summary": summary, "license": "Apache-2.0",
        "source": "http://example.test/", "dependencies": [],
    });
    Release { slug: "acme-widget", metadata, archive: tgz() }
}

pub(super) const PUPPET: Kind = Kind {
    package_type: PackageType::Puppet,
    spec: nothing,
    stock: |upstream| {
        let first = release("a widget");
        put_json(upstream, "v3/releases?module=acme-widget", &first.list());
        upstream.put(&first.file_path(), first.archive.clone());
        Stock {
            index: ("v3/releases?module=acme-widget", "v3/releases?module=acme-widget"),
            versions: Versions::Mark("a better widget"),
            change: Box::new(|upstream| {
                put_json(upstream, "v3/releases?module=acme-widget", &release("a better widget").list());
            }),
            way: Vec::new(),
            file: Place::Named(first.file_path()),
            file_upstream: first.file_path(),
            bytes: first.archive,
            published: true,
            block: "^v3/files/acme-widget-",
            aliases: Vec::new(),
        }
    },
};

const ARCHIVE: &str = "terraform-provider-widget_1.2.3_linux_amd64.zip";
const PROVIDER: &str = "v1/providers/acme/widget";

fn provider_versions(second: bool) -> Value {
    let platforms = json!([{ "os": "linux", "arch": "amd64" }]);
    let version = |version: &str| json!({ "version": version, "protocols": ["5.0"], "platforms": platforms });
    let mut versions = vec![version("1.2.3")];
    versions.extend(second.then(|| version("1.3.0")));
    json!({ "versions": versions })
}

pub(super) const TERRAFORM: Kind = Kind {
    package_type: PackageType::Terraform,
    spec: nothing,
    stock: |upstream| {
        let bytes = Bytes::from(zip(&[("terraform-provider-widget_v1.2.3", &noise(FILE_BYTES))]));
        put_json(upstream, ".well-known/terraform.json", &json!({ "providers.v1": "/v1/providers/" }));
        put_json(upstream, &format!("{PROVIDER}/versions"), &provider_versions(false));
        let files = format!("{}releases/", upstream.url());
        let download = json!({
            "protocols": ["5.0"], "os": "linux", "arch": "amd64", "filename": ARCHIVE,
            "download_url": format!("{files}{ARCHIVE}"), "shasums_url": format!("{files}SHA256SUMS"),
            "shasums_signature_url": format!("{files}SHA256SUMS.sig"), "shasum": of_bytes(&bytes),
            "signing_keys": { "gpg_public_keys": [] },
        });
        put_json(upstream, &format!("{PROVIDER}/1.2.3/download/linux/amd64"), &download);
        upstream.put(&format!("releases/{ARCHIVE}"), bytes.clone());
        Stock {
            index: ("v1/providers/acme/widget/versions", "v1/providers/acme/widget/versions"),
            versions: Versions::Mark("1.3.0"),
            change: Box::new(|upstream| {
                put_json(upstream, &format!("{PROVIDER}/versions"), &provider_versions(true));
            }),
            way: vec![format!("{PROVIDER}/1.2.3/download/linux/amd64")],
            file: Place::Named(format!("{PROVIDER}/1.2.3/download/linux/amd64/{ARCHIVE}")),
            file_upstream: format!("releases/{ARCHIVE}"),
            bytes,
            published: true,
            block: "^v1/providers/acme/widget/1[.]2[.]3/download/.*[.]zip$",
            aliases: vec![format!("v1/providers/ACME/Widget/1.2.3/download/linux/amd64/{ARCHIVE}")],
        }
    },
};
