//! The conformance suite of the OCI distribution specification, as a judge that accepts nothing but "Pass".
//!
//! The suite ends with success when a registry does not support something; so its `results.yaml` is read, and
//! every API and every kind of data in it must have passed.

use std::{fmt, fs, path::Path};

use crate::{Missing, Run, client::find};

/// Program of the suite.
const PROGRAM: &str = "conformance";
/// Kinds of data that are not asked for: an index may name manifests that are not there (protocols 3.4).
const NOT_ASKED: [&str; 1] = ["Sparse Manifests"];

/// What the suite is run with.
#[derive(Clone, Debug)]
pub struct Suite {
    variables: Vec<(String, String)>,
}

/// What the suite says of one registry.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Each API with its status.
    pub apis: Vec<(String, String)>,
    /// Each kind of data with its status.
    pub data: Vec<(String, String)>,
    /// What the suite printed.
    pub told: String,
}

impl Suite {
    /// Of `version` (`1.1` or `dev`) of the specification against the images `images` of the registry at `host`,
    /// with everything on.
    pub fn new(host: &str, images: [&str; 2], version: &str) -> Self {
        let fixed = [
            ("OCI_REGISTRY", host),
            ("OCI_TLS", "disabled"),
            ("OCI_REPO1", images[0]),
            ("OCI_REPO2", images[1]),
            ("OCI_VERSION", version),
        ];
        let on = [
            "OCI_API_BLOBS_MOUNT_ANONYMOUS",
            "OCI_API_BLOBS_UPLOAD_CANCEL",
            "OCI_API_BLOBS_DIGEST_HEADER",
            "OCI_API_MANIFESTS_DIGEST_HEADER",
            "OCI_API_MANIFESTS_TAG_PARAM",
        ];
        let on = on.map(|name| (name, "true"));
        let variables = fixed.into_iter().chain(on).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Suite { variables: variables.collect() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only reads, what is in the registry already: tags, manifests, blobs, and manifests that others are about.
    /// Digest headers of manifests are not asked for: the suite looks for them in an answer that it has not kept.
    #[must_use]
    pub fn read_only(self, tags: &[&str], manifests: &[&str], blobs: &[&str], subjects: &[&str]) -> Self {
        let off = [
            "OCI_API_PUSH",
            "OCI_API_BLOBS_DELETE",
            "OCI_API_MANIFESTS_DELETE",
            "OCI_API_TAGS_DELETE",
            "OCI_API_BLOBS_MOUNT_ANONYMOUS",
            "OCI_API_BLOBS_UPLOAD_CANCEL",
            "OCI_API_MANIFESTS_TAG_PARAM",
            "OCI_API_MANIFESTS_DIGEST_HEADER",
        ];
        let suite = off.into_iter().fold(self, |suite, name| suite.set(name, "false"));
        let lists = [
            ("OCI_RO_DATA_TAGS", tags),
            ("OCI_RO_DATA_MANIFESTS", manifests),
            ("OCI_RO_DATA_BLOBS", blobs),
            ("OCI_RO_DATA_REFERRERS", subjects),
        ];
        lists.into_iter().fold(suite, |suite, (name, list)| suite.set(name, &list.join(" ")))
    }

    /// Runs it in the empty directory `dir`.
    ///
    /// # Errors
    /// [`Missing`] when the suite is not installed or leaves no results.
    pub async fn run(&self, dir: &Path) -> Result<Verdict, Missing> {
        find(PROGRAM)?;
        let set = |run: Run, (name, value): &(String, String)| run.env(name, value);
        let run = self.variables.iter().fold(Run::new(PROGRAM, dir), set).env("OCI_RESULTS_DIR", dir);
        // Its exit code says less than its results.
        let told = match run.ok().await {
            Ok(output) => output.out,
            Err(text) => text,
        };
        let results = fs::read_to_string(dir.join("results.yaml"));
        let results = results.map_err(|e| Missing(format!("the suite left no results ({e}): {told}")))?;
        let (apis, data) = (section(&results, "apis"), section(&results, "data"));
        if apis.is_empty() {
            // It dies of writing its results when it only reads; its report has come before that.
            let (apis, data) = (printed(&told, "API conformance:"), printed(&told, "Data conformance:"));
            return Ok(Verdict { apis, data, told });
        }
        Ok(Verdict { apis, data, told })
    }
}

/// The lines `  name: status` below `name:` at the beginning of a line.
fn section(results: &str, name: &str) -> Vec<(String, String)> {
    let heading = format!("{name}:");
    let lines = results.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| line.starts_with(' '));
    let pair = |line: &str| {
        let (key, value) = line.trim().rsplit_once(": ")?;
        Some((key.trim_matches(['"', '\'']).to_owned(), value.trim_matches(['"', '\'']).to_owned()))
    };
    lines.filter_map(pair).collect()
}

/// The lines `  name.....: status` below `heading`.
fn printed(told: &str, heading: &str) -> Vec<(String, String)> {
    let lines = told.lines().skip_while(|line| *line != heading).skip(1);
    let pair = |line: &str| {
        let (key, value) = line.trim().rsplit_once(':')?;
        Some((key.trim_end_matches('.').to_owned(), value.trim().to_owned()))
    };
    lines.take_while(|line| line.starts_with(' ')).filter_map(pair).collect()
}

impl Verdict {
    fn all(&self) -> impl Iterator<Item = &(String, String)> {
        let asked = |(name, _): &&(String, String)| !NOT_ASKED.contains(&name.as_str());
        self.apis.iter().chain(self.data.iter().filter(asked))
    }

