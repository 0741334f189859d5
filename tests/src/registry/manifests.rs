//! Manifests, tags and lists.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Image, Refused, refused, sha256};
use crate::{
    fixtures::oci::{INDEX, MANIFEST},
    http::Fetched,
};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A manifest that can be pushed.
#[derive(Clone, Debug)]
pub struct NewManifest {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub body: Bytes,
    /// Digests of what it names.
    pub names: Vec<String>,
}

/// What the registry said when it took a manifest.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Its digest.
    pub digest: String,
    /// The whole answer.
    pub answer: Fetched,
}

impl NewManifest {
    /// Its digest.
    pub fn digest(&self) -> String {
        sha256(&self.body)
    }

    /// The same with a field more.
    ///
    /// # Panics
    /// Never: it is an object.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        let mut body: Value = serde_json::from_slice(&self.body).expect("our own JSON");
        body[field] = value;
        self.body = body.to_string().into();
        self
    }

    /// The same as an answer to `subject`.
    #[must_use]
    pub fn about(self, subject: &NewManifest, artifact_type: &str) -> Self {
        self.with("subject", subject.descriptor()).with("artifactType", json!(artifact_type))
    }

    fn descriptor(&self) -> Value {
        descriptor(self.media_type, &self.digest(), self.body.len())
    }
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// The manifest of an image with this config and these layers (digest and length each).
pub fn image_of(config: &Bytes, layers: &[(String, usize)]) -> NewManifest {
    let config_digest = sha256(config);
    let lines = layers.iter().map(|(digest, size)| descriptor(LAYER, digest, *size)).collect::<Vec<_>>();
    let body = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config_digest, config.len()), "layers": lines,
    });
    let names = [config_digest].into_iter().chain(layers.iter().map(|(digest, _)| digest.clone())).collect();
    NewManifest { media_type: MANIFEST, body: body.to_string().into(), names }
}

/// An index of these manifests.
pub fn index_of(manifests: &[NewManifest]) -> NewManifest {
    let lines = manifests.iter().map(NewManifest::descriptor).collect::<Vec<_>>();
    let body = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": lines });
    let names = manifests.iter().map(NewManifest::digest).collect();
    NewManifest { media_type: INDEX, body: body.to_string().into(), names }
}

impl Image {
    /// Pushes a manifest under `reference`, a tag or its digest.
    ///
    /// # Errors
    /// [`Refused`] when the answer is no 201.
    pub async fn put_manifest(
        &self,
        entry: usize,
        reference: &str,
        manifest: &NewManifest,
    ) -> Result<Pushed, Refused> {
        let headers = [("content-type", manifest.media_type)];
        let rest = format!("manifests/{reference}");
        let answer = self.expect(entry, Method::PUT, &rest, &headers, manifest.body.clone(), &[201]).await?;
        Ok(Pushed { digest: manifest.digest(), answer })
    }

    /// The manifest under `reference`; `None`: there is none.
    ///
    /// # Errors
    /// [`Refused`] when the answer is neither 200 nor 404.
    pub async fn manifest(&self, entry: usize, reference: &str) -> Result<Option<Fetched>, Refused> {
        let accept = [(
            "accept",
            concat!(
                "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, ",
                "application/vnd.docker.distribution.manifest.list.v2+json, ",
                "application/vnd.docker.distribution.manifest.v2+json"
            ),
        )];
        let rest = format!("manifests/{reference}");
        let answer = self.send(entry, Method::GET, &rest, &accept, "").await?;
        match answer.status {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            _ => Err(refused(Method::GET, &rest, &answer)),
        }
    }

    /// The digests that a manifest names: config and layers, or manifests, without its subject.
    ///
    /// # Panics
    /// When it is no manifest.
    pub fn named_by(manifest: &Fetched) -> Vec<String> {
        let body = manifest.json();
        let lists = ["layers", "manifests"].into_iter().filter_map(|field| body[field].as_array());
        let all = lists.flatten().chain(body.get("config"));
        all.map(|line| line["digest"].as_str().expect("a descriptor").to_owned()).collect()
    }

    /// Deletes a manifest by its digest, or a tag; 202 or 404.
    ///
    /// # Errors
    /// [`Refused`] for any other answer.
    pub async fn delete_manifest(&self, entry: usize, reference: &str) -> Result<(), Refused> {
        let rest = format!("manifests/{reference}");
        self.expect(entry, Method::DELETE, &rest, &[], "", &[202, 404]).await.map(drop)
    }

    /// All tags; none when the image is not known.
    ///
    /// # Errors
    /// [`Refused`] when the answer is neither 200 nor 404.
    pub async fn tags(&self, entry: usize) -> Result<Vec<String>, Refused> {
        let answer = self.expect(entry, Method::GET, "tags/list", &[], "", &[200, 404]).await?;
        Ok(if answer.status == 404 { Vec::new() } else { strings(&answer.json()["tags"]) })
    }

    /// Digests of the manifests about `subject`.
    ///
    /// # Errors
    /// [`Refused`] when the answer is not 200.
    pub async fn referrers(&self, entry: usize, subject: &str) -> Result<Vec<String>, Refused> {
        let answer =
            self.expect(entry, Method::GET, &format!("referrers/{subject}"), &[], "", &[200]).await?;
        let body = answer.json();
        let lines = body["manifests"].as_array().cloned().unwrap_or_default();
        Ok(lines.iter().filter_map(|line| Some(line["digest"].as_str()?.to_owned())).collect())
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}
