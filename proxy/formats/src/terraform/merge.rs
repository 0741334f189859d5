//! Merging the versions of a provider, where a Virtual unites versions: each is the first member's that has it, with
//! all its platforms, since one signed `SHA256SUMS` speaks of them all.
//!
//! Both faces are decided by the members' versions documents. On the registry face the merged document is one of the
//! same kind, and a version's download document and files are its member's. On the mirror face it is `index.json`, of
//! members with the same origin host only; `{version}.json` and the archives are the member's.
//!
//! A version without a platform that policy shows is not the member's; one with fewer shows fewer. What else the
//! registry's document says is the first such member's. On the mirror face only archives count, since its clients take
//! nothing else.
//!
//! Source: opentofu/opentofu `website/docs/internals/{provider-registry-protocol,provider-network-mirror-protocol}.mdx`.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashSet},
    io::{BufRead, Write},
};

use artifactapi_model::RepoPath;
use serde_json::{Map, Value};

use super::{
    JSON,
    documents::Version,
    is_mirrored, is_shown,
    mirror::{self, MAX_VERSION},
    mirrored,
    route::{Package, Provider, Route, is_version},
};
use crate::{
    IndexError, PlanError, Request,
    document::text,
    json::{self, Fields, Object, array},
    limits::Allowance,
    merge::{Asked, Claims, Inputs, Member, Merge, Output, Rules, Seen, entries_of_all},
};

/// Largest sum of the versions of a merged document, and of what it says besides, in bytes.
const MAX_KEPT: usize = 64 << 20;
const MAX_FIELDS: usize = 1 << 20;

/// The merge of a provider's versions, on either face.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TerraformMerge;

impl Merge for TerraformMerge {
    fn version(&self) -> u32 {
        2
    }

    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        asked(path).map(|asked| asked.index)
    }

    fn asked(&self, path: &RepoPath, _request: &Request<'_>) -> Option<Result<Asked, PlanError>> {
        asked(path).map(Ok)
    }

    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        let text = path.as_str();
        let of_registry = text.strip_prefix("v1/providers/").and_then(|rest| rest.strip_suffix("/versions"));
        of_registry.or_else(|| text.strip_suffix("/index.json"))
    }

    fn needs(&self, path: &RepoPath, member: &dyn Member) -> Result<Vec<String>, IndexError> {
        let Index { provider, hostname } = Index::of(path)?;
        let mut documents = vec![path.as_str().to_owned()];
        // A member with another host has no such index; the versions document knows nothing of hosts.
        if hostname.is_some() && member.open(path.as_str())?.is_some() {
            documents.push(provider.versions());
        }
        Ok(documents)
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let path = inputs.index;
        let index = Index::of(path)?;
        let mut merging = Merging::new(&index, self.package(path).unwrap_or_default(), inputs.rules);
        inputs.choose_from(&index.provider.versions(), output, |place, member, document| {
            // Members with another host have the registry's document all the same.
            match member.open(path.as_str())? {
                Some(_) => merging.add(place, member, document),
                None => Ok(BTreeSet::new()),
            }
        })?;
        if merging.chosen.is_empty() {
            return Ok(());
        }
        output.put(path.as_str(), JSON, &mut |out| merging.write(out))
    }
}

/// What a path asks for.
fn asked(path: &RepoPath) -> Option<Asked> {
    let canonical = |text: String| RepoPath::from_canonical(&text).ok();
    let route = Route::parse(path.as_str()).ok()?;
    Some(match route {
        Route::Discovery => return None,
        Route::Versions(provider) => {
            let index = canonical(provider.versions())?;
            Asked::of(index.clone(), index)
        }
        Route::Download(package) => {
            Asked::of(canonical(package.provider.versions())?, canonical(package.download())?)
        }
        Route::File(package, file) => {
            let (index, path) = (canonical(package.provider.versions())?, canonical(package.file(&file))?);
            Asked { beside: Some(package.download()), ..Asked::of(index, path) }
        }
        Route::MirrorIndex { hostname, provider } => {
            let index = canonical(mirrored(&hostname, &provider).1)?;
            Asked::of(index.clone(), index)
        }
        Route::MirrorVersion { hostname, provider, version } => {
            let (name, index) = mirrored(&hostname, &provider);
            Asked::of(canonical(index)?, canonical(format!("{name}/{version}.json"))?)
        }
        Route::MirrorFile { hostname, package, file } => {
            let (name, index) = mirrored(&hostname, &package.provider);
            let Package { version, os, arch, .. } = &package;
            let path = format!("{name}/{version}/download/{os}/{arch}/{}", file.name());
            let beside = Some(format!("{name}/{version}.json"));
            Asked { beside, ..Asked::of(canonical(index)?, canonical(path)?) }
        }
    })
}

/// A merged document.
struct Index {
    provider: Provider,
    /// On the mirror face, the host of the provider's address.
    hostname: Option<String>,
}

impl Index {
    fn of(path: &RepoPath) -> Result<Self, IndexError> {
        match Route::parse(path.as_str()) {
            Ok(Route::Versions(provider)) => Ok(Index { provider, hostname: None }),
            Ok(Route::MirrorIndex { hostname, provider }) => Ok(Index { provider, hostname: Some(hostname) }),
            _ => Err(IndexError::malformed(format!("{path} is no list of a provider's versions"))),
        }
    }
}

