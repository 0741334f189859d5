//! Merging pages of the simple API, where a Virtual unites files: each is the first member's that names it. Lists of
//! projects are united by the projects' normalised names.
//!
//! A member's page is read in the JSON form in which we serve it; the merged one is written in every form that
//! clients ask for, by the same renderer. What is said about a file stays as its member says it. Files get URLs that
//! name their member, below the page itself, since only a page tells for sure which project a file belongs to. A URL
//! elsewhere stays, and is the client's to follow.
//!
//! - `versions` and `api-version` are claimed as far as every member whose files are taken has the data (PEP 700), and
//!   without versions of which policy hides all files.
//! - The status is the first such member's (PEP 792); what PEP 708 lets one repository say of others is left out, since
//!   it would make clients refuse the merged page for what it is.
//! - `{file}.metadata` is advertised when the member advertises it, and nothing else lies beside a file.
//!
//! Source: PEP 503, 691, 658, 700, 708; protocols of pip 23.2 (`index/collector.py`).

mod head;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Write},
};

use artifactapi_model::{RepoPath, Spelling, path::encode};
use url::Url;

use self::head::{Head, Said};
use super::{
    model::{File, Item, Metadata},
    name::{self, Place},
    page, read,
    render::{Form, Kind, Page},
    wanted,
};
use crate::{
    IndexError, PlanError, Request,
    limits::Allowance,
    link,
    merge::{
        Asked, Claims, Inputs, Marks, Member, Merge, Outlet, Output, Rules, Seen, directory_of,
        entries_of_all, qualified_from_top,
    },
};

/// Asks a member for a page as JSON.
const AS_JSON: &str = "?format=application/vnd.pypi.simple.v1+json";
/// Where members' pages are while they are read: relative URLs lead there, all others elsewhere.
const READ_AT: &str = "http://member.invalid/";
/// What is answered for documents and URLs that speak of one member alone.
const UNLISTED: &str = "here files have the URLs that the merged page of their project names, and a project has no \
     other document than that page";

/// The merge of pages of the simple API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PypiMerge;

impl Merge for PypiMerge {
    fn index_of(&self, path: &RepoPath) -> Option<RepoPath> {
        let page = directory_of(path.as_str()).unwrap_or(path.as_str());
        RepoPath::from_canonical(page).ok().filter(is_page)
    }

    fn asked(&self, path: &RepoPath, request: &Request<'_>) -> Option<Result<Asked, PlanError>> {
        if let Some(index) = self.index_of(path) {
            if *path != index {
                return Some(Ok(Asked::of(index, path.clone())));
            }
            let asked = |form| Asked {
                path: form_path(&index, form),
                is_index: true,
                is_negotiated: true,
                ..Asked::of(index.clone(), index.clone())
            };
            return Some(wanted(request).map(asked));
        }
        let is_unlisted = path.as_str().starts_with(link::PREFIX)
            || directory_of(path.as_str()).is_some()
            || matches!(name::place(path.as_str()), Ok(Place::Page | Place::Api | Place::File { .. }));
        is_unlisted.then_some(Err(PlanError::NotFound(UNLISTED)))
    }

    fn package<'p>(&self, path: &'p RepoPath) -> Option<&'p str> {
        let text = path.as_str();
        match page::subject(path).0 {
            Some(Kind::Projects) => None,
            Some(Kind::Files) => text.trim_end_matches('/').rsplit('/').next(),
            None => Some(text),
        }
    }

    fn needs(&self, path: &RepoPath, _member: &dyn Member) -> Result<Vec<String>, IndexError> {
        Ok(vec![document(path)])
    }

    fn merge(&self, inputs: Inputs<'_>, output: &mut dyn Output) -> Result<(), IndexError> {
        let path = inputs.index;
        let mut merging = Merging::new(path, self.package(path), inputs.rules)?;
        let (mut parts, mut is_there) = (Vec::new(), false);
        inputs.choose_from(&document(path), output, |place, member, page| {
            is_there |= merging.may_have(place);
            let (chosen, listed) = merging.choose(place, member, page)?;
            parts.push(Part { member, chosen });
            Ok(listed)
        })?;
        if !is_there {
            return Ok(());
        }
        for form in Form::ALL {
            let path = form_path(path, form);
            output.put(path.as_str(), form.content_type(), &mut |out| merging.write(&parts, form, out))?;
        }
        Ok(())
    }
}

