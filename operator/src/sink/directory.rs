//! A directory of manifests, for a standalone proxy in the same pod, which loads it again whenever it changes.
//!
//! Each object is a file of its own that is replaced whole, so that the proxy never reads half of one; those with
//! secrets can be read by their owner only. A change of several files is seen in an order in which every moment is
//! sound: what is named comes before what names it, and a name is given up before it is taken. Whose object it is stands
//! in an annotation. The hidden file [`STATE`] has epoch and version; it is written last, so that a change that was
//! broken off is found and made again. An object that no file can be made for is refused, and costs no other.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use artifactapi_crds::manifests::ObjectRef;
use artifactapi_model::Digest;
use artifactapi_stores::{
    exchange::Exchange,
    postgres::{Declared, Written},
};
use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Contents, Delta, Row, Sink, SinkError, StoredRow, digest_of};
use crate::seen::{custom_kind, known_kind};

/// Name of the file with epoch and version.
pub const STATE: &str = ".operator.json";
/// Held while something is written.
const LOCK: &str = ".operator.lock";
/// Where a file is written before it takes its name.
const DRAFT: &str = ".operator.draft";
/// Longest name of a file, in bytes.
const NAME_MAX: usize = 255;
/// Annotation that says whose object it is.
const OWNER: &str = "artifactapi.io/owner";

/// The sink.
pub struct DirectorySink {
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct State {
    epoch: i64,
    version: i64,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] io::Error),
    /// Every other object may be written.
    #[error("{0} cannot be a file: {1}")]
    Object(ObjectRef, io::Error),
}

impl Failure {
    fn of(object: &ObjectRef, error: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, InvalidFilename, InvalidInput, IsADirectory};
        match error.kind() {
            InvalidData | InvalidFilename | InvalidInput | IsADirectory => {
                Failure::Object(object.clone(), error)
            }
            _ => Failure::Directory(error),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    uid: String,
    generation: Option<i64>,
}

impl DirectorySink {
    /// Writes to `directory`.
    ///
    /// # Errors
    /// The operating system's when it cannot be made.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(DirectorySink { directory })
    }

    /// Does `work` alone, away from the runtime.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, SinkError> {
        let directory = self.directory.clone();
        let place = self.directory.display().to_string();
        let alone = move || {
            let lock = File::create(directory.join(LOCK))?;
            lock.lock()?;
            work(&directory)
        };
        let done = tokio::task::spawn_blocking(alone)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error).into()));
        done.map_err(|failure| match failure {
            Failure::Directory(error) => {
                SinkError::Unavailable(format!("the directory {place} cannot be used: {error}"))
            }
            Failure::Object(..) => SinkError::Refused(failure.to_string()),
        })
    }
}

fn state(directory: &Path) -> io::Result<State> {
    match fs::read(directory.join(STATE)) {
        // One that is damaged is like none: everything is looked at and written anew.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error),
    }
}

fn put_state(directory: &Path, state: State) -> io::Result<()> {
    put(directory, STATE, json!(state).to_string().as_bytes(), 0o644)
}

/// Gives a file its contents, all at once and for good.
fn put(directory: &Path, name: &str, contents: &[u8], mode: u32) -> io::Result<()> {
    let draft = directory.join(DRAFT);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&draft, directory.join(name))
}

fn remove(directory: &Path, object: &ObjectRef) -> Result<(), Failure> {
    match fs::remove_file(directory.join(name_of(object))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::of(object, error)),
        _ => Ok(()),
    }
}

/// A dot separates, and no namespace has one. Where the name of the object is too long for one of a file, its digest
/// stands there, after a sign that no object has in its name.
fn name_of(object: &ObjectRef) -> String {
    let place = format!("{}.{}", object.kind.to_ascii_lowercase(), object.namespace);
    let name = format!("{place}.{}.json", object.name);
    if name.len() <= NAME_MAX {
        return name;
    }
    format!("{place}._{}.json", Digest::of(object.name.as_bytes()).to_hex())
}

fn put_row(directory: &Path, row: &Row) -> Result<(), Failure> {
    let written = || {
        let mut document: Value = serde_json::from_str(row.document.expose_secret())?;
        let owner = Owner { uid: row.uid.clone(), generation: row.generation };
        document["metadata"]["annotations"] = json!({ OWNER: serde_json::to_string(&owner)? });
        let mode = if row.is_secret() { 0o600 } else { 0o644 };
        put(directory, &name_of(&row.object), document.to_string().as_bytes(), mode)
    };
    written().map_err(|error| Failure::of(&row.object, error))
}

