//! The directory form of observations: where the operator of a standalone pod writes manifests, it and the proxy leave
//! three more files for each other. Each file is written as a whole and replaced in one step, by one of the two only.
//!
//! The proxy writes only where the operator has written: a directory of manifests that a person keeps stays as it is.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use artifactapi_model::{RepoName, observation::Observation};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Written by the proxy. No manifest: its name begins with a dot.
pub const OBSERVATIONS: &str = ".observations.json";
/// Written by the operator.
pub const PROBES: &str = ".probes.json";
/// Written by the operator, empty, once everything it knew of at its start has become manifests.
pub const COMPLETE: &str = ".complete";
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 32 << 20;

/// What the proxy has seen of the upstream of one Remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Namespace of the Remote.
    pub namespace: String,
    /// Its name.
    pub name: RepoName,
    /// What is known, of the `baseURL` in service.
    pub observation: Observation,
}

/// A probe that the operator asks for. It stays in the file; the proxy makes it once for every new token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Namespace of the Remote.
    pub namespace: String,
    /// Its name.
    pub name: RepoName,
    /// What the request is called; the observation names it when it is done.
    pub token: String,
}

/// The files of one directory.
#[derive(Clone, Debug)]
pub struct Exchange {
    dir: PathBuf,
}

impl Exchange {
    /// Those in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Exchange { dir }
    }

    /// What the proxy has told; nothing before it has.
    ///
    /// # Errors
    /// When the file cannot be read or is none of ours.
    pub fn told(&self) -> io::Result<Vec<Told>> {
        Ok(read(&self.dir.join(OBSERVATIONS))?.unwrap_or_default())
    }

    /// What the operator asks for; `None` where there is no operator.
    ///
    /// # Errors
    /// When the file cannot be read or is none of ours.
    pub fn asked(&self) -> io::Result<Option<Vec<Asked>>> {
        read(&self.dir.join(PROBES))
    }

    /// Whether the manifests are all there: a directory in memory begins empty, and what is missing in it is not yet
    /// gone.
    pub fn is_complete(&self) -> bool {
        self.dir.join(COMPLETE).exists()
    }

    /// Says that the manifests are all there.
    ///
    /// # Errors
    /// When nothing can be written.
    pub fn complete(&self) -> io::Result<()> {
        File::create(self.dir.join(COMPLETE)).map(drop)
    }

    /// Tells the operator.
    ///
    /// # Errors
    /// When the file cannot be replaced; it is then what it was.
    pub fn tell(&self, told: &[Told]) -> io::Result<()> {
        replace(&self.dir.join(OBSERVATIONS), told)
    }

    /// Asks the proxy for exactly these probes.
    ///
    /// # Errors
    /// When the file cannot be replaced; it is then what it was.
    pub fn ask(&self, asked: &[Asked]) -> io::Result<()> {
        replace(&self.dir.join(PROBES), asked)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE => {
            return Err(io::Error::other(format!(
                "{} is larger than {} MiB",
                path.display(),
                MAX_FILE >> 20
            )));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    serde_json::from_slice(&fs::read(path)?).map(Some).map_err(io::Error::from)
}

fn replace(path: &Path, content: &(impl Serialize + ?Sized)) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use artifactapi_model::{Timestamp, observation::Track};

    use super::*;

    #[test]
    fn what_is_left_is_found_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let exchange = Exchange::new(dir.path().into());
        assert_eq!(exchange.told().unwrap(), []);
        assert_eq!(exchange.asked().unwrap(), None, "a person's directory");
        assert!(!exchange.is_complete());
        exchange.ask(&[]).unwrap();
        assert_eq!(exchange.asked().unwrap(), Some(vec![]));
        let name: RepoName = "r".parse().unwrap();
        let asked = Asked { namespace: "ns".into(), name: name.clone(), token: "t".into() };
        exchange.ask(std::slice::from_ref(&asked)).unwrap();
        assert_eq!(exchange.asked().unwrap(), Some(vec![asked]));
        let upstream = Track { good: Some(Timestamp(5)), bad: None };
        let observation = Observation { upstream, ..Observation::default() };
        let told = Told { namespace: "ns".into(), name, observation };
        exchange.tell(std::slice::from_ref(&told)).unwrap();
        assert_eq!(exchange.told().unwrap(), [told]);
        let files: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files.len(), 2, "{files:?}");
        exchange.complete().unwrap();
        assert!(exchange.is_complete());
        fs::write(dir.path().join(PROBES), "[{").unwrap();
        assert!(exchange.asked().is_err());
    }
}