/// Whether `path` is a page that is merged: those that are directories. Others are named by nothing.
fn is_page(path: &RepoPath) -> bool {
    let text = path.as_str();
    text.ends_with('/') && !text.starts_with(link::PREFIX) && matches!(name::place(text), Ok(Place::Page))
}

/// The path of a member's document for the page at `path`.
fn document(path: &RepoPath) -> String {
    format!("{path}{AS_JSON}")
}

/// Under which path a generation has the page at `path` in one form.
fn form_path(path: &RepoPath, form: Form) -> RepoPath {
    let suffix = match form {
        Form::Text => return path.clone(),
        Form::Html => "-/html",
        Form::Json => "-/json",
    };
    // Too long only where the page's own path nearly is: then it has one form.
    RepoPath::from_canonical(&format!("{path}{suffix}")).unwrap_or_else(|_| path.clone())
}

/// What of a chosen file is there beside it.
#[derive(Clone, Copy)]
struct Beside {
    metadata: bool,
}

/// A member, and which of its items are on the merged page.
struct Part<'m> {
    member: &'m dyn Member,
    chosen: Vec<Option<Beside>>,
}

/// Where a file is.
enum Placed {
    /// At its member: its canonical path there, and in the Virtual.
    At(RepoPath, RepoPath),
    /// Not with us.
    Elsewhere,
}

struct Merging<'a> {
    page: &'a RepoPath,
    /// The project, as far as the path says.
    package: Option<&'a str>,
    url: Url,
    kind: Option<Kind>,
    claims: Claims<'a>,
    entries: Allowance,
    seen: Seen,
    head: Head,
}

impl<'a> Merging<'a> {
    fn new(page: &'a RepoPath, package: Option<&'a str>, rules: &'a dyn Rules) -> Result<Self, IndexError> {
        let url = Url::parse(&format!("{READ_AT}{}", page.encode()))
            .map_err(|error| IndexError::malformed(format!("the path of a page: {error}")))?;
        Ok(Merging {
            page,
            package,
            url,
            kind: page::subject(page).0,
            claims: Claims::new(rules),
            entries: entries_of_all(),
            seen: Seen::default(),
            head: Head::default(),
        })
    }

    fn may_have(&self, place: usize) -> bool {
        self.package.is_none_or(|package| self.claims.may_have(place, package))
    }

    /// Which items of the page of the member at `place` are taken, and the Virtual's paths of the files.
    fn choose(
        &mut self,
        place: usize,
        member: &dyn Member,
        page: &mut dyn BufRead,
    ) -> Result<(Vec<Option<Beside>>, BTreeSet<String>), IndexError> {
        let (mut chosen, mut listed, mut said) = (Vec::new(), BTreeSet::new(), Said::default());
        let url = self.url.clone();
        read::json(&url, page, &mut |item| {
            match item {
                Item::File(file) => chosen.push(self.file(place, member, &file, &mut said, &mut listed)?),
                Item::Project(project) => chosen.push(self.project(place, member, &project)?),
                other => said.hear(other),
            }
            Ok(())
        })?;
        if chosen.iter().any(Option::is_some) {
            self.head.add(said);
        }
        Ok((chosen, listed))
    }

    fn file(
        &mut self,
        place: usize,
        member: &dyn Member,
        file: &File,
        said: &mut Said,
        listed: &mut BTreeSet<String>,
    ) -> Result<Option<Beside>, IndexError> {
        self.entries.take(1)?;
        let Some(placed) = self.placed(member, &file.url) else { return Ok(None) };
        let is_permitted = match &placed {
            Placed::At(own, _) => member.permits(own.as_str()),
            Placed::Elsewhere => true,
        };
        said.note(&file.name, is_permitted);
        if !is_permitted
            || self.kind.is_some_and(|kind| kind != Kind::Files)
            || !self.claims.admit(place, self.package.unwrap_or_default())
            || !self.is_first(file, &placed)
        {
            return Ok(None);
        }
        self.kind = Some(Kind::Files);
        let Placed::At(own, path) = placed else { return Ok(Some(Beside { metadata: true })) };
        let mut beside = Beside { metadata: true };
        if matches!(file.metadata, Metadata::Known(true) | Metadata::Hashed(_)) {
            let path = RepoPath::from_canonical(&format!("{path}.metadata")).ok();
            let path = path.filter(|_| member.permits(&format!("{own}.metadata")));
            beside.metadata = path.is_some();
            listed.extend(path.map(|path| path.as_str().to_owned()));
        }
        listed.insert(path.as_str().to_owned());
        Ok(Some(beside))
    }

