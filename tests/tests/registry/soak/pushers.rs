//! Those who push, delete and read while the collector runs.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use artifactapi_tests::registry::{Form, Image, NewManifest, Refused, Route, image_of, patiently, sha256};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::ready, stream};
use tokio::time::Instant;

use super::{Dice, FLOOR, GRACE, Live, World};

/// Manifests that are looked at at a time, at the end.
const LOOKERS: usize = 6;

/// How a pusher gets the layers it lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Asks with HEAD, leaves out what is there, uploads the rest.
    Skipping,
    /// Tries to mount from another image first.
    Mounting,
}

/// Answers that say a blob is not there.
fn is_unknown(refused: &Refused) -> bool {
    refused.is("MANIFEST_BLOB_UNKNOWN") || refused.is("BLOB_UNKNOWN")
}

/// Pushes one manifest after the other.
pub(super) async fn push(world: Arc<World>, number: usize, mode: Mode) {
    let mut dice = Dice::new(number);
    let mut turn = 0;
    while world.goes_on() {
        turn += 1;
        let name = format!("p{number}-{turn}");
        if let Err(refused) = push_one(&world, &name, mode, &mut dice).await {
            world.breach(format!("{name}: {refused}"));
        }
    }
}

async fn push_one(world: &World, name: &str, mode: Mode, dice: &mut Dice) -> Result<(), Refused> {
    let number = dice.roll(world.images.len());
    let image = &world.images[number];
    let route = image.registry().everywhere_from(dice.roll(image.registry().entries()));
    // Whatever was promised was promised after this.
    let promised = Instant::now();
    let mut layers = Vec::new();
    for _ in 0..2 {
        let bytes = world.layer(dice);
        let other = &world.images[dice.roll(world.images.len())];
        let from = (mode == Mode::Mounting).then_some(other);
        let digest = layer(world, image, bytes, from, &route, dice).await?;
        layers.push((digest, bytes.len()));
    }
    let config = Bytes::from(format!("{{\"name\":\"{name}\"}}"));
    patiently(|| image.push(Form::PostPut, &config, &route)).await?;
    let manifest = image_of(&config, &layers);
    // The same manifest of the same image every time: one that had its effect unheard would be known to nobody.
    if let Err(refused) = patiently(|| image.put_manifest(route.next(), name, &manifest)).await {
        if is_unknown(&refused) && promised.elapsed() >= GRACE {
            world.counts.late.fetch_add(1, Relaxed);
            return Ok(());
        }
        return Err(refused);
    }
    acknowledged(world, number, name, &manifest);
    Ok(())
}

fn acknowledged(world: &World, image: usize, name: &str, manifest: &NewManifest) {
    let digest = manifest.digest();
    world.counts.pushed.fetch_add(1, Relaxed);
    world.ever.lock().expect("no holder panics").push((image, digest.clone()));
    world.live().push(Live { image, tag: name.to_owned(), digest });
}

/// Makes sure that `image` has a layer, as a client does.
async fn layer(
    world: &World,
    image: &Image,
    bytes: &Bytes,
    from: Option<&Image>,
    route: &Route,
    dice: &mut Dice,
) -> Result<String, Refused> {
    let digest = sha256(bytes);
    if patiently(|| image.has_blob(route.next(), &digest)).await? {
        world.counts.skipped.fetch_add(1, Relaxed);
        return Ok(digest);
    }
    if let Some(from) = from
        && patiently(|| image.mount(route.next(), &digest, Some(from))).await?
    {
        world.counts.mounted.fetch_add(1, Relaxed);
        return Ok(digest);
    }
    let forms = Form::all(30_000);
    let form = forms[dice.roll(forms.len())];
    world.counts.uploaded.fetch_add(1, Relaxed);
    patiently(|| image.push(form, bytes, route)).await
}

