//! A tag is one register for all replicas (I8).

use std::sync::Arc;

use artifactapi_tests::registry::{
    Form, Image, Ledger, Route, image_of,
    register::{Operation, Record},
    sha256,
};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{Ending, scale, subject::Subject};

/// Tags, one after the other: each is a history of its own.
const TAGS: usize = 12;
const WRITERS: usize = 2;
const WRITES: usize = 5;
const READERS: usize = 3;
const READS: usize = 12;

/// A manifest that nobody else pushes.
async fn unique(image: &Image, route: &Route, name: &str) -> artifactapi_tests::registry::NewManifest {
    let config = Bytes::from(format!("{{\"name\":\"{name}\"}}"));
    image.push(Form::PostPut, &config, route).await.unwrap_or_else(|refused| panic!("{name}: {refused}"));
    image_of(&config, &[])
}

async fn write(image: Image, tag: String, writer: usize, record: Arc<Record>, ledger: Arc<Ledger>) {
    let entry = writer % image.registry().entries();
    for number in 0..WRITES {
        let manifest = unique(&image, &Route::only(entry), &format!("{tag}-{writer}-{number}")).await;
        let start = record.now();
        match image.put_manifest(entry, &tag, &manifest).await {
            Ok(pushed) => {
                record.answered(start, Operation::Write(pushed.digest.clone()));
                ledger.manifest(&image, &pushed.digest);
            }
            Err(refused) => panic!("{refused}"),
        }
    }
}

async fn read(image: Image, tag: String, reader: usize, record: Arc<Record>) {
    for number in 0..READS {
        let entry = (reader + number) % image.registry().entries();
        let start = record.now();
        let found = image.manifest(entry, &tag).await.unwrap_or_else(|refused| panic!("{refused}"));
        record.answered(start, Operation::Read(found.map(|manifest| sha256(&manifest.body))));
    }
}

/// Two clients push different manifests to one tag through different replicas while others read it.
pub(crate) async fn register(subject: &mut Subject) -> Ending {
    let registry = subject.registry();
    let image = registry.image("tags/register");
    let ledger = Arc::new(Ledger::default());
    let (mut operations, mut broken) = (0, Vec::new());
    let count = TAGS * scale();
    for number in 0..count {
        let (tag, record) = (format!("t{number}"), Arc::new(Record::default()));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(write(image.clone(), tag.clone(), writer, record.clone(), ledger.clone()));
        }
        for reader in 0..READERS {
            tasks.spawn(read(image.clone(), tag.clone(), reader, record.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("every request is answered");
        }
        let last = record.now();
        let found = image.manifest(0, &tag).await.expect("an answer").expect("the tag was written");
        record.answered(last, Operation::Read(Some(sha256(&found.body))));
        operations += record.len();
        broken.extend(record.check().err().map(|why| format!("{tag}: {why}")));
    }
    println!(
        "\nfigure: {count} tags with {operations} concurrent operations, {} not linearizable; {} manifests kept",
        broken.len(),
        ledger.len()
    );
    assert!(broken.is_empty(), "{broken:#?}");
    ledger.assert_kept("after the race").await;
    let tags = image.tags(0).await.expect("a list");
    assert_eq!(tags.len(), count, "{tags:?}");
    assert!(tags.is_sorted(), "{tags:?}");
    Ok(())
}
