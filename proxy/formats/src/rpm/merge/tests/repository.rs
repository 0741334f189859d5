//! Repositories of a few made-up packages, as createrepo_c writes them.

use std::io::Write as _;

use artifactapi_model::Digest;
use flate2::{Compression, write::GzEncoder};

use crate::merge::testing::Fake;

pub(super) const REPOMD: &str = "repodata/repomd.xml";

/// A package; two that differ in anything have different checksums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) epoch: &'static str,
    pub(super) version: &'static str,
    pub(super) arch: &'static str,
    /// Who made it.
    pub(super) note: &'static str,
    /// Its location, escaped.
    pub(super) href: Option<&'static str>,
}

pub(super) fn package(name: &'static str, version: &'static str) -> Package {
    Package { name, epoch: "0", version, arch: "x86_64", note: "", href: None }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

impl Package {
    pub(super) fn path(&self) -> String {
        format!("Packages/{}-{}:{}.{}.rpm", self.name, self.epoch.max("0"), self.version, self.arch)
    }

    pub(super) fn checksum(&self) -> String {
        Digest::of(format!("{self:?}").as_bytes()).to_hex()
    }

    fn version(&self) -> String {
        format!("<version epoch='{}' ver='{}' rel=\"\"/>", self.epoch, escaped(self.version))
    }

    fn primary(&self) -> String {
        let href = self.href.map_or_else(|| escaped(&self.path()), str::to_owned);
        format!(
            "<package type=\"rpm\">\n <name>{}</name><!-- a note --><arch>{}</arch>{}\n  \
             <checksum type=\"sha256\" pkgid=\"YES\">{}</checksum><summary>A &lt;b&gt; &amp; &#252; of {}</summary>\
             <size package=\"7\"/><time file=\"1\" build=\"1\"/><location xml:base=\"https://cdn.test/\" href=\"{href}\"></location>\
             <format><rpm:provides><rpm:entry name=\"x\" flags='EQ'/></rpm:provides><location/><![CDATA[<x>]]></format></package>\n",
            escaped(self.name),
            self.arch,
            self.version(),
            self.checksum(),
            self.note,
        )
    }

    fn listed(&self, inner: &str) -> String {
        let (checksum, name) = (self.checksum(), escaped(self.name));
        format!(
            "<package pkgid=\"{checksum}\" name=\"{name}\" arch=\"{}\">{}{inner}</package>\n",
            self.arch,
            self.version()
        )
    }
}

/// A repository.
pub(super) struct Repository {
    pub(super) packages: Vec<Package>,
    pub(super) directory: &'static str,
    pub(super) revision: &'static str,
    pub(super) timestamp: &'static str,
    /// Whether it has `filelists` and `other`.
    pub(super) lists: bool,
    pub(super) more: Vec<(&'static str, String)>,
}

impl Repository {
    pub(super) fn of(packages: &[Package]) -> Self {
        Repository {
            packages: packages.to_vec(),
            directory: "",
            revision: "1700000000",
            timestamp: "1700000001",
            lists: true,
            more: Vec::new(),
        }
    }

    pub(super) fn below(self, directory: &'static str) -> Self {
        Repository { directory, ..self }
    }

    /// Adds metadata of `kind`, or replaces it.
    pub(super) fn with(mut self, kind: &'static str, body: String) -> Self {
        self.more.push((kind, body));
        self
    }

    pub(super) fn document(&self, kind: &str) -> String {
        let namespace = "http://linux.duke.edu/metadata/";
        let count = self.packages.len();
        let each = |of: &dyn Fn(&Package) -> String| self.packages.iter().map(of).collect::<String>();
        match kind {
            "primary" => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata xmlns=\"{namespace}common\" \
                 xmlns:rpm=\"{namespace}rpm\" packages=\"{count}\">{}</metadata>",
                each(&Package::primary)
            ),
            "filelists" => {
                let files =
                    each(&|package| package.listed(&format!("<file>/usr/bin/{}</file>", package.note)));
                format!("<filelists xmlns=\"{namespace}filelists\" packages=\"{count}\">{files}</filelists>")
            }
            _ => {
                let changes = each(&|package| {
                    package
                        .listed(&format!("<changelog author=\"{}\" date=\"1\">x</changelog>", package.note))
                });
                format!("<otherdata xmlns=\"{namespace}other\" packages=\"{count}\">{changes}</otherdata>")
            }
        }
    }

    /// Its files below the root: `primary` packed, the others not.
    pub(super) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let kinds: &[&str] = if self.lists { &["primary", "filelists", "other"] } else { &["primary"] };
        let mut all: Vec<_> = kinds.iter().map(|kind| (*kind, self.document(kind))).collect();
        for (kind, body) in &self.more {
            all.retain(|(known, _)| known != kind);
            all.push((kind, body.clone()));
        }
        let mut repomd = format!(
            "<repomd xmlns=\"http://linux.duke.edu/metadata/repo\">\n<revision>{}</revision>",
            self.revision
        );
        let mut files = Vec::new();
        for (kind, body) in all {
            let (end, stored) = if kind == "primary" {
                ("xml.gz", gzip(body.as_bytes()))
            } else {
                ("xml", body.clone().into_bytes())
            };
            let (digest, open) = (Digest::of(&stored).to_hex(), Digest::of(body.as_bytes()).to_hex());
            let file = format!("repodata/{digest}-{kind}.{end}");
            repomd += &format!(
                "<data type=\"{kind}\"><checksum type=\"sha256\">{digest}</checksum><open-checksum type=\"sha256\">{open}</open-checksum>\
                 <location xml:base=\"https://cdn.test/\" href=\"{file}\"/><timestamp>{}</timestamp><size>{}</size><open-size>{}</open-size></data>",
                self.timestamp,
                stored.len(),
                body.len()
            );
            files.push((file, stored));
        }
        files.push((REPOMD.to_owned(), (repomd + "</repomd>").into_bytes()));
        files
    }

    pub(super) fn member(&self, name: &str) -> Fake {
        let mut member = Fake::new(name, &[]);
        let files = self.files().into_iter();
        member.documents = files.map(|(path, body)| (format!("{}{path}", self.directory), body)).collect();
        member
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
