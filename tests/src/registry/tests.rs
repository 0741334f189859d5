use bytes::Bytes;
use http::HeaderMap;

use super::{Route, image_of, index_of, location, pieces, sha256};

#[test]
fn a_location_is_a_path_whatever_the_server_thinks_its_name_is() {
    for (given, path) in [
        ("/v2/a/blobs/uploads/1?_state=x", Some("/v2/a/blobs/uploads/1?_state=x")),
        ("http://other:5000/v2/a/blobs/uploads/1", Some("/v2/a/blobs/uploads/1")),
        ("https://other", None),
    ] {
        let headers = HeaderMap::from_iter([(http::header::LOCATION, given.parse().unwrap())]);
        assert_eq!(location(&headers).as_deref(), path, "{given}");
    }
}

#[test]
fn pieces_make_the_whole_again() {
    let bytes = Bytes::from_static(b"0123456789");
    for (size, count) in [(3, 4), (5, 2), (10, 1), (99, 1)] {
        let cut = pieces(&bytes, size);
        assert_eq!((cut.len(), cut.concat()), (count, bytes.to_vec()), "{size}");
    }
    assert_eq!(pieces(&Bytes::new(), 3), [Bytes::new()]);
}

#[test]
fn a_route_takes_turns() {
    let route = Route::turns([2, 0, 1]);
    assert_eq!([(); 4].map(|()| route.next()), [2, 0, 1, 2]);
}

#[test]
fn manifests_name_what_they_are_made_of() {
    let image = image_of(&Bytes::from_static(b"{}"), &[(sha256(b"layer"), 5)]);
    assert_eq!(image.names, [sha256(b"{}"), sha256(b"layer")]);
    let index = index_of(std::slice::from_ref(&image));
    assert_eq!(index.names, [image.digest()]);
    let other = image.clone().about(&index, "application/x");
    assert!(other.digest() != image.digest());
    let body: serde_json::Value = serde_json::from_slice(&other.body).unwrap();
    assert_eq!(body["subject"]["digest"], index.digest());
}