/// Deletes manifests by their digest or their tag, as long as enough are left.
pub(super) async fn delete(world: Arc<World>, number: usize) {
    let mut dice = Dice::new(number);
    while world.goes_on() {
        let chosen = {
            let mut live = world.live();
            // From here on nobody counts on it.
            if live.len() > FLOOR { Some(dice.roll(live.len())).map(|at| live.swap_remove(at)) } else { None }
        };
        let Some(chosen) = chosen else {
            artifactapi_tests::wait::breathe().await;
            continue;
        };
        let image = &world.images[chosen.image];
        let entries = image.registry().entries();
        let by_tag = dice.roll(2) == 0;
        let reference = if by_tag { &chosen.tag } else { &chosen.digest };
        let entry = dice.roll(entries);
        if let Err(refused) = patiently(|| image.delete_manifest(entry, reference)).await {
            world.breach(format!("a deletion: {refused}"));
        }
        world.counts.deleted.fetch_add(1, Relaxed);
        let entry = dice.roll(entries);
        match patiently(|| image.manifest(entry, reference)).await {
            Ok(None) => {}
            Ok(Some(_)) => world.breach(format!("{reference} is served after its deletion")),
            Err(refused) => world.breach(format!("a deleted manifest: {refused}")),
        }
    }
}

/// Reads manifests that nobody deletes, with everything they name.
pub(super) async fn read(world: Arc<World>, number: usize) {
    let mut dice = Dice::new(number);
    while world.goes_on() {
        let chosen = {
            let live = world.live();
            if live.is_empty() { None } else { Some(live[dice.roll(live.len())].clone()) }
        };
        let Some(chosen) = chosen else {
            artifactapi_tests::wait::breathe().await;
            continue;
        };
        let image = &world.images[chosen.image];
        let entry = dice.roll(image.registry().entries());
        let reference = if dice.roll(2) == 0 { &chosen.tag } else { &chosen.digest };
        let broken = whole(image, entry, reference).await;
        world.counts.read.fetch_add(1, Relaxed);
        if let Some(why) = broken
            && world.live().contains(&chosen)
        {
            world.breach(format!("{} of {}: {why}", chosen.tag, image.name()));
        }
    }
}

/// What is wrong with a manifest that should be there.
async fn whole(image: &Image, entry: usize, reference: &str) -> Option<String> {
    let manifest = match patiently(|| image.manifest(entry, reference)).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Some("not there".to_owned()),
        Err(refused) => return Some(refused.to_string()),
    };
    for digest in Image::named_by(&manifest) {
        if let Err(refused) = patiently(|| image.verify_blob(entry, &digest)).await {
            return Some(format!("dangling: {refused}"));
        }
    }
    None
}

/// All manifests of all times that are served now; each has everything it names, or is a breach.
pub(super) async fn served(world: &World) -> Vec<(usize, String)> {
    let ever = world.ever.lock().expect("no holder panics").clone();
    let looks = ever.into_iter().enumerate().map(async |(number, (image, digest))| {
        let is_whole = is_served(world, number, image, &digest).await;
        is_whole.then_some((image, digest))
    });
    let served: Vec<_> = stream::iter(looks).buffered(LOOKERS).filter_map(ready).collect().await;
    let served_now: BTreeSet<_> = served.iter().cloned().collect();
    for live in world.live().iter() {
        if !served_now.contains(&(live.image, live.digest.clone())) {
            world.breach(format!("{} was never deleted and is gone", live.tag));
        }
    }
    world.live().clear();
    served
}

/// Whether a manifest is there, with everything it names; one that is there without is a breach.
async fn is_served(world: &World, number: usize, image: usize, digest: &str) -> bool {
    let client = &world.images[image];
    let entry = number % client.registry().entries();
    let is_there = async || matches!(patiently(|| client.manifest(entry, digest)).await, Ok(Some(_)));
    if !is_there().await {
        return false;
    }
    let Some(why) = whole(client, entry, digest).await else { return true };
    // It may have expired in between.
    if is_there().await {
        world.breach(format!("{digest} of {}: {why}", client.name()));
    }
    false
}

/// Digests of all blobs that these manifests name.
pub(super) async fn named(world: &World, manifests: &[(usize, String)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (image, digest) in manifests {
        if let Ok(Some(manifest)) = patiently(|| world.images[*image].manifest(0, digest)).await {
            names.extend(Image::named_by(&manifest));
        }
    }
    names
}