/// A version of the merged document.
struct Chosen {
    version: String,
    json: Vec<u8>,
}

struct Merging<'a> {
    index: &'a Index,
    name: &'a str,
    claims: Claims<'a>,
    entries: Allowance,
    seen: Seen,
    /// Bytes of them that may still come.
    left: Allowance,
    chosen: Vec<Chosen>,
    /// What the document says besides its versions, as it is written.
    fields: Option<Fields>,
}

impl<'a> Merging<'a> {
    fn new(index: &'a Index, name: &'a str, rules: &'a dyn Rules) -> Self {
        Merging {
            index,
            name,
            claims: Claims::new(rules),
            entries: entries_of_all(),
            seen: Seen::default(),
            left: Allowance::of(MAX_KEPT, "size of the merged list of versions"),
            chosen: Vec::new(),
            fields: None,
        }
    }

    /// Adds the versions document of the member at `place`; the Virtual's paths that are the member's own.
    fn add(
        &mut self,
        place: usize,
        member: &dyn Member,
        document: &mut dyn BufRead,
    ) -> Result<BTreeSet<String>, IndexError> {
        let mut listed = BTreeSet::new();
        let fields = read(document, &mut |json| {
            self.entries.take(1)?;
            self.take(place, member, json, &mut listed)
        })?;
        if !listed.is_empty() {
            self.fields.get_or_insert(fields);
        }
        Ok(listed)
    }

    fn take(
        &mut self,
        place: usize,
        member: &dyn Member,
        json: Vec<u8>,
        listed: &mut BTreeSet<String>,
    ) -> Result<(), IndexError> {
        let text = text(&json)?;
        let Version { version, platforms } = json::parse(text.as_bytes())?;
        if !is_version(&version) {
            return Ok(());
        }
        let (mut met, permits) = (HashSet::new(), |path: &str| member.permits(path));
        let is_shown = if self.index.hostname.is_some() { is_mirrored } else { is_shown };
        let mut packages = Vec::new();
        let shown: Vec<bool> = platforms
            .unwrap_or_default()
            .iter()
            .map(|platform| {
                let package =
                    Package::of(self.index.provider.clone(), &version, &platform.os, &platform.arch)
                        .filter(|package| is_shown(package, &permits) && met.insert(package.download()));
                let is_shown = package.is_some();
                packages.extend(package);
                is_shown
            })
            .collect();
        // On the mirror face a version is one document of its own.
        let mirror = self
            .index
            .hostname
            .as_ref()
            .map(|hostname| format!("{}/{version}.json", mirrored(hostname, &self.index.provider).0));
        if packages.is_empty()
            || mirror.as_ref().is_some_and(|path| !member.permits(path))
            || !self.claims.admit(place, self.name)
            || !self.seen.first(&[&version])
        {
            return Ok(());
        }
        match mirror {
            None => listed.extend(packages.iter().map(Package::download)),
            Some(path) => listed.extend([path]),
        }
        let json = if shown.iter().all(|shown| *shown) { json } else { with_platforms(text, &shown)? };
        self.left.take(version.len() + json.len())?;
        self.chosen.push(Chosen { version, json });
        Ok(())
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), IndexError> {
        if self.index.hostname.is_some() {
            return mirror::write_index(out, |versions| {
                self.chosen
                    .iter()
                    .try_for_each(|chosen| Ok(versions.key(&chosen.version)?.write_all(b"{}")?))
            });
        }
        let mut document = Object::begin(out)?;
        if let Some(fields) = &self.fields {
            fields.write(&mut document)?;
        }
        array(document.key("versions")?, self.chosen.iter().map(|chosen| &chosen.json[..]))?;
        Ok(document.end()?)
    }
}

/// The version as it is written, with only the platforms that are `shown`.
fn with_platforms(text: &str, shown: &[bool]) -> Result<Vec<u8>, IndexError> {
    let mut version: Map<String, Value> = json::parse(text.as_bytes())?;
    if let Some(platforms) = version.get_mut("platforms").and_then(Value::as_array_mut) {
        let mut shown = shown.iter();
        platforms.retain(|_| shown.next().is_some_and(|shown| *shown));
    }
    Ok(Value::Object(version).to_string().into_bytes())
}

/// Receives a version as it is written.
type Sink<'s> = dyn FnMut(Vec<u8>) -> Result<(), IndexError> + 's;

/// Hands each version of a document to `sink`; what else it says.
fn read(document: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<Fields, IndexError> {
    let mut fields = Fields::within(Allowance::of(MAX_FIELDS, "size of what is about a whole provider"));
    let mut has_versions = false;
    json::distinct(document, |reader, out, key| {
        if key != "versions" {
            return fields.take(key, reader, MAX_VERSION);
        }
        has_versions = true;
        reader.array(out, |reader, _| sink(reader.raw(MAX_VERSION)?))
    })?;
    if has_versions { Ok(fields) } else { Err(IndexError::malformed("it has no \"versions\"")) }
}
