//! One sequence: each operation is done to the registry and to the model, and both must agree.

use std::time::Duration;

use artifactapi_model::{
    Local,
    oci::{Algorithm, OciDigest, Reference, Tag},
    ports::{UploadId, blobs::MAX_READ},
};
use artifactapi_registry::{
    BodyLost, Registry, RegistryError, Span,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    push::{Body, Source, Write},
};
use bytes::Bytes;
use serde_json::json;

use crate::{
    bench::Bench,
    plan::{BODIES, Form, IMAGES, Op, TAGS},
    state::{Image, Known},
};

type Outcome<T = ()> = Result<T, String>;

/// What one sequence works on: images and bodies of its own.
struct Run<'a> {
    bench: &'a Bench,
    locals: [Local; 2],
    bodies: Vec<Bytes>,
    images: Vec<Image>,
    turn: usize,
}

/// Does `plan`; an error says where the registry and the model part.
pub(crate) async fn sequence(bench: &Bench, plan: &[Op]) -> Outcome {
    let number = bench.next();
    let locals = [bench.local(&format!("a{number}")).await, bench.local(&format!("b{number}")).await];
    let sizes = [0, 1, 100, 70_000, 250_000, bench.large];
    let bodies = sizes.iter().enumerate().map(|(body, size)| content(number, body, *size)).collect();
    let mut run = Run { bench, locals, bodies, images: vec![Image::default(); IMAGES], turn: 0 };
    for (at, op) in plan.iter().enumerate() {
        run.act(op).await.map_err(|error| format!("operation {at}, {op:?}: {error}"))?;
    }
    for image in 0..IMAGES {
        run.check(image).await.map_err(|error| format!("at the end: {error}"))?;
    }
    run.end().await
}

fn content(number: u64, body: usize, size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    let mut state = number.wrapping_mul(31).wrapping_add(body as u64).wrapping_add(1);
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    bytes.into()
}

fn tag(number: usize) -> Tag {
    format!("t{}", number % TAGS).parse().unwrap()
}

