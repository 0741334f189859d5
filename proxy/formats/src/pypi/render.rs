//! Writing a page in one of its forms, item by item.
//!
//! What the head says comes last in JSON, where order does not matter and all is known by then: so the
//! version claimed is one that every file lives up to. HTML has its head first and says there what it has
//! learned before the first item.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::{
    model::{File, Hashes, Item, Metadata},
    name::normalised,
};
use crate::{IndexError, json::Commas, limits::Allowance};

/// A form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// PEP 691 JSON.
    Json,
    /// PEP 691's name for HTML.
    Html,
    /// The same HTML under its old name.
    Text,
}

impl Form {
    pub(super) const ALL: [Form; 3] = [Form::Json, Form::Html, Form::Text];

    /// Its name among representations.
    pub(super) fn name(self) -> &'static str {
        match self {
            Form::Json => "json",
            Form::Html => "html",
            Form::Text => "text",
        }
    }

    /// What clients may call it.
    pub(super) fn media_types(self) -> &'static [&'static str] {
        match self {
            Form::Json => &["application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json"],
            Form::Html => &["application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.latest+html"],
            Form::Text => &["text/html"],
        }
    }

    /// What we call it: the concrete version, never `latest`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/vnd.pypi.simple.v1+json",
            Form::Html => "application/vnd.pypi.simple.v1+html",
            Form::Text => "text/html; charset=utf-8",
        }
    }
}

/// What a page lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Files,
    Projects,
}

/// A page being written.
pub(super) struct Page<'o> {
    out: &'o mut dyn Write,
    form: Form,
    /// What it lists; `None` until the path or the first item says so.
    kind: Option<Kind>,
    project: String,
    begun: bool,
    /// What stands before the next item in JSON.
    commas: Commas,
    /// How many may still come.
    left: Allowance,
    minor: u32,
    sized: bool,
    head: Map<String, Value>,
    tracks: Vec<String>,
}

impl<'o> Page<'o> {
    /// A page about `project` (its normalised name; empty for a list of projects).
    pub(super) fn new(out: &'o mut dyn Write, form: Form, kind: Option<Kind>, project: String) -> Self {
        Page {
            out,
            form,
            kind,
            project,
            begun: false,
            commas: Commas::default(),
            left: Allowance::of_entries("number of files"),
            minor: 0,
            sized: true,
            head: Map::new(),
            tracks: Vec::new(),
        }
    }