    /// Whether nobody before has a file of that name: clients go by the URL's last segment, pages by `filename`.
    fn is_first(&mut self, file: &File, placed: &Placed) -> bool {
        let in_url = match placed {
            Placed::At(own, _) => own.file_name().to_owned(),
            Placed::Elsewhere => last_segment(&file.url),
        };
        let names = [file.name.as_str(), in_url.as_str()];
        let names = if name::distribution(&in_url).is_some() { &names[..] } else { &names[..1] };
        if names.iter().any(|name| self.seen.has(&[name])) {
            return false;
        }
        for name in names {
            self.seen.first(&[name]);
        }
        true
    }

    fn project(
        &mut self,
        place: usize,
        member: &dyn Member,
        project: &str,
    ) -> Result<Option<Beside>, IndexError> {
        self.entries.take(1)?;
        let name = name::normalised(project);
        let is_taken = self.kind.is_none_or(|kind| kind == Kind::Projects)
            && member.permits(&format!("{}{name}/", self.page))
            && self.claims.admit(place, &name)
            && self.seen.first(&[&name]);
        if is_taken {
            self.kind = Some(Kind::Projects);
        }
        Ok(is_taken.then_some(Beside { metadata: true }))
    }

    /// Where the file at `url` of `member` is; `None` where no request could lead to it.
    fn placed(&self, member: &dyn Member, url: &Url) -> Option<Placed> {
        if url.origin() != self.url.origin() {
            return matches!(url.scheme(), "http" | "https").then_some(Placed::Elsewhere);
        }
        let raw = url.path().strip_prefix('/').filter(|_| url.query().is_none())?;
        let own = RepoPath::parse(raw, Spelling::Plain).ok().filter(|own| !own.file_name().is_empty())?;
        let path = qualified_from_top(self.page.as_str(), member.name(), own.as_str());
        Some(Placed::At(own, RepoPath::from_canonical(&path).ok()?))
    }

    /// The URL of a chosen file on the merged page.
    fn reference(&self, member: &dyn Member, file: &File) -> Option<String> {
        Some(match self.placed(member, &file.url)? {
            Placed::At(_, path) => encode(path.as_str().strip_prefix(self.page.as_str())?),
            Placed::Elsewhere => file.url.to_string(),
        })
    }

    fn write(&self, parts: &[Part<'_>], form: Form, out: &mut dyn Write) -> Result<(), IndexError> {
        let mut out = io::BufWriter::with_capacity(64 << 10, out);
        let mut outlet = Outlet::new(&mut out);
        let mut reading = None;
        let written = self.fill(parts, form, &mut outlet, &mut reading);
        match reading {
            Some(member) => outlet.copied(member, written)?,
            None => written?,
        }
        Ok(out.flush()?)
    }

    /// Writes the page; `reading` is the member that is being read.
    fn fill<'m>(
        &self,
        parts: &[Part<'m>],
        form: Form,
        out: &mut dyn Write,
        reading: &mut Option<&'m dyn Member>,
    ) -> Result<(), IndexError> {
        let mut page = Page::new(out, form, self.kind, page::subject(self.page).1);
        for item in self.head.items() {
            page.item(item, None)?;
        }
        for part in parts {
            *reading = Some(part.member);
            self.copy(part, &mut page)?;
        }
        *reading = None;
        page.end()
    }

    fn copy(&self, part: &Part<'_>, page: &mut Page<'_>) -> Result<(), IndexError> {
        let mut document = part.member.open_again(&document(self.page))?;
        let mut chosen = Marks::of(&part.chosen);
        read::json(&self.url, &mut *document, &mut |item| {
            if !matches!(item, Item::File(_) | Item::Project(_)) {
                return Ok(());
            }
            let Some(beside) = chosen.next()? else { return Ok(()) };
            match item {
                Item::File(mut file) => {
                    if !beside.metadata {
                        file.metadata = Metadata::Unsaid;
                    }
                    // A signature lies beside the file under a name that no page lists.
                    file.gpg_sig = None;
                    let reference = self.reference(part.member, &file);
                    page.item(Item::File(file), reference)
                }
                other => page.item(other, None),
            }
        })?;
        chosen.end()
    }
}

/// The file name that a client takes from `url`.
fn last_segment(url: &Url) -> String {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    RepoPath::parse(last, Spelling::Plain).map_or_else(|_| last.to_owned(), |path| path.as_str().to_owned())
}
