//! Blobs whose bytes are not in their own place.

use super::*;

pub(super) async fn suite(make: &impl AsyncFn() -> Faces) {
    a_blob_is_where_it_was_closed_until_it_is_settled(make().await).await;
    a_place_that_is_replaced_is_removed_later(make().await).await;
    a_collected_blob_leaves_its_place(make().await).await;
    places_are_listed_in_order(make().await).await;
}

async fn at(store: &Faces, text: &str) -> Option<Place> {
    store.registry.place(&key(text)).await.unwrap()
}

async fn retired(store: &Faces, age: Duration) -> Vec<Place> {
    let mut places = store.registry.retired_places(age, ALL).await.unwrap();
    places.sort();
    places
}

/// Pushes `text` into the place of session `number`, or into its own.
async fn push_to(store: &Faces, number: u128, text: &str, place: Option<Place>) {
    let body = body(sha256(text), text, place);
    assert_eq!(close(store, &image(1, "app"), &id(number), &body, None).await, Linking::Linked);
}

async fn is_placed(store: &Faces, number: u128) -> bool {
    let ended = store.registry.ended_uploads(NONE, ALL).await.unwrap();
    ended.iter().find(|ended| ended.id == id(number)).unwrap().placed
}

async fn a_blob_is_where_it_was_closed_until_it_is_settled(store: Faces) {
    push_to(&store, 1, "text", Some(place(1))).await;
    push_to(&store, 2, "own", None).await;
    assert_eq!((at(&store, "text").await, at(&store, "own").await), (Some(place(1)), None));
    assert_eq!((is_placed(&store, 1).await, is_placed(&store, 2).await), (true, false));
    for number in [1, 2] {
        store.registry.forget_upload(&id(number)).await.unwrap();
    }
    let known = async || store.registry.known_uploads(&[id(1), id(2)]).await.unwrap();
    assert_eq!(known().await, [id(1)], "a blob has it for its place");
    assert!(!store.registry.settled(&key("text"), &place(2)).await.unwrap(), "it is elsewhere");
    assert!(!store.registry.settled(&key("own"), &place(2)).await.unwrap(), "it has none");
    assert_eq!(retired(&store, NONE).await, []);
    assert!(store.registry.settled(&key("text"), &place(1)).await.unwrap());
    assert_eq!((at(&store, "text").await, retired(&store, LONG).await), (None, vec![]));
    assert_eq!(retired(&store, NONE).await, [place(1)]);
    assert_eq!(known().await, [id(1)], "it waits to be removed");
    store.registry.forget_place(&place(1)).await.unwrap();
    assert_eq!((retired(&store, NONE).await, known().await), (vec![], vec![]));
}

async fn a_place_that_is_replaced_is_removed_later(store: Faces) {
    push_to(&store, 1, "text", Some(place(1))).await;
    push_to(&store, 2, "text", Some(place(2))).await;
    assert_eq!((at(&store, "text").await, retired(&store, NONE).await), (Some(place(2)), vec![place(1)]));
    assert!(!store.registry.settled(&key("text"), &place(1)).await.unwrap(), "whoever copied it is late");
    assert_eq!(at(&store, "text").await, Some(place(2)));
    push_to(&store, 3, "text", None).await;
    assert_eq!((at(&store, "text").await, retired(&store, NONE).await), (None, vec![place(1), place(2)]));
    assert!(is_placed(&store, 1).await, "its body is not dropped with the session");
    assert_eq!(store.registry.retired_places(NONE, 1).await.unwrap(), [place(1)], "oldest first");
}

async fn a_collected_blob_leaves_its_place(store: Faces) {
    push_to(&store, 1, "text", Some(place(1))).await;
    store.registry.unlink(&image(1, "app"), &sha256("text")).await.unwrap();
    store.keeper.condemn_blobs(NONE, ALL, false).await.unwrap();
    assert_eq!(store.keeper.claim_blobs(NONE, ALL).await.unwrap().len(), 1);
    assert_eq!(at(&store, "text").await, Some(place(1)), "the collector has to find the bytes");
    assert_eq!(store.registry.placed(None, ALL).await.unwrap(), [], "nobody moves them now");
    store.keeper.drop_blob(&key("text")).await.unwrap();
    assert_eq!((at(&store, "text").await, retired(&store, NONE).await), (None, vec![place(1)]));
}

async fn places_are_listed_in_order(store: Faces) {
    let mut want = Vec::new();
    for number in 1..=3 {
        let text = format!("text {number}");
        push_to(&store, number, &text, Some(place(number))).await;
        want.push((key(&text), 6, place(number)));
    }
    push_to(&store, 9, "own", None).await;
    want.sort();
    assert_eq!(store.registry.placed(None, ALL).await.unwrap(), want);
    let (mut walked, mut after) = (Vec::new(), None);
    loop {
        let page = store.registry.placed(after.as_ref(), 1).await.unwrap();
        let Some((digest, _, _)) = page.first() else { break };
        after = Some(*digest);
        walked.extend(page);
    }
    assert_eq!(walked, want);
}
