//! Signing keys: whoever is first makes one, and everyone has that one ever after.

use std::sync::Arc;

use artifactapi_model::ports::metadata::MetadataStore;

pub(super) async fn the_first_signing_key_stays(store: Arc<dyn MetadataStore>) {
    let asked = async |name, candidate| store.signing_key(name, candidate).await.unwrap();
    assert_eq!(asked("alpine", None).await, None, "asking makes none");
    let tasks: Vec<_> = (0..8)
        .map(|replica| {
            let store = store.clone();
            let candidate = format!("-----BEGIN OF {replica}-----\n{}", "long ".repeat(2_000));
            tokio::spawn(async move {
                let stored = store.signing_key("alpine", Some(&candidate)).await.unwrap().unwrap();
                (candidate, stored)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    let key = answers[0].1.clone();
    assert!(answers.iter().any(|(candidate, _)| *candidate == key), "it is one of the candidates, whole");
    assert!(answers.iter().all(|(_, stored)| *stored == key), "replicas agree");
    assert_eq!(asked("alpine", Some("late")).await, Some(key.clone()));
    assert_eq!(asked("openpgp", None).await, None, "each name has its own");
    assert_eq!(asked("openpgp", Some("other")).await.as_deref(), Some("other"));
    assert_eq!(asked("alpine", None).await, Some(key));
}
