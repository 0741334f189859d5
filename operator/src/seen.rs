//! An object as the API server showed it, reduced to what is looked at.
//!
//! Objects are watched without their types, so that one nobody can read stops no other: what is wrong with a spec is
//! found when it is validated, and told in its own status.

use artifactapi_crds::{GROUP, VERSION, manifests::ObjectRef, schema::Kind};
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

/// JSON that is kept as text: a tree of thousands of objects takes several times the memory, and is looked at rarely.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Box<str>);

impl Text {
    /// Keeps `value`.
    pub fn of(value: &Value) -> Self {
        Text(value.to_string().into())
    }

    /// The JSON; null where none was kept.
    pub fn read(&self) -> Value {
        // It was written by `of`.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// An object of one of our kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Which object.
    pub object: ObjectRef,
    /// Its kind.
    pub kind: Kind,
    /// Its identity.
    pub uid: String,
    /// When it was made (RFC 3339, UTC, so that texts compare as times do).
    pub created: String,
    /// Generation of its spec.
    pub generation: i64,
    /// Since when it is being deleted, in seconds since 1970.
    pub deleting: Option<i64>,
    /// What holds it, ours and those of others.
    pub finalizers: Vec<String>,
    /// What somebody has asked for by annotation: a look at the upstream of a Remote, another token of a Robot.
    pub requested_at: Option<String>,
    /// The manifest without what the API server keeps for itself; without its spec when that is too large.
    pub manifest: Text,
    /// Whether its spec is larger than [`MAX_SPEC`].
    pub is_oversized: bool,
    /// Its status.
    pub status: Text,
    /// Whether its end means the end of its bytes.
    pub purges: bool,
}

/// The finalizer of objects with `deletionPolicy: Purge`.
pub const FINALIZER: &str = "artifactapi.io/purge";
/// The annotation by which people ask; any other value is another request.
pub const REQUESTED_AT: &str = "artifactapi.io/requested-at";
/// Longest value of it that is taken for one, in bytes.
const MAX_REQUEST: usize = 256;
/// Largest spec that is looked at, in bytes of JSON: the operator and every proxy keep all of them in memory.
pub const MAX_SPEC: usize = 64 << 10;

impl Seen {
    /// Reads what a watch of `kind` delivered; `None` without a name or an identity, which no API server sends.
    pub fn read(kind: Kind, object: DynamicObject) -> Option<Self> {
        let DynamicObject { types: _, metadata, mut data } = object;
        let (name, uid) = (metadata.name?, metadata.uid?);
        let namespace = metadata.namespace.unwrap_or_else(|| artifactapi_crds::DEFAULT_NAMESPACE.to_owned());
        let mut take = |field| data.get_mut(field).map(Value::take).unwrap_or_default();
        let mut spec = take("spec");
        let is_oversized = spec.to_string().len() > MAX_SPEC;
        if is_oversized {
            spec = Value::Null;
        }
        let manifest = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": kind.as_str(),
            "metadata": { "namespace": namespace, "name": name },
            "spec": spec,
        });
        let purges = manifest.pointer("/spec/deletionPolicy").and_then(Value::as_str) == Some("Purge");
        Some(Seen {
            object: ObjectRef { kind: kind.as_str(), namespace, name },
            kind,
            uid,
            created: metadata.creation_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            deleting: metadata.deletion_timestamp.map(|time| time.0.as_second()),
            requested_at: metadata
                .annotations
                .and_then(|mut all| all.remove(REQUESTED_AT))
                .filter(|value| !value.is_empty() && value.len() <= MAX_REQUEST),
            finalizers: metadata.finalizers.unwrap_or_default(),
            manifest: Text::of(&manifest),
            is_oversized,
            status: Text::of(&take("status")),
            purges,
        })
    }

    /// Whether our finalizer holds it, whoever has set it.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|one| one == FINALIZER)
    }

    /// By what the older of two is told.
    pub fn age(&self) -> Age {
        Age { created: self.created.clone(), uid: self.uid.clone() }
    }

    /// Whether what is wanted of it is the same: only its status has changed, or something of no meaning to us.
    pub fn is_same(&self, other: &Seen) -> bool {
        self.uid == other.uid
            && self.generation == other.generation
            && self.deleting == other.deleting
            && self.finalizers == other.finalizers
            && self.requested_at == other.requested_at
            && self.manifest == other.manifest
    }
}

/// Age of an object; the smaller is the older.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    created: String,
    uid: String,
}

/// How the API server calls a kind.
pub fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Remote => ApiResource::erase::<artifactapi_crds::Remote>(&()),
        Kind::Virtual => ApiResource::erase::<artifactapi_crds::Virtual>(&()),
        Kind::Local => ApiResource::erase::<artifactapi_crds::Local>(&()),
        Kind::Robot => ApiResource::erase::<artifactapi_crds::Robot>(&()),
    }
}

/// The kind of a stored object, if it is one we know.
pub fn known_kind(kind: &str) -> Option<&'static str> {
    let ours = Kind::ALL.into_iter().map(Kind::as_str);
    ours.chain(["Secret", "ConfigMap"]).find(|known| *known == kind)
}

/// The one of our kinds that is called so.
pub fn custom_kind(kind: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|known| known.as_str() == kind)
}
