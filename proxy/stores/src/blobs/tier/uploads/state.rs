//! What is written down about an upload between two requests.

use std::io;

use artifactapi_model::ports::{BlobError, Stored, UploadId};
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::key_of_upload;
use crate::blobs::{lost, s3::SentPart};

/// Where the bytes of an upload are: in the parts, and after them in the tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Id of the multipart upload, once there is one.
    pub(super) multipart: Option<String>,
    pub(super) parts: Vec<SentPart>,
    /// The first part number that this writer has not used for what is recorded here.
    pub(super) next: u32,
    pub(super) tail: Option<Tail>,
    /// Tails that nobody needs once this state is recorded.
    pub(super) spent: Vec<Path>,
}

/// An object that holds the end of what has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) key: Path,
    /// How much of it counts.
    pub(super) size: u64,
}

/// The same as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    multipart: Option<String>,
    /// Number, ETag and size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<(u32, String, u64)>,
    next: u32,
    /// Name after that of the upload, and size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tail: Option<(String, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spent: Vec<String>,
}

impl State {
    /// Reads what was written down.
    pub(super) fn read(id: &UploadId, stored: &Stored) -> Result<Self, BlobError> {
        if stored.0.is_empty() {
            return Ok(State { next: 1, ..State::default() });
        }
        let doing = "reading the state of an upload";
        let Text { multipart, parts, next, tail, spent } = serde_json::from_str(&stored.0)
            .map_err(|error| BlobError::Io { doing, source: io::Error::other(error) })?;
        let key = key_of_upload(id);
        let key = |name: String| Path::from(format!("{key}.{name}"));
        let part = |(number, e_tag, size)| SentPart { number, e_tag, size };
        Ok(State {
            multipart,
            parts: parts.into_iter().map(part).collect(),
            next,
            tail: tail.map(|(name, size)| Tail { key: key(name), size }),
            spent: spent.into_iter().map(key).collect(),
        })
    }

    /// What is to be written down.
    pub(super) fn write(&self, id: &UploadId) -> Stored {
        let State { multipart, parts, next, tail, spent } = self;
        let prefix = format!("{}.", key_of_upload(id));
        let name = |key: &Path| key.as_ref().strip_prefix(&prefix).unwrap_or_default().to_owned();
        let text = Text {
            multipart: multipart.clone(),
            parts: parts.iter().map(|part| (part.number, part.e_tag.clone(), part.size)).collect(),
            next: *next,
            tail: tail.as_ref().map(|tail| (name(&tail.key), tail.size)),
            spent: spent.iter().map(name).collect(),
        };
        Stored(serde_json::to_string(&text).unwrap_or_default())
    }

    /// Bytes in the parts.
    pub(super) fn in_parts(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// Forgets what is beyond `offset`, which may lie in the tail or where the parts end.
    pub(super) fn cut(&mut self, offset: u64) -> Result<(), BlobError> {
        let tail = offset.checked_sub(self.in_parts()).ok_or_else(lost)?;
        if self.tail.as_ref().map_or(0, |tail| tail.size) < tail {
            return Err(lost());
        }
        self.tail = self.tail.take().filter(|_| tail > 0).map(|Tail { key, .. }| Tail { key, size: tail });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let id = UploadId::of([7; 16]);
        let part = |number| SentPart { number, e_tag: format!("\"{number}\""), size: 10 };
        let key = |name: &str| Path::from(format!("uploads/{id}.{name}"));
        let mut state = State {
            multipart: Some("abc".into()),
            parts: vec![part(1), part(50)],
            next: 51,
            tail: Some(Tail { key: key("tail-20-ab"), size: 7 }),
            spent: vec![key("tail-10-cd")],
        };
        assert_eq!(State::read(&id, &state.write(&id)).unwrap(), state);
        let fresh = State::read(&id, &Stored::default()).unwrap();
        assert_eq!((fresh.next, State::read(&id, &fresh.write(&id)).unwrap()), (1, fresh));
        assert!(State::read(&id, &Stored("{}".into())).is_err());

        assert!(state.clone().cut(28).is_err() && state.clone().cut(19).is_err());
        state.cut(25).unwrap();
        assert_eq!(state.tail.as_ref().unwrap().size, 5);
        state.cut(20).unwrap();
        assert_eq!(state.tail, None);
    }

    #[test]
    fn the_state_of_the_longest_upload_fits() {
        let part = |number| SentPart { number, e_tag: format!("\"{}\"", "0".repeat(32)), size: 56 << 20 };
        let state = State { parts: (1..=10_000).map(part).collect(), ..State::default() };
        assert!(state.write(&UploadId::of([7; 16])).0.len() < 1 << 20);
    }
}
