//! `primary.xml`: which packages there are.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
};

use quick_xml::{
    escape::escape,
    events::{BytesStart, Event},
};

use super::{
    super::xml::attribute,
    Part,
    elements::{self, gather, walk},
    repomd::PRIMARY,
};
use crate::{
    IndexError,
    limits::Allowance,
    merge::{Claims, Rules, Seen, changed, copy_from, entries_of_all, qualified},
    reference::below,
};

const ROOT: &str = "metadata";
/// Longest name, version, architecture or checksum, in bytes.
const MAX_TEXT: usize = 1024;
/// Most namespaces that members may bring.
const MAX_NAMESPACES: usize = 16;

/// A package as far as a merge looks at it.
#[derive(Debug, Default)]
pub(super) struct Package {
    pub(super) name: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) checksum: Option<String>,
    /// Epoch, version, release.
    pub(super) version: Option<[String; 3]>,
    href: Option<String>,
}

/// Hands every package of a member's primary to `visit`.
///
/// # Errors
/// [`IndexError`] for a package without identity, and as [`walk`].
pub(super) fn packages(
    input: &mut dyn BufRead,
    root: &mut dyn FnMut(&BytesStart<'_>) -> Result<(), IndexError>,
    visit: &mut dyn FnMut(Package) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let (mut package, mut text) = (None::<Package>, String::new());
    walk(input, ROOT, &mut |level, event| {
        match event {
            Event::Start(tag) | Event::Empty(tag) if level == 0 => root(tag)?,
            Event::Start(tag) | Event::Empty(tag) if level == 1 => {
                package = (tag.local_name().as_ref() == "package").then(Package::default);
                if package.is_some() && matches!(event, Event::Empty(_)) {
                    return Err(IndexError::malformed("a package has no name"));
                }
            }
            Event::Start(tag) | Event::Empty(tag) if level == 2 => {
                text.clear();
                if let Some(package) = &mut package {
                    package.open(tag)?;
                }
            }
            Event::End(tag) if level == 2 => {
                if let Some(package) = &mut package {
                    package.close(tag.local_name().as_ref(), &text)?;
                }
                text.clear();
            }
            Event::End(_) if level == 1 => {
                if let Some(package) = package.take() {
                    visit(package.checked()?)?;
                }
            }
            // A description is as long as it likes; those that are kept are short.
            event if level == 2 && text.len() <= MAX_TEXT => gather(&mut text, event, usize::MAX)?,
            _ => {}
        }
        Ok(())
    })
}

impl Package {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), IndexError> {
        match tag.local_name().as_ref() {
            "version" => {
                let part = |name| Ok::<_, IndexError>(attribute(tag, name)?.unwrap_or_default());
                let epoch = part("epoch")?;
                let epoch = if epoch.is_empty() { "0".to_owned() } else { epoch };
                once(&mut self.version, [epoch, part("ver")?, part("rel")?])
            }
            "location" => once(&mut self.href, attribute(tag, "href")?.unwrap_or_default()),
            _ => Ok(()),
        }
    }

    fn close(&mut self, tag: &str, text: &str) -> Result<(), IndexError> {
        let field = match tag {
            "name" => &mut self.name,
            "arch" => &mut self.arch,
            "checksum" => &mut self.checksum,
            _ => return Ok(()),
        };
        if text.len() > MAX_TEXT {
            return Err(IndexError::TooLarge("length of a package's name"));
        }
        // libsolv refuses a whole repository for one checksum that is not bare digits.
        if tag == "checksum" && !is_checksum(text) {
            return Err(IndexError::malformed("a package's checksum is no row of hex digits"));
        }
        once(field, text.trim().to_owned())
    }

    fn checked(self) -> Result<Self, IndexError> {
        let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let is_whole = has(&self.name)
            && has(&self.arch)
            && has(&self.checksum)
            && has(&self.href)
            && self.version.as_ref().is_some_and(|[_, version, _]| !version.is_empty());
        if is_whole {
            Ok(self)
        } else {
            Err(IndexError::malformed("a package lacks a name, architecture, version, checksum or location"))
        }
    }

    /// The identity of which a merged repository has one.
    fn nevra(&self) -> [&str; 5] {
        let [epoch, version, release] = self.version.as_ref().map_or([""; 3], |[e, v, r]| [e, v, r]);
        let [name, arch] = [&self.name, &self.arch].map(|text| text.as_deref().unwrap_or_default());
        [name, epoch, version, release, arch]
    }
}

fn is_checksum(text: &str) -> bool {
    matches!(text.len(), 32 | 40 | 56 | 64 | 96 | 128) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), IndexError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(IndexError::malformed(
            "a package has a name, architecture, version, checksum or location twice",
        )),
    }
}

/// Chooses packages, member by member.
pub(super) struct Choice<'a> {
    root: &'a str,
    claims: Claims<'a>,
    entries: Allowance,
    nevras: Seen,
    paths: Seen,
    /// Prefix → name of the namespaces that the members' elements are in.
    namespaces: BTreeMap<String, String>,
    packages: usize,
}

