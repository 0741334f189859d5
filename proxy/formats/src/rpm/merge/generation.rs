//! Writing the files of a generation and the `repomd.xml` that names them.

use std::io::{self, BufWriter, Write};

use artifactapi_model::RepoPath;

use super::Part;
use crate::{
    IndexError,
    merge::{Measured, Output, Signer, Written, gzip},
};

/// How a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Gzip,
    Plain,
}

/// A file that `repomd.xml` names.
struct Data {
    kind: &'static str,
    /// Below the root.
    file: String,
    stored: Written,
    /// What it inflates to.
    opened: Option<Written>,
}

/// A generation being written.
pub(super) struct Writing<'a> {
    root: &'a str,
    output: &'a mut dyn Output,
    data: Vec<Data>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(root: &'a str, output: &'a mut dyn Output) -> Self {
        Writing { root, output, data: Vec::new() }
    }

    /// Writes the file of `kind`, whose name is its checksum and `name`.
    ///
    /// # Errors
    /// Those of `content` and of the output.
    pub(super) fn data(
        &mut self,
        kind: &'static str,
        name: &str,
        form: Form,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut opened = None;
        let stored = self.output.file(&mut |out| {
            if form == Form::Plain {
                return content(out);
            }
            let mut packed = gzip(out);
            // Content comes in tags and words, and each write costs the packer.
            let mut buffered = BufWriter::with_capacity(64 << 10, Measured::new(&mut packed));
            content(&mut buffered)?;
            let measured = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
            opened = Some(measured.finish());
            packed.finish()?;
            Ok(())
        })?;
        let file = format!("repodata/{}-{name}", stored.digest.to_hex());
        let content_type = if form == Form::Plain { "text/xml" } else { "application/gzip" };
        self.output.publish(format!("{}{file}", self.root), content_type);
        self.data.push(Data { kind, file, stored, opened });
        Ok(())
    }

    /// Writes the index at `path`, and its signature where repositories are signed.
    ///
    /// # Errors
    /// Those of the output and of `signer`.
    pub(super) fn repomd(
        self,
        path: &RepoPath,
        parts: &[Part<'_>],
        signer: &dyn Signer,
    ) -> Result<(), IndexError> {
        let latest = parts.iter().map(|part| part.repomd.latest).max().unwrap_or(0);
        let document = self.index(latest);
        self.output.put(path.as_str(), "text/xml", &mut |out| Ok(out.write_all(document.as_bytes())?))?;
        let signature = signer.openpgp(document.as_bytes()).map_err(IndexError::Signing)?;
        let Some(signature) = signature else { return Ok(()) };
        self.output.put(format!("{path}.asc"), "application/pgp-signature", &mut |out| {
            Ok(out.write_all(signature.as_bytes())?)
        })
    }

    fn index(&self, latest: u64) -> String {
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <repomd xmlns=\"http://linux.duke.edu/metadata/repo\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\">\n  \
             <revision>{latest}</revision>\n"
        );
        for Data { kind, file, stored, opened } in &self.data {
            text += &format!(
                "  <data type=\"{kind}\">\n    <checksum type=\"sha256\">{}</checksum>\n",
                stored.digest.to_hex()
            );
            if let Some(opened) = opened {
                text += &format!(
                    "    <open-checksum type=\"sha256\">{}</open-checksum>\n",
                    opened.digest.to_hex()
                );
            }
            text += &format!(
                "    <location href=\"{file}\"/>\n    <timestamp>{latest}</timestamp>\n    <size>{}</size>\n",
                stored.size
            );
            if let Some(opened) = opened {
                text += &format!("    <open-size>{}</open-size>\n", opened.size);
            }
            text += "  </data>\n";
        }
        text + "</repomd>\n"
    }
}
