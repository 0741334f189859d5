//! Merging the releases of a module, where a Virtual unites versions: each is the first member's that has it.
//!
//! One generation holds what is asked about a module as a whole: the list of its releases, newest first on a single
//! page, since places in the lists of several members cannot be kept apart by one `offset`; and the module, with that
//! list's releases. A single release and its archive are the member's that has the release. Everything else about the
//! module is the first such member's.
//!
//! Members are always asked the same, whatever a client wants left out of its answer; what only filters a list is
//! refused, since an unfiltered answer would be a wrong one. A search over modules is none of this: it would tell
//! members what is looked for.
//!
//! Source: puppetlabs/puppet `lib/puppet/forge.rb`; puppetlabs/forge-ruby `v3/module.rb`, `v3/release.rb`.

mod read;
#[cfg(test)]
mod tests;

use std::io::Write;

use artifactapi_model::RepoPath;

use self::read::Release;
use super::{module, paths::is_filter};
use crate::{
    IndexError, PlanError, Request,
    json::{Fields, Object, array, quoted},
    limits::Allowance,
    merge::{Asked, Claims, Inputs, Member, Merge, Order, Output, Rules, Seen, entries_of_all, of_member},
};

/// What names the list of a module's releases: its canonical path and query.
const LIST: &str = "v3/releases?module=";
/// What members are asked for, behind [`LIST`] and the module: as much as a page may hold, without texts that no client
/// needs to install something.
const PAGE: &str = "&limit=100&sort_by=version&exclude_fields=readme,changelog,license,reference";
/// Behind the list's name, what lies behind its only page.
const REST: &str = "&offset";
/// Largest sum of the releases of a merged list, in bytes.
const MAX_KEPT: usize = 64 << 20;
const JSON: &str = "application/json";

/// The merge of a module's releases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PuppetMerge;

impl Merge for PuppetMerge {
    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        list_of(&module(path.as_str(), "")?)
    }

    fn asked(&self, path: &RepoPath, request: &Request<'_>) -> Option<Result<Asked, PlanError>> {
        let module = module(path.as_str(), request.query)?;
        let index = list_of(&module)?;
        if path.as_str().trim_end_matches('/') == "v3/releases" {
            return Some(page_of(&index, request.query));
        }
        let path = RepoPath::from_canonical(path.as_str().trim_end_matches('/')).ok()?;
        let is_index = path.as_str().starts_with("v3/modules/");
        Some(Ok(Asked { is_index, ..Asked::of(index, path) }))
    }

    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        path.as_str().strip_prefix(LIST)
    }

    fn needs(&self, path: &RepoPath, member: &dyn Member) -> Result<Vec<String>, IndexError> {
        let module = module_of_list(path)?;
        let about = about(module);
        // Whose patterns leave the module out is not told of it.
        if !member.permits(&about) {
            return Ok(Vec::new());
        }
        let (mut pages, next) = pages(module, member)?;
        pages.extend(next);
        pages.push(about);
        Ok(pages)
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let path = inputs.index;
        let module = module_of_list(path)?;
        let mut merging = Merging::new(module, inputs.rules);
        for (place, member) in inputs.members.iter().copied().enumerate() {
            let listed = merging.add(place, member).map_err(of_member(member))?;
            output.list_all(place, listed)?;
        }
        if !merging.is_there {
            return Ok(());
        }
        merging.chosen.sort_by(|a, b| b.order.cmp(&a.order));
        output.put(path.as_str(), JSON, &mut |out| merging.write_list(0, out))?;
        // What a client that counts for itself finds behind it.
        let end = merging.chosen.len();
        output.put(format!("{path}{REST}"), JSON, &mut |out| merging.write_list(end, out))?;
        match &merging.fields {
            Some(fields) => output.put(about(module), JSON, &mut |out| merging.write_module(fields, out)),
            None => Ok(()),
        }
    }
}

fn list_of(module: &str) -> Option<RepoPath> {
    RepoPath::from_canonical(&format!("{LIST}{module}")).ok()
}

fn module_of_list(path: &RepoPath) -> Result<&str, IndexError> {
    let no_list = || IndexError::malformed(format!("{path} is no list of releases"));
    path.as_str().strip_prefix(LIST).ok_or_else(no_list)
}

/// The path of the module's own document.
fn about(module: &str) -> String {
    format!("v3/modules/{module}")
}

/// Which page of the list at `index` the raw `query` asks for.
fn page_of(index: &RepoPath, query: &str) -> Result<Asked, PlanError> {
    let mut offset = 0;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if is_filter(&name) {
            return Err(PlanError::NotFound(
                "the lists of several members are not filtered: ask for the module's releases without filters",
            ));
        }
        if name == "offset" {
            offset = value.parse::<u64>().map_err(|_| PlanError::Query("offset"))?;
        }
    }
    if offset == 0 {
        return Ok(Asked::of(index.clone(), index.clone()));
    }
    let rest = RepoPath::from_canonical(&format!("{index}{REST}"))?;
    Ok(Asked { is_index: true, ..Asked::of(index.clone(), rest) })
}

