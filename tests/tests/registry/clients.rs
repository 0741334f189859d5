//! The ecosystems' own clients push through the balancer, so that each of their requests may meet another replica,
//! and get back what they pushed.

mod daemons;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifactapi_tests::{Missing, client, fingerprint, fixtures::oci};
use tempfile::TempDir;

use crate::{Ending, subject::Subject};

pub(crate) use daemons::{ctr, docker};
pub(crate) use tools::{buildah, crane, helm, podman, regctl, skopeo};

/// Where one client works, and what it pushes to.
struct Site {
    home: TempDir,
    /// `host:port`.
    host: String,
    /// `host:port/…` of an image that only this client pushes to.
    image: String,
    /// Digest of the index in `multi`.
    index: String,
}

impl Site {
    /// With an image for two architectures in the directory `multi`; says who takes part.
    async fn new(subject: &Subject, program: &str, version: &[&str]) -> Result<Self, Missing> {
        let said = client::version(program, version).await?;
        let home = TempDir::new().map_err(|e| Missing(e.to_string()))?;
        let index = oci::layout(&home.path().join("multi")).await?;
        let host = subject.host();
        println!("\nclient: {program} {said} (docker, pushing)");
        let image = format!("{host}/{}clients/{program}", subject.prefix());
        Ok(Site { home, host, image, index })
    }

    fn dir(&self) -> &Path {
        self.home.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn reference(&self, tag: &str) -> String {
        format!("{}:{tag}", self.image)
    }

    /// Content of a small file that a client wrote.
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default().trim().to_owned()
    }

    /// Holds that the layout `name` has the blobs of the one that was pushed, and no others.
    fn assert_same_blobs(&self, name: &str) {
        let blobs = |name: &str| {
            let dir = self.path(name).join("blobs/sha256");
            fingerprint::of_dir(&dir, |_| false).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        };
        assert_eq!(blobs(name), blobs("multi"), "what came back is what was pushed");
    }
}

/// Holds that a client succeeded.
fn done<T>(result: Result<T, String>, subject: &Subject) -> T {
    result.unwrap_or_else(|text| {
        let logs = subject.logs();
        let from = logs.len().saturating_sub(3000);
        let from = (from..logs.len()).find(|at| logs.is_char_boundary(*at)).unwrap_or(logs.len());
        panic!("{text}\n--- the registry's log:\n{}", &logs[from..])
    })
}