    /// Writes `item`; a file's URL is `reference`, without which a file is left out.
    pub(super) fn item(&mut self, item: Item, reference: Option<String>) -> Result<(), IndexError> {
        match item {
            Item::Minor(minor) => self.minor = minor,
            Item::Versions(versions) => {
                self.head.insert("versions".into(), versions.into());
            }
            Item::Status { status, reason } => {
                let mut value = json!({ "status": status });
                if let Some(reason) = reason {
                    value["reason"] = reason.into();
                }
                self.head.insert("project-status".into(), value);
            }
            Item::Tracks(tracks) => self.tracks = tracks,
            Item::AlternateLocations(locations) => {
                self.head.insert("alternate-locations".into(), locations.into());
            }
            Item::File(file) => {
                if let Some(reference) = reference
                    && self.begin(Kind::Files)?
                {
                    self.sized &= file.size.is_some();
                    match self.form {
                        Form::Json => self.json_item(&json_file(&file, &reference))?,
                        Form::Html | Form::Text => html_file(self.out, &file, &reference)?,
                    }
                }
            }
            Item::Project(name) => {
                if is_displayable(&name) && self.begin(Kind::Projects)? {
                    match self.form {
                        Form::Json => self.json_item(&json!({ "name": name }))?,
                        Form::Html | Form::Text => {
                            let href = format!("{}/", artifactapi_model::path::encode(&normalised(&name)));
                            writeln!(self.out, "<a href=\"{}\">{}</a><br>", escaped(&href), escaped(&name))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins the page when nothing is written yet; false when items of this kind do not belong on it.
    fn begin(&mut self, kind: Kind) -> Result<bool, IndexError> {
        let kind_of_page = *self.kind.get_or_insert(kind);
        if kind_of_page != kind {
            return Ok(false);
        }
        if !self.begun {
            self.begun = true;
            match (self.form, kind) {
                (Form::Json, Kind::Files) => self.out.write_all(b"{\"files\":[")?,
                (Form::Json, Kind::Projects) => self.out.write_all(b"{\"projects\":[")?,
                (Form::Html | Form::Text, _) => self.html_head()?,
            }
        }
        self.left.take(1)?;
        Ok(true)
    }

    fn json_item(&mut self, value: &Value) -> Result<(), IndexError> {
        Ok(write!(self.out, "{}{value}", self.commas.next())?)
    }

    fn html_head(&mut self) -> Result<(), IndexError> {
        self.out.write_all(b"<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n")?;
        let status = &self.head.get("project-status").cloned().unwrap_or_default();
        // Only a status needs a version above 1.0 in HTML.
        let minor = if status.is_object() { self.minor } else { 0 };
        self.meta("repository-version", &format!("1.{minor}"))?;
        for (name, key) in [("project-status", "status"), ("project-status-reason", "reason")] {
            if let Some(text) = status.get(key).and_then(Value::as_str) {
                self.meta(name, text)?;
            }
        }
        for track in std::mem::take(&mut self.tracks) {
            self.meta("tracks", &track)?;
        }
        let locations = self.head.remove("alternate-locations").unwrap_or_default();
        for location in locations.as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.meta("alternate-locations", location)?;
        }
        let title = if self.project.is_empty() { "Simple index" } else { &self.project };
        let title = escaped(title);
        Ok(writeln!(self.out, "<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>")?)
    }

    fn meta(&mut self, name: &str, content: &str) -> Result<(), IndexError> {
        Ok(writeln!(self.out, "<meta name=\"pypi:{name}\" content=\"{}\">", escaped(content))?)
    }

    /// Ends the page.
    pub(super) fn end(mut self) -> Result<(), IndexError> {
        if !self.begun {
            let kind = self.kind.unwrap_or(Kind::Files);
            self.begin(kind)?;
        }
        if self.form != Form::Json {
            return Ok(self.out.write_all(b"</body>\n</html>\n")?);
        }
        let is_list = self.kind == Some(Kind::Projects);
        // PEP 700: from 1.1 on, every file has its size and the page its versions.
        let complete = is_list || (self.sized && self.head.contains_key("versions"));
        let mut meta = json!({ "api-version": format!("1.{}", if complete { self.minor } else { 0 }) });
        if !self.tracks.is_empty() {
            meta["tracks"] = self.tracks.into();
        }
        self.head.insert("meta".into(), meta);
        if !is_list {
            self.head.insert("name".into(), self.project.into());
        }
        // The members of the head, without its opening brace: it continues an object.
        let head = Value::Object(self.head).to_string();
        Ok(write!(self.out, "],{}", &head[1..])?)
    }
}

fn is_displayable(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | '%'))
}

fn json_file(file: &File, reference: &str) -> Value {
    let mut value = json!({ "filename": file.name, "url": reference, "hashes": file.hashes });
    let mut put = |key: &str, field: Option<Value>| {
        if let Some(field) = field {
            value[key] = field;
        }
    };
    put("size", file.size.map(Value::from));
    put("upload-time", file.upload_time.clone().map(Value::from));
    put("requires-python", file.requires_python.clone().map(Value::from));
    put("gpg-sig", file.gpg_sig.map(Value::from));
    put("yanked", file.yanked.clone().map(|why| if why.is_empty() { true.into() } else { why.into() }));
    let metadata = match &file.metadata {
        Metadata::Unsaid => None,
        Metadata::Known(known) => Some(Value::from(*known)),
        Metadata::Hashed(hashes) => Some(json!(hashes)),
    };
    // The second key is PyPI's own; `dist-info-metadata` makes pip 22.3 to 23.1 fail (PEP 714).
    put("data-dist-info-metadata", metadata.clone());
    put("core-metadata", metadata);
    value
}

fn html_file(out: &mut dyn Write, file: &File, reference: &str) -> Result<(), IndexError> {
    let fragment = preferred(&file.hashes).map(|hash| format!("#{hash}")).unwrap_or_default();
    write!(out, "<a href=\"{}\"", escaped(&format!("{reference}{fragment}")))?;
    let mut attribute = |name: &str, value: Option<&str>| match value {
        Some(value) => write!(out, " data-{name}=\"{}\"", escaped(value)),
        None => Ok(()),
    };
    attribute("requires-python", file.requires_python.as_deref())?;
    attribute("yanked", file.yanked.as_deref())?;
    attribute("gpg-sig", file.gpg_sig.map(|has| if has { "true" } else { "false" }))?;
    let metadata = match &file.metadata {
        Metadata::Unsaid | Metadata::Known(false) => None,
        Metadata::Known(true) => Some("true".to_owned()),
        Metadata::Hashed(hashes) => Some(preferred(hashes).unwrap_or_else(|| "true".to_owned())),
    };
    attribute("core-metadata", metadata.as_deref())?;
    attribute("dist-info-metadata", metadata.as_deref())?;
    Ok(writeln!(out, ">{}</a><br>", escaped(&file.name))?)
}

/// The one hash that HTML has room for: what pip looks for first.
fn preferred(hashes: &Hashes) -> Option<String> {
    ["sha256", "sha512", "sha384", "sha224", "sha1", "md5"]
        .into_iter()
        .find_map(|name| hashes.get(name).map(|digits| format!("{name}={digits}")))
}

/// Text as it may stand in an element or a quoted attribute; control characters become spaces.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