/// The pages of `member`'s list that are at hand, in their order, and the one that is wanted next.
fn pages(module: &str, member: &dyn Member) -> Result<(Vec<String>, Option<String>), IndexError> {
    let (mut pages, mut next) = (Vec::new(), Some(format!("{LIST}{module}{PAGE}")));
    while let Some(page) = next.take() {
        let Some(mut document) = member.open(&page)? else { return Ok((pages, Some(page))) };
        let following = read::list(&mut *document, &mut |_| Ok(()))?;
        pages.push(page);
        next = following.and_then(|uri| own_page(module, &uri)).filter(|next| !pages.contains(next));
    }
    Ok((pages, None))
}

/// The page that `pagination.next` names, as we ask for it; `None` for one that is not of this list.
fn own_page(module: &str, uri: &str) -> Option<String> {
    let (path, query) = uri.trim_start_matches('/').split_once('?')?;
    let is_own = path.trim_end_matches('/') == "v3/releases" && self::module(path, query)? == module;
    is_own.then(|| format!("v3/releases?{query}"))
}

/// A release of the merged list.
struct Chosen {
    order: Order,
    json: Vec<u8>,
    brief: String,
}

struct Merging<'a> {
    module: &'a str,
    claims: Claims<'a>,
    entries: Allowance,
    seen: Seen,
    /// Bytes of them that may still come.
    left: Allowance,
    chosen: Vec<Chosen>,
    /// What is about the module as a whole.
    fields: Option<Fields>,
    /// Whether some member has a list, be it empty.
    is_there: bool,
}

impl<'a> Merging<'a> {
    fn new(module: &'a str, rules: &'a dyn Rules) -> Self {
        Merging {
            module,
            claims: Claims::new(rules),
            entries: entries_of_all(),
            seen: Seen::default(),
            left: Allowance::of(MAX_KEPT, "size of the merged list of releases"),
            chosen: Vec::new(),
            fields: None,
            is_there: false,
        }
    }

    /// Adds what the member at `place` has; the paths of releases and archives that are its own.
    fn add(&mut self, place: usize, member: &dyn Member) -> Result<Vec<String>, IndexError> {
        let (pages, next) = pages(self.module, member)?;
        if pages.is_empty() {
            return Ok(Vec::new());
        }
        if next.is_some() {
            return Err(IndexError::malformed("a page of the list of releases is missing"));
        }
        self.is_there |= self.claims.may_have(place, self.module);
        let mut listed = Vec::new();
        for page in pages {
            let Some(mut document) = member.open(&page)? else { continue };
            read::list(&mut *document, &mut |json| {
                listed.extend(self.take(place, member, json)?.into_iter().flatten());
                Ok(())
            })?;
        }
        if self.fields.is_none()
            && !listed.is_empty()
            && let Some(mut document) = member.open(&about(self.module))?
        {
            self.fields = Some(read::module(&mut *document)?);
        }
        Ok(listed)
    }

    /// Takes a release, unless it is somebody else's or hidden: the paths of its document and archive.
    fn take(
        &mut self,
        place: usize,
        member: &dyn Member,
        json: Vec<u8>,
    ) -> Result<Option<[String; 2]>, IndexError> {
        self.entries.take(1)?;
        let release = Release::parse(&json)?;
        let Some((version, paths)) = release.advertised(self.module) else { return Ok(None) };
        if !paths.iter().all(|path| member.permits(path))
            || !self.claims.admit(place, self.module)
            || !self.seen.first(&[version])
        {
            return Ok(None);
        }
        let chosen = Chosen { order: Order::of(version), brief: release.brief(), json };
        self.left.take(chosen.json.len() + chosen.brief.len())?;
        self.chosen.push(chosen);
        Ok(Some(paths))
    }

    /// The list from `offset` on: `pagination` says that there is one page.
    fn write_list(&self, offset: usize, out: &mut dyn Write) -> Result<(), IndexError> {
        let (first, total) = (quoted(&format!("/{LIST}{}", self.module)), self.chosen.len());
        write!(
            out,
            "{{\"pagination\":{{\"limit\":{},\"offset\":{offset},\"first\":{first},\"previous\":null,\
             \"current\":{first},\"next\":null,\"total\":{total}}},\"results\":",
            total.max(1)
        )?;
        array(out, self.chosen.iter().skip(offset).map(|chosen| &chosen.json[..]))?;
        Ok(out.write_all(b"}")?)
    }

    /// The module, with the newest release (a preview only where there is nothing else) and all releases in brief.
    fn write_module(&self, fields: &Fields, out: &mut dyn Write) -> Result<(), IndexError> {
        let mut module = Object::begin(out)?;
        fields.write(&mut module)?;
        let newest = self.chosen.iter().find(|chosen| chosen.order.is_release()).or(self.chosen.first());
        module.key("current_release")?.write_all(newest.map_or(&b"null"[..], |chosen| &chosen.json))?;
        array(module.key("releases")?, self.chosen.iter().map(|chosen| chosen.brief.as_bytes()))?;
        Ok(module.end()?)
    }
}