fn stream(bytes: &[u8]) -> Body {
    let pieces: Vec<Result<Bytes, BodyLost>> =
        bytes.chunks(50_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Box::pin(futures_util::stream::iter(pieces))
}

fn broken(bytes: &[u8]) -> Body {
    Box::pin(futures_util::stream::iter([Ok(Bytes::copy_from_slice(bytes)), Err(BodyLost)]))
}

fn told<T>(result: Result<T, RegistryError>) -> Outcome<T> {
    result.map_err(|error| format!("refused: {error}"))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Outcome {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, and the model says {want:?}")) }
}

impl Run<'_> {
    /// Another replica for every request.
    fn registry(&mut self) -> Registry {
        self.turn += 1;
        self.bench.registries[self.turn % self.bench.registries.len()].clone()
    }

    fn local(&self, image: usize) -> &Local {
        &self.locals[usize::from(image == IMAGES - 1)]
    }

    fn name(&self, image: usize) -> artifactapi_model::oci::ImageName {
        format!("team/app{image}").parse().unwrap()
    }

    async fn act(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Push { image, body, form } => self.push(*image, *body, form).await,
            Op::WrongDigest { image, body } => self.wrong_digest(*image, *body).await,
            Op::Abandon { image, body, cancel } => self.abandon(*image, *body, *cancel).await,
            Op::Mount { from, image, body } => self.mount(*from, *image, *body).await,
            Op::Manifest { image, layers, tag, subject, salt } => {
                let (known, digest) = self.manifest(*image, layers, *subject, *salt);
                self.put(*image, digest, known, *tag).await
            }
            Op::Index { image, children, tag } => {
                let Some((known, digest)) = self.index(*image, children) else { return Ok(()) };
                self.put(*image, digest, known, *tag).await
            }
            Op::Tag { image, manifest, tag } => {
                let Some(digest) = self.images[*image].nth(*manifest) else { return Ok(()) };
                let known = self.images[*image].manifests[&digest].clone();
                self.put(*image, digest, known, Some(*tag)).await
            }
            Op::DeleteTag { image, tag } => self.delete_tag(*image, *tag).await,
            Op::DeleteManifest { image, manifest } => self.delete_manifest(*image, *manifest).await,
            Op::DeleteBlob { image, body } => self.delete_blob(*image, *body).await,
            Op::Collect { at_once } => self.collect(*at_once).await,
            Op::Expire => self.expire().await,
        }
    }

    async fn push(&mut self, image: usize, body: usize, form: &Form) -> Outcome {
        let bytes = self.bodies[body].clone();
        let (local, name) = (self.local(image).clone(), self.name(image));
        let algorithm = if matches!(form, Form::Sha512(_)) { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let digest = OciDigest::of(algorithm, &bytes);
        let announced =
            if matches!(form, Form::Sha512(true)) { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let id = told(self.registry().begin(&local, &name, announced).await)?;
        let mut sent = 0;
        let (part, last_with_bytes) = match form {
            Form::Whole | Form::Sha512(_) => (bytes.len(), true),
            Form::Pieces(part, with) => ((bytes.len() * usize::from(*part) / 1000).max(1), *with),
            Form::Retried(part) => ((bytes.len() * usize::from(*part) / 1000).max(1), false),
        };
        let part = part.max(bytes.len() / 5).max(1);
        while sent < bytes.len() && !(last_with_bytes && bytes.len() - sent <= part) {
            let end = (sent + part).min(bytes.len());
            if matches!(form, Form::Retried(_)) {
                self.retry(&local, &name, &id, &bytes, sent, end).await?;
            }
            let offset = told(self.registry().upload_offset(&local, &name, &id).await)?;
            if offset < end as u64 {
                let span = (sent > 0).then_some(Span { start: offset, end: end as u64 - 1 });
                let body = stream(&bytes[usize::try_from(offset).unwrap()..end]);
                let write = Write { id: id.clone(), span, body, digest: None, whole: false };
                told(self.registry().write(&local, &name, write).await)?;
            }
            sent = end;
        }
        let write =
            Write { id, span: None, body: stream(&bytes[sent..]), digest: Some(digest), whole: false };
        told(self.registry().write(&local, &name, write).await)?;
        self.images[image].blobs.insert(digest, body);
        self.check_blob(image, &digest, Some(body)).await
    }

    /// A piece that breaks off, one that comes twice, and one from somewhere else.
    async fn retry(
        &mut self,
        local: &Local,
        name: &artifactapi_model::oci::ImageName,
        id: &UploadId,
        bytes: &Bytes,
        start: usize,
        end: usize,
    ) -> Outcome {
        let half = start + (end - start) / 2;
        if half > start {
            let write = Write {
                id: id.clone(),
                span: None,
                body: broken(&bytes[start..half]),
                digest: None,
                whole: false,
            };
            let lost = self.registry().write(local, name, write).await;
            if !matches!(lost, Err(RegistryError::BodyLost)) {
                return Err(format!("a broken body: {lost:?}"));
            }
        }
        let offset = told(self.registry().upload_offset(local, name, id).await)?;
        same("what is left of a broken piece", offset, half.max(start) as u64)?;
        let span = Some(Span { start: offset + 1, end: offset + 10 });
        let write = Write { id: id.clone(), span, body: stream(&[0; 10]), digest: None, whole: false };
        match self.registry().write(local, name, write).await {
            Err(RegistryError::RangeInvalid { offset: told }) => same("the offset of a 416", told, offset),
            other => Err(format!("a piece from somewhere else: {other:?}")),
        }
    }

    async fn wrong_digest(&mut self, image: usize, body: usize) -> Outcome {
        let (local, name) = (self.local(image).clone(), self.name(image));
        let id = told(self.registry().begin(&local, &name, Algorithm::Sha256).await)?;
        let digest = OciDigest::of(Algorithm::Sha256, b"something else");
        let body = stream(&self.bodies[body].clone());
        let write = Write { id: id.clone(), span: None, body, digest: Some(digest), whole: false };
        match self.registry().write(&local, &name, write).await {
            Err(RegistryError::DigestMismatch { .. }) => {}
            other => return Err(format!("a wrong digest: {other:?}")),
        }
        self.check_blob(image, &digest, None).await?;
        let left = self.registry().upload_offset(&local, &name, &id).await;
        same("a session with a wrong digest", left.is_err(), true)
    }

    async fn abandon(&mut self, image: usize, body: usize, cancel: bool) -> Outcome {
        let (local, name) = (self.local(image).clone(), self.name(image));
        let id = told(self.registry().begin(&local, &name, Algorithm::Sha256).await)?;
        let body = stream(&self.bodies[body].clone());
        let write = Write { id: id.clone(), span: None, body, digest: None, whole: false };
        told(self.registry().write(&local, &name, write).await)?;
        if cancel {
            told(self.registry().cancel(&local, &name, &id).await)?;
            let again = self.registry().cancel(&local, &name, &id).await;
            same("cancelling twice", matches!(again, Err(RegistryError::UploadUnknown)), true)?;
        }
        Ok(())
    }

    async fn mount(&mut self, from: Option<usize>, image: usize, body: usize) -> Outcome {
        let digest = OciDigest::of(Algorithm::Sha256, &self.bodies[body]);
        let (local, name) = (self.local(image).clone(), self.name(image));
        let ours = self.locals.clone().map(|local| local.identity.id);
        let there = match from {
            Some(from) => self.images[from].blobs.contains_key(&digest),
            None => self.images.iter().any(|image| image.blobs.contains_key(&digest)),
        };
        let registry = self.registry();
        let mounted = match from {
            Some(from) => {
                let source = Source::Image(self.local(from), self.name(from));
                registry.mount(&local, &name, &digest, source).await
            }
            None => registry.mount(&local, &name, &digest, Source::Anywhere(&ours)).await,
        };
        same("mounted", told(mounted)?.is_some(), there)?;
        if there {
            self.images[image].blobs.insert(digest, body);
        }
        let want = self.images[image].blobs.get(&digest).copied();
        self.check_blob(image, &digest, want).await
    }

    fn manifest(
        &self,
        image: usize,
        layers: &[usize],
        subject: Option<usize>,
        salt: u8,
    ) -> (Known, OciDigest) {
        let blobs: Vec<OciDigest> =
            layers.iter().map(|body| OciDigest::of(Algorithm::Sha256, &self.bodies[body % BODIES])).collect();
        let descriptor = |digest: &OciDigest, media_type: &str| json!({"mediaType": media_type, "digest": digest.to_string(), "size": 1});
        let subject = subject.and_then(|nth| self.images[image].nth(nth));
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(&blobs[0], "application/vnd.oci.image.config.v1+json"),
            "layers": blobs[1..].iter().map(|it| descriptor(it, "application/vnd.oci.image.layer.v1.tar")).collect::<Vec<_>>(),
            "annotations": {"salt": (salt % 8).to_string()},
        });
        if let Some(subject) = &subject {
            document["subject"] = descriptor(subject, OCI_MANIFEST);
        }
        let body = Bytes::from(document.to_string());
        let digest = OciDigest::of(Algorithm::Sha256, &body);
        let known = Known { body, media_type: OCI_MANIFEST, blobs, children: vec![], subject, unheld: false };
        (known, digest)
    }

    fn index(&self, image: usize, children: &[usize]) -> Option<(Known, OciDigest)> {
        let children: Option<Vec<OciDigest>> =
            children.iter().map(|nth| self.images[image].nth(*nth)).collect();
        let children = children?;
        let list: Vec<_> = children
            .iter()
            .map(|it| json!({"mediaType": OCI_MANIFEST, "digest": it.to_string(), "size": 1}))
            .collect();
        let body =
            Bytes::from(json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list}).to_string());
        let digest = OciDigest::of(Algorithm::Sha256, &body);
        let known =
            Known { body, media_type: OCI_INDEX, blobs: vec![], children, subject: None, unheld: false };
        Some((known, digest))
    }

    async fn put(&mut self, image: usize, digest: OciDigest, known: Known, tag: Option<usize>) -> Outcome {
        let tag = tag.map(self::tag);
        let reference = tag.clone().map_or(Reference::Digest(digest), Reference::Tag);
        let (local, name, body) = (self.local(image).clone(), self.name(image), known.body.clone());
        let takes = self.images[image].takes(&known);
        let media_type = Some(known.media_type);
        let put = self.registry().put_manifest(&local, &name, &reference, &[], media_type, body).await;
        match put {
            Ok(stored) if takes => same("its digest", stored.digest, digest)?,
            Err(RegistryError::ManifestBlobUnknown(_) | RegistryError::ManifestChildUnknown(_)) if !takes => {
                return Ok(());
            }
            other => return Err(format!("taken {takes}: {other:?}")),
        }
        self.images[image].put(digest, known, tag);
        self.check_manifest(image, &reference, Some(digest)).await
    }

    async fn delete_tag(&mut self, image: usize, number: usize) -> Outcome {
        let (local, name) = (self.local(image).clone(), self.name(image));
        let reference = Reference::Tag(tag(number));
        let deleted = self.registry().delete_manifest(&local, &name, &reference).await;
        same("deleted", deleted.is_ok(), self.images[image].delete_tag(&tag(number)))?;
        self.check_manifest(image, &reference, None).await
    }

    async fn delete_manifest(&mut self, image: usize, nth: usize) -> Outcome {
        let Some(digest) = self.images[image].nth(nth) else { return Ok(()) };
        let (local, name) = (self.local(image).clone(), self.name(image));
        told(self.registry().delete_manifest(&local, &name, &Reference::Digest(digest)).await)?;
        self.images[image].delete_manifest(&digest);
        self.check_manifest(image, &Reference::Digest(digest), None).await
    }

    async fn delete_blob(&mut self, image: usize, body: usize) -> Outcome {
        let (local, name) = (self.local(image).clone(), self.name(image));
        let digest = OciDigest::of(Algorithm::Sha256, &self.bodies[body]);
        let known = &self.images[image];
        let (there, used) = (known.blobs.contains_key(&digest), known.uses(&digest));
        match self.registry().delete_blob(&local, &name, &digest).await {
            Ok(()) if there && !used => drop(self.images[image].blobs.remove(&digest)),
            Err(RegistryError::BlobUnknown(_)) if !there => {}
            Err(RegistryError::BlobInUse(_)) if there && used => {}
            other => return Err(format!("there {there}, used {used}: {other:?}")),
        }
        let want = self.images[image].blobs.get(&digest).copied();
        self.check_blob(image, &digest, want).await
    }

    async fn collect(&mut self, at_once: bool) -> Outcome {
        let grace = if at_once { Duration::ZERO } else { Duration::from_secs(3600) };
        self.bench.collect(&self.locals, grace, None).await?;
        if at_once {
            self.images.iter_mut().for_each(Image::drop_unused);
        }
        if at_once {
            self.check_store().await?;
        }
        // All of it is looked at now and then, and at the end: most of the time goes into looking.
        self.check((self.turn + 1) % IMAGES).await
    }

    async fn expire(&mut self) -> Outcome {
        self.bench.collect(&self.locals, Duration::from_secs(3600), Some(Duration::ZERO)).await?;
        self.images.iter_mut().for_each(Image::expire);
        self.check(self.turn % IMAGES).await
    }

    /// Everything of one image.
    async fn check(&mut self, image: usize) -> Outcome {
        let known = self.images[image].clone();
        for body in 0..BODIES {
            let digest = OciDigest::of(Algorithm::Sha256, &self.bodies[body]);
            self.check_blob(image, &digest, known.blobs.get(&digest).copied()).await?;
        }
        for (digest, body) in &known.blobs {
            self.check_blob(image, digest, Some(*body)).await?;
        }
        for digest in known.manifests.keys() {
            self.check_manifest(image, &Reference::Digest(*digest), Some(*digest)).await?;
            self.check_referrers(image, digest).await?;
        }
        for number in 0..TAGS {
            let tag = tag(number);
            self.check_manifest(image, &Reference::Tag(tag.clone()), known.tags.get(&tag).copied()).await?;
        }
        let (local, name) = (self.local(image).clone(), self.name(image));
        let tags = match self.registry().tags(&local, &name, None, None).await {
            Ok(page) => page.entries,
            Err(RegistryError::NameUnknown) => vec![],
            Err(error) => return Err(error.to_string()),
        };
        same("tags", tags, known.tags.keys().cloned().collect())
    }

    async fn check_blob(&mut self, image: usize, digest: &OciDigest, want: Option<usize>) -> Outcome {
        let (local, name) = (self.local(image).clone(), self.name(image));
        let registry = self.registry();
        let found = match registry.blob(&local, &name, digest, false).await {
            Ok(found) => found,
            Err(RegistryError::BlobUnknown(_)) if want.is_none() => return Ok(()),
            Err(error) => return Err(format!("image {image}, {digest}: {error}")),
        };
        let Some(body) = want else { return Err(format!("image {image} has {digest}")) };
        let bytes = &self.bodies[body];
        same("its length", found.size, bytes.len() as u64)?;
        let reader = registry.blobs.open(&found.blob).await.map_err(|error| format!("{digest}: {error}"))?;
        let mut at = 0;
        while at < bytes.len() {
            let piece = reader.read_at(at as u64, MAX_READ).await.map_err(|error| error.to_string())?;
            if piece.is_empty() || piece != bytes[at..at + piece.len()] {
                return Err(format!("{digest} has other bytes at {at}"));
            }
            at += piece.len();
        }
        Ok(())
    }

    async fn check_manifest(
        &mut self,
        image: usize,
        reference: &Reference,
        want: Option<OciDigest>,
    ) -> Outcome {
        let (local, name) = (self.local(image).clone(), self.name(image));
        let found = match self.registry().manifest(&local, &name, reference, false).await {
            Ok(found) => Some(found),
            Err(RegistryError::ManifestUnknown) => None,
            Err(error) => return Err(error.to_string()),
        };
        same(&format!("manifest {reference:?}"), found.as_ref().map(|it| it.digest), want)?;
        let body = want.map(|digest| self.images[image].manifests[&digest].body.clone());
        same("its bytes", found.map(|it| it.body), body)
    }

    async fn check_referrers(&mut self, image: usize, subject: &OciDigest) -> Outcome {
        let (local, name) = (self.local(image).clone(), self.name(image));
        let found = told(self.registry().referrers(&local, &name, subject, None, None).await)?;
        let mut found: Vec<OciDigest> = found.entries.iter().map(|it| it.digest).collect();
        found.sort_unstable();
        let known = self.images[image].manifests.iter().filter(|(_, known)| known.subject == Some(*subject));
        same("referrers", found, known.map(|(digest, _)| *digest).collect())
    }

    /// Bodies that nothing names are gone from the blob store.
    async fn check_store(&mut self) -> Outcome {
        for body in 0..BODIES {
            let named = self.images.iter().any(|image| image.blobs.values().any(|known| *known == body));
            let digest = artifactapi_model::Digest::of(&self.bodies[body]);
            let size = self.registry().blobs.size(&digest).await.map_err(|error| error.to_string())?;
            // The empty body is everybody's.
            if body > 0 {
                same(&format!("body {body} in the store"), size.is_some(), named)?;
            }
        }
        Ok(())
    }

    /// Leaves nothing to the next sequence.
    async fn end(&mut self) -> Outcome {
        for local in self.locals.clone() {
            let rows = self.registry().rows;
            artifactapi_registry::sweep::purge(&*rows, local.identity.id)
                .await
                .map_err(|it| it.to_string())?;
        }
        self.bench.collect(&self.locals, Duration::ZERO, None).await?;
        self.images = vec![Image::default(); IMAGES];
        self.check_store().await?;
        self.bench.check_nothing_left().await
    }
}
