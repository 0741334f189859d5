//! The `pypi` package type: the simple repository API, in JSON and HTML, and the files it names.
//!
//! Upstream is always asked for JSON first, whatever the client wants, so that a page has one stored body.
//! Either form is read into one model per file and written again in the form the client asked for: what
//! clients get is built from parsed items only, never from upstream's markup (RS-56). URLs in pages are
//! relative, so one derived page serves every host name.
//!
//! Besides `simple/`, every other directory path counts as a page too, since some upstreams keep their
//! pages elsewhere (`whl/cpu/torch/`); only below `simple/` are names normalised.
//!
//! Sources: PEP 503, 592, 629, 658, 691, 700, 708, 714, 792; pip 23.2 (`index/collector.py`,
//! `models/link.py`).

mod api;
mod html;
pub(crate) mod merge;
mod model;
mod name;
mod page;
mod read;
mod render;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};

use artifactapi_model::{Mutability, PackageType, repository::RemoteSpec};
use percent_encoding::percent_decode_str;

use self::{name::Place, render::Form};
use crate::{
    Answer, Fact, IndexError, IndexRef, LinkSigner, Magic, PackageFormat, Plan, PlanError, Representation,
    Request, Resource, RewriteContext, Source, negotiate, placement::linked_file,
};

/// The `pypi` package type.
#[derive(Clone, Copy, Debug)]
pub struct Pypi;

/// What upstream is asked for; the same for every client.
const UPSTREAM_ACCEPT: &str = "application/vnd.pypi.simple.v1+json, \
     application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// The JSON API outside the simple one, with our URLs.
const API: Representation = Representation("api");

impl PackageFormat for Pypi {
    fn package_type(&self) -> PackageType {
        PackageType::Pypi
    }

    fn probe(&self) -> &'static str {
        "simple/"
    }

    fn plan(
        &self,
        request: &Request<'_>,
        remote: &RemoteSpec,
        links: &LinkSigner,
    ) -> Result<Plan, PlanError> {
        let path = request.read_path()?;
        if let Some(file) = links.open(remote, &path)? {
            return Ok(linked_file(file).into());
        }
        let resource = match name::place(path.as_str())? {
            Place::Moved(to) if request.query.is_empty() => return Ok(Plan::Answer(Answer::Moved(to))),
            Place::Moved(to) => return Ok(Plan::Answer(Answer::Moved(format!("{to}?{}", request.query)))),
            Place::Page => Resource {
                representation: Some(Representation(wanted(request)?.name())),
                accept: Some(UPSTREAM_ACCEPT),
                ..Resource::index(path)
            },
            Place::Api => Resource {
                representation: Some(API),
                accept: Some("application/json"),
                magic: Some(Magic::Json),
                ..Resource::index(path)
            },
            Place::File { original } => Resource {
                magic: if original == path.file_name() { Magic::of_name(original) } else { None },
                indexes: name::pages_of(path.parent(), original).into_iter().map(IndexRef::held).collect(),
                ..Resource::file(path.clone(), Mutability::Immutable)
            },
            Place::Unknown => Resource::file(path, Mutability::Mutable),
        };
        Ok(resource.into())
    }

    fn version(&self) -> u32 {
        2
    }

    fn rewrite(
        &self,
        resource: &Resource,
        source: &Source<'_>,
        cx: &RewriteContext<'_>,
        input: &mut dyn BufRead,
        output: &mut dyn Write,
    ) -> Result<String, IndexError> {
        if resource.representation == Some(API) {
            api::rewrite(source, cx, input, output)?;
            return Ok("application/json".to_owned());
        }
        let name = resource.representation.map_or("", |representation| representation.0);
        let form = Form::ALL.into_iter().find(|form| form.name() == name).unwrap_or(Form::Text);
        page::rewrite(form, source, cx, input, output)?;
        Ok(form.content_type().to_owned())
    }

    fn read_facts(
        &self,
        source: &Source<'_>,
        remote: &RemoteSpec,
        input: &mut dyn BufRead,
        sink: &mut dyn FnMut(Fact),
    ) -> Result<(), IndexError> {
        match name::place(source.path.as_str()) {
            Ok(Place::Page) => page::facts(source, remote, input, sink),
            Ok(Place::Api) => api::facts(source, remote, input, sink),
            _ => Ok(()),
        }
    }
}

/// The project whose page or document is at canonical `path`, and the path of its page.
pub(crate) fn project(path: &str) -> Option<(String, String)> {
    let segments: Vec<&str> = path.split('/').collect();
    let simple = segments.iter().position(|segment| matches!(*segment, "simple" | "+simple"));
    let (at, of_pages) = match (simple, segments[0]) {
        // Also of a project that is called "simple".
        _ if matches!(name::place(path), Ok(Place::Api)) => (0, false),
        (Some(at), _) => (at, true),
        (None, "pypi" | "project" | "integrity") => (0, false),
        _ => return None,
    };
    let project = segments.get(at + 1).filter(|project| !project.is_empty())?;
    // A file that lies among the pages says itself whose it is.
    let file = segments.last().filter(|_| segments.len() > at + 2).and_then(|file| name::distribution(file));
    if name::distribution(project).is_some() || (of_pages && file.is_some()) {
        return None;
    }
    let name = name::normalised(project);
    let pages = if of_pages { segments[..=at].join("/") } else { "simple".to_owned() };
    Some((name.clone(), format!("{pages}/{name}/")))
}

/// The name that canonical `path` speaks of where it is no [`project`]'s by its form: an index may lie anywhere, and its
/// last segment is a project as likely as not.
pub(crate) fn last_name(path: &str) -> String {
    let page = path.strip_suffix("index.html").unwrap_or(path).trim_end_matches('/');
    name::normalised(page.rsplit('/').next().unwrap_or_default())
}

/// `name` as PEP 503 normalises it.
pub(crate) fn normalised(name: &str) -> String {
    name::normalised(name)
}

/// Projects that the file at canonical `path` may belong to, likeliest first; none when it is no distribution.
pub(crate) fn projects(path: &str) -> Vec<String> {
    let file = path.rsplit('/').next().unwrap_or_default();
    name::distribution(file).map(name::projects_of).unwrap_or_default()
}

/// The form a client wants: `?format=` before `Accept`. Where nothing of ours is acceptable, or all of it
/// equally, the answer is `text/html`, which every client ever made understands.
fn wanted(request: &Request<'_>) -> Result<Form, PlanError> {
    for parameter in request.query.split('&') {
        if let Some(value) = parameter.strip_prefix("format=") {
            let value = percent_decode_str(value).decode_utf8_lossy().to_ascii_lowercase();
            // A plus sign that a client did not escape, read as a space by its own URL library.
            let value = value.replace(' ', "+");
            return Form::ALL
                .into_iter()
                .find(|form| form.media_types().contains(&value.as_str()))
                .ok_or(PlanError::Query("format"));
        }
    }
    let rate = |form: Form| {
        let ratings = form.media_types().iter().filter_map(|media| negotiate::rate(request.accept, media));
        ratings.filter(|rating| rating.quality > 0).max()
    };
    let mut best = (rate(Form::Text), Form::Text);
    for form in [Form::Html, Form::Json] {
        let rating = rate(form);
        // Equally welcome by a wildcard only: the older form stays.
        if rating > best.0 || (rating == best.0 && rating.is_some_and(|rating| rating.exactness == 2)) {
            best = (rating, form);
        }
    }
    Ok(best.1)
}