impl<'a> Choice<'a> {
    pub(super) fn new(root: &'a str, rules: &'a dyn Rules) -> Self {
        let namespaces = [("xmlns", "common"), ("xmlns:rpm", "rpm")];
        let namespaces = namespaces
            .map(|(prefix, name)| (prefix.to_owned(), format!("http://linux.duke.edu/metadata/{name}")));
        Choice {
            root,
            claims: Claims::new(rules),
            entries: entries_of_all(),
            nevras: Seen::default(),
            paths: Seen::default(),
            namespaces: namespaces.into(),
            packages: 0,
        }
    }

    /// Marks the packages of `part` that are advertised; the Virtual's paths of those.
    ///
    /// # Errors
    /// [`IndexError`] for a broken document.
    pub(super) fn choose(&mut self, part: &mut Part<'_>) -> Result<Vec<String>, IndexError> {
        let (mut chosen, mut checksums, mut listed) = (Vec::new(), Seen::default(), Vec::new());
        let Some(mut document) = part.open(PRIMARY)? else { return Ok(listed) };
        let (member, namespaces) = (part.member, &mut self.namespaces);
        packages(&mut *document, &mut |root| note_namespaces(namespaces, root), &mut |package| {
            self.entries.take(1)?;
            // Outside of the repository, or elsewhere: nobody could have it from us.
            let path =
                package.href.as_deref().and_then(|href| below(self.root, href)).map(|below| below.path);
            let name = package.name.as_deref().unwrap_or_default();
            let checksum = package.checksum.as_deref().unwrap_or_default();
            let listing = path
                .filter(|path| member.permits(path.as_str()))
                .and_then(|path| qualified(self.root, member.name(), path.as_str()))
                .filter(|_| self.claims.admit(part.place, name))
                .filter(|path| self.nevras.first(&package.nevra()) && self.paths.first(&[path]))
                .filter(|_| checksums.first(&[checksum]));
            chosen.push(listing.is_some());
            listed.extend(listing);
            Ok(())
        })?;
        drop(document);
        self.packages += listed.len();
        part.packages = listed.len();
        part.chosen = chosen;
        part.checksums = checksums;
        Ok(listed)
    }

    /// Writes the merged primary.
    ///
    /// # Errors
    /// [`IndexError`], as those of choosing, and those of `out`.
    pub(super) fn write(&self, parts: &[Part<'_>], out: &mut dyn Write) -> Result<(), IndexError> {
        write!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{ROOT}")?;
        for (prefix, name) in &self.namespaces {
            write!(out, " {prefix}=\"{}\"", escape(name.as_str()))?;
        }
        writeln!(out, " packages=\"{}\">", self.packages)?;
        for part in parts {
            copy_from(part.member, out, |out| self.copy(part, out))?;
        }
        Ok(writeln!(out, "</{ROOT}>")?)
    }

    fn copy(&self, part: &Part<'_>, out: &mut dyn Write) -> Result<(), IndexError> {
        let Some(mut document) = part.open(PRIMARY)? else { return Ok(()) };
        let mut marks = part.chosen.iter();
        let (mut is_chosen, mut in_location) = (false, false);
        walk(&mut *document, ROOT, &mut |level, event| {
            if let (1, Event::Start(tag)) = (level, event) {
                let is_package = tag.local_name().as_ref() == "package";
                is_chosen = is_package && marks.next().is_some_and(|chosen| *chosen);
            }
            if level == 0 || !is_chosen {
                return Ok(());
            }
            match event {
                Event::Start(tag) | Event::Empty(tag)
                    if level == 2 && tag.local_name().as_ref() == "location" =>
                {
                    in_location = matches!(event, Event::Start(_));
                    let reference = below(self.root, &attribute(tag, "href")?.unwrap_or_default());
                    let location = reference.and_then(|below| part.location(&below.reference));
                    let location = location.ok_or_else(changed)?;
                    write!(out, "<location href=\"{}\"/>", escape(location.as_str()))?;
                }
                Event::End(_) if level == 2 && in_location => in_location = false,
                Event::End(_) if level == 1 => {
                    is_chosen = false;
                    elements::write(out, event)?;
                    out.write_all(b"\n")?;
                }
                _ if in_location => {}
                event => elements::write(out, event)?,
            }
            Ok(())
        })
    }
}

/// Notes the namespaces of a root, which its elements need around them.
fn note_namespaces(known: &mut BTreeMap<String, String>, root: &BytesStart<'_>) -> Result<(), IndexError> {
    for found in root.attributes().flatten() {
        let prefix = found.key.as_ref();
        if prefix != "xmlns" && !prefix.starts_with("xmlns:") {
            continue;
        }
        let name = attribute(root, prefix)?.unwrap_or_default();
        if *known.entry(prefix.to_owned()).or_insert_with(|| name.clone()) != name {
            return Err(IndexError::malformed(format!(
                "{prefix} means something else than in other members"
            )));
        }
    }
    if known.len() > MAX_NAMESPACES { Err(IndexError::TooLarge("number of namespaces")) } else { Ok(()) }
}
