//! `filelists.xml` and `other.xml`: more about the packages that were chosen, found by their checksums.

use std::io::Write;

use quick_xml::{escape::escape, events::Event};

use super::{
    super::xml::attribute,
    Part,
    elements::{self, walk},
    primary::{self, Package},
    repomd::PRIMARY,
};
use crate::{
    IndexError,
    merge::{Seen, copy_from},
};

/// One of the two documents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    pub(super) kind: &'static str,
    pub(super) file: &'static str,
    root: &'static str,
    namespace: &'static str,
}

impl Join {
    /// What files packages have.
    pub(super) const FILELISTS: Join = Join {
        kind: "filelists",
        file: "filelists.xml.gz",
        root: "filelists",
        namespace: "http://linux.duke.edu/metadata/filelists",
    };
    /// What changed in them.
    pub(super) const OTHER: Join = Join {
        kind: "other",
        file: "other.xml.gz",
        root: "otherdata",
        namespace: "http://linux.duke.edu/metadata/other",
    };

    /// Writes the merged document: every chosen package once, whether or not its member says more about it.
    ///
    /// # Errors
    /// [`IndexError`] for broken documents, and those of `out`.
    pub(super) fn write(self, parts: &[Part<'_>], out: &mut dyn Write) -> Result<(), IndexError> {
        let Join { root, namespace, .. } = self;
        let packages: usize = parts.iter().map(|part| part.packages).sum();
        writeln!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{namespace}\" packages=\"{packages}\">"
        )?;
        for part in parts {
            copy_from(part.member, out, |out| self.copy(part, out))?;
        }
        Ok(writeln!(out, "</{root}>")?)
    }

    fn copy(self, part: &Part<'_>, out: &mut dyn Write) -> Result<(), IndexError> {
        let (mut written, mut done) = (0, Seen::default());
        if let Some(mut document) = part.open(self.kind)? {
            let mut is_chosen = false;
            walk(&mut *document, self.root, &mut |level, event| {
                if let (1, Event::Start(tag) | Event::Empty(tag)) = (level, event) {
                    let checksum = attribute(tag, "pkgid")?.unwrap_or_default();
                    let checksum = [checksum.trim()];
                    is_chosen = tag.local_name().as_ref() == "package"
                        && part.checksums.has(&checksum)
                        && done.first(&checksum);
                    written += usize::from(is_chosen);
                }
                if level == 0 || !is_chosen {
                    return Ok(());
                }
                elements::write(out, event)?;
                if let (1, Event::End(_) | Event::Empty(_)) = (level, event) {
                    out.write_all(b"\n")?;
                }
                Ok(())
            })?;
        }
        if written < part.packages {
            self.write_empty(part, &done, out)?;
        }
        Ok(())
    }

    /// Writes the chosen packages that are not `done` as those that have nothing.
    fn write_empty(self, part: &Part<'_>, done: &Seen, out: &mut dyn Write) -> Result<(), IndexError> {
        let Some(mut document) = part.open(PRIMARY)? else { return Ok(()) };
        let mut marks = part.chosen.iter();
        primary::packages(&mut *document, &mut |_| Ok(()), &mut |package| {
            let Package {
                name: Some(name),
                arch: Some(arch),
                checksum: Some(checksum),
                version: Some(version),
                ..
            } = &package
            else {
                return Ok(());
            };
            if !marks.next().is_some_and(|chosen| *chosen) || done.has(&[checksum]) {
                return Ok(());
            }
            let [epoch, version, release] = version;
            let quoted = |text| escape(text);
            writeln!(
                out,
                "<package pkgid=\"{}\" name=\"{}\" arch=\"{}\">\n  <version epoch=\"{}\" ver=\"{}\" rel=\"{}\"/>\n</package>",
                quoted(checksum),
                quoted(name),
                quoted(arch),
                quoted(epoch),
                quoted(version),
                quoted(release)
            )?;
            Ok(())
        })
    }
}