    /// What did not pass.
    pub fn failed(&self) -> Vec<&(String, String)> {
        self.all().filter(|(_, status)| status != "Pass").collect()
    }

    /// What failed or broke, leaving out what was switched off, is not supported, or was not tried.
    pub fn wrong(&self) -> Vec<&(String, String)> {
        let left_out = ["Disabled", "Skip", "Unknown"];
        self.failed().into_iter().filter(|(_, status)| !left_out.contains(&status.as_str())).collect()
    }

    /// Holds that every API and every kind of data has passed.
    ///
    /// # Panics
    /// When one has not, or there are none.
    pub fn assert_all_passed(&self) {
        let failed = self.failed();
        assert!(failed.is_empty() && !self.apis.is_empty(), "did not pass: {failed:?}\n{}", self.told);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = |list: &[(String, String)]| list.iter().filter(|(_, status)| status == "Pass").count();
        write!(
            f,
            "{} of {} APIs and {} of {} kinds of data pass",
            passed(&self.apis),
            self.apis.len(),
            passed(&self.data),
            self.data.len()
        )?;
        let rest: Vec<_> = self.failed().iter().map(|(name, status)| format!("{name}: {status}")).collect();
        if rest.is_empty() { Ok(()) } else { write!(f, "; not: {}", rest.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, printed, section};

    #[test]
    fn a_printed_report_is_read_where_there_are_no_results() {
        let told = "Test results\n\nAPI conformance:\n  Tag listing....:       Pass\n  Blob get.......:       FAIL\n\n\
                    Data conformance:\n  Image..........:   Disabled\n";
        let pair = |name: &str, status: &str| (name.to_owned(), status.to_owned());
        assert_eq!(
            printed(told, "API conformance:"),
            [pair("Tag listing", "Pass"), pair("Blob get", "FAIL")]
        );
        assert_eq!(printed(told, "Data conformance:"), [pair("Image", "Disabled")]);
    }

    #[test]
    fn only_a_pass_passes() {
        let results = "config:\n  registry: x\n  apis:\n    ping: true\napis:\n  \"Tag listing\": Pass\n  Blob cancel: Skip\n\
                       data:\n  Image: Pass\n  Sparse Manifests: Disabled\n";
        let mut verdict =
            Verdict { apis: section(results, "apis"), data: section(results, "data"), told: String::new() };
        assert_eq!(verdict.apis.len() + verdict.data.len(), 4, "{verdict:?}");
        assert_eq!(verdict.failed(), [&("Blob cancel".to_owned(), "Skip".to_owned())]);
        assert!(verdict.wrong().is_empty());
        assert!(std::panic::catch_unwind(|| verdict.assert_all_passed()).is_err());
        assert!(verdict.to_string().ends_with("; not: Blob cancel: Skip"), "{verdict}");
        verdict.apis.pop();
        verdict.assert_all_passed();
        verdict.apis.clear();
        assert!(std::panic::catch_unwind(|| verdict.assert_all_passed()).is_err(), "nothing was tested");
    }
}