/// The object in a file of ours; `None` in one that is not.
fn row_of(text: &str) -> Option<StoredRow> {
    let mut document: Value = serde_json::from_str(text).ok()?;
    let field = |pointer| document.pointer(pointer).and_then(Value::as_str);
    let kind = known_kind(field("/kind")?)?;
    let object = ObjectRef {
        kind,
        namespace: field("/metadata/namespace")?.into(),
        name: field("/metadata/name")?.into(),
    };
    let metadata = document.get_mut("metadata")?.as_object_mut()?;
    let owner = metadata.remove("annotations");
    let owner =
        owner.as_ref().and_then(|all| serde_json::from_str::<Owner>(all.get(OWNER)?.as_str()?).ok())?;
    let document = document.to_string();
    Some(StoredRow {
        digest: Some(digest_of(&document)),
        document: (object.kind != "Secret").then_some(document),
        object,
        uid: Some(owner.uid),
        generation: owner.generation,
    })
}

fn load(directory: &Path) -> io::Result<Contents> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') || !name.ends_with(".json") {
            continue;
        }
        // What people put there is read by the proxy, and none of our business.
        let row = fs::read_to_string(&path).ok().and_then(|text| row_of(&text));
        rows.extend(row.filter(|row| name_of(&row.object) == name));
    }
    rows.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(Contents { version: state(directory)?.version, rows, records: None })
}

fn write(directory: &Path, epoch: i64, based_on: i64, delta: &Delta) -> Result<Written, Failure> {
    // Repositories and robots are recorded by the proxy that reads the manifests.
    let Delta { upserts, deletes, declare: _, retire: _, robots: _, robots_gone: _ } = delta;
    let mut state = state(directory)?;
    if state.epoch > epoch {
        return Ok(Written::Fenced(state.epoch));
    }
    if state.version != based_on {
        return Ok(Written::Outdated(state.version));
    }
    let is_custom = |object: &ObjectRef| custom_kind(object.kind).is_some();
    let kept: BTreeSet<&ObjectRef> = upserts.iter().map(|row| &row.object).collect();
    for row in upserts.iter().filter(|row| !is_custom(&row.object)) {
        put_row(directory, row)?;
    }
    for object in deletes.iter().filter(|object| is_custom(object) && !kept.contains(object)) {
        remove(directory, object)?;
    }
    for row in upserts.iter().filter(|row| is_custom(&row.object)) {
        put_row(directory, row)?;
    }
    for object in deletes.iter().filter(|object| !is_custom(object) && !kept.contains(object)) {
        remove(directory, object)?;
    }
    if !upserts.is_empty() || !deletes.is_empty() {
        state.version += 1;
    }
    state.epoch = epoch;
    put_state(directory, state)?;
    File::open(directory)?.sync_all()?;
    Ok(Written::Version(state.version))
}

#[async_trait]
impl Sink for DirectorySink {
    async fn epoch(&self) -> Result<i64, SinkError> {
        self.alone(|directory| Ok(state(directory)?.epoch)).await
    }

    async fn raise(&self, epoch: i64) -> Result<i64, SinkError> {
        self.alone(move |directory| {
            let state = state(directory)?;
            if state.epoch < epoch {
                put_state(directory, State { epoch, ..state })?;
            }
            Ok(state.epoch.max(epoch))
        })
        .await
    }

    async fn load(&self) -> Result<Contents, SinkError> {
        self.alone(|directory| Ok(load(directory)?)).await
    }

    async fn write(&self, epoch: i64, based_on: i64, delta: &Delta) -> Result<Written, SinkError> {
        let delta = delta.clone();
        self.alone(move |directory| write(directory, epoch, based_on, &delta)).await
    }

    async fn complete(&self) -> Result<(), SinkError> {
        self.alone(|directory| Ok(Exchange::new(directory.to_owned()).complete()?)).await
    }

    /// The proxy purges a Local whose manifest is gone by itself; see its manifests.
    async fn purge(&self, _: &Declared) -> Result<u64, SinkError> {
        Ok(0)
    }
}
