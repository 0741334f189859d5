//! What the bucket does by itself; the suite runs on the tier in front of it.

use std::sync::Arc;

use artifactapi_services::Minio;
use object_store::ObjectStoreExt;
use secrecy::SecretString;

use super::{testing::*, *};
use crate::{
    MemoryBlobs,
    blobs::suite::{self, pattern},
};

const MIB: usize = 1 << 20;

/// A reader of `body`.
async fn reader_of(body: &[u8]) -> Arc<dyn BlobReader> {
    let memory = MemoryBlobs::default();
    let digest = suite::put(&memory, body).await;
    memory.open(&digest).await.unwrap()
}

async fn upload(s3: &S3Blobs, body: &[u8]) -> Result<Digest, BlobError> {
    let digest = Digest::of(body);
    s3.upload(&digest, body.len() as u64, &*reader_of(body).await).await.map(|()| digest)
}

async fn download(s3: &S3Blobs, digest: &Digest, from: u64) -> Result<Vec<u8>, BlobError> {
    let mut stream = s3.stream(digest, from).await?.ok_or(BlobError::NotFound(*digest))?;
    let mut body = Vec::new();
    while let Some(bytes) = stream.next().await? {
        body.extend_from_slice(&bytes);
    }
    assert_eq!(stream.at(), stream.size());
    Ok(body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_one_put_and_of_many_parts_round_trip() {
    let Some(minio) = minio("bodies_of_one_put_and_of_many_parts_round_trip") else { return };
    let minio = &*minio;
    let s3 = S3Blobs::new(settings(minio)).unwrap();
    for conditional in [false, true] {
        if conditional {
            s3.check().await.unwrap();
            assert!(s3.0.conditional_put(), "this MinIO refuses to overwrite");
        }
        for length in [0, 1, 8 * MIB, 8 * MIB + 1, 17 * MIB + 5] {
            let mut body = pattern(length).to_vec();
            if let Some(first) = body.first_mut() {
                *first = u8::from(conditional);
            }
            let digest = upload(&s3, &body).await.unwrap();
            assert_eq!(s3.size(&digest).await.unwrap(), Some(length as u64));
            assert!(download(&s3, &digest, 0).await.unwrap() == body, "{length}");
            let from = length as u64 / 2;
            assert!(
                download(&s3, &digest, from).await.unwrap() == body[length / 2..],
                "{length} from {from}"
            );
        }
    }
    let probes = s3.0.store.list(Some(&Path::from("probe"))).count().await;
    assert_eq!(probes, 0, "the check leaves nothing behind");
    assert!(s3.upload_memory_peak() <= upload::MEMORY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_not_sent_again() {
    let Some(minio) = minio("what_is_there_is_not_sent_again") else { return };
    let minio = &*minio;
    let s3 = S3Blobs::new(settings(minio)).unwrap();
    for body in [pattern(100), pattern(9 * MIB)] {
        upload(&s3, &body).await.unwrap();
        let before = s3.tally().counts();
        upload(&s3, &body).await.unwrap();
        assert_eq!(s3.tally().counts(), S3Counts { heads: before.heads + 1, ..before });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_89_an_unknown_outcome_is_settled_by_asking() {
    let Some(minio) = minio("rs_89_an_unknown_outcome_is_settled_by_asking") else { return };
    let minio = &*minio;
    let cases: [(&str, usize, Which, Vec<Fault>); 7] = [
        ("ack of a PUT lost", 100, is_put, vec![Fault::AckLost; 4]),
        ("a PUT answered 500 after success", 100, is_put, vec![Fault::AckWrong(500); 4]),
        ("a PUT answered 409 after success", 100, is_put, vec![Fault::AckWrong(409)]),
        ("a PUT answered 412 by a store that has it", 100, is_put, vec![Fault::AckWrong(412)]),
        ("acks of the completion lost", 9 * MIB, is_complete, vec![Fault::AckLost; 4]),
        ("completion answered 500 after success", 9 * MIB, is_complete, vec![Fault::AckWrong(500)]),
        ("a part refused twice", 9 * MIB, is_put, vec![Fault::Status(503, "SlowDown"), Fault::AckLost]),
    ];
    for conditional in [false, true] {
        for (name, length, which, faults) in &cases {
            let faulty = Faulty::new();
            let s3 = faulty.blobs(settings(minio));
            if conditional {
                s3.check().await.unwrap();
            }
            faulty.script(*which, faults.clone());
            let body = pattern(*length);
            let digest = upload(&s3, &body).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(download(&s3, &digest, 0).await.unwrap() == body, "{name}");
            assert_eq!(s3.list(None, 10).await.unwrap(), [(digest, *length as u64)], "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_89_a_conflict_without_an_object_is_no_success() {
    let Some(minio) = minio("rs_89_a_conflict_without_an_object_is_no_success") else { return };
    let minio = &*minio;
    let faulty = Faulty::new();
    let s3 = faulty.blobs(settings(minio));
    s3.check().await.unwrap();
    faulty.script(is_put, vec![Fault::Status(409, "ConditionalRequestConflict"); 20]);
    let error = upload(&s3, b"body").await.unwrap_err();
    assert!(matches!(error, BlobError::Io { .. }), "{error:?}");
    assert_eq!(s3.list(None, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_the_wrong_length_gives_way() {
    let Some(minio) = minio("an_object_of_the_wrong_length_gives_way") else { return };
    let minio = &*minio;
    let s3 = S3Blobs::new(settings(minio)).unwrap();
    let body = pattern(1000);
    let digest = Digest::of(&body);
    s3.0.store.put(&place_of(&digest), "short".into()).await.unwrap();
    upload(&s3, &body).await.unwrap();
    assert_eq!(download(&s3, &digest, 0).await.unwrap(), body);
    let aside = Path::from(format!("quarantine/{}", digest.to_hex()));
    assert_eq!(s3.0.store.head(&aside).await.unwrap().size, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_87_a_broken_get_goes_on_by_range() {
    let Some(minio) = minio("rs_87_a_broken_get_goes_on_by_range") else { return };
    let minio = &*minio;
    let faulty = Faulty::new();
    let s3 = faulty.blobs(settings(minio));
    let body = pattern(3 * MIB);
    let digest = upload(&s3, &body).await.unwrap();
    let slow_down = Fault::Status(503, "SlowDown");
    faulty.script(is_get, [slow_down.clone(), Fault::Cut(MIB as u64), slow_down, Fault::None]);
    assert!(download(&s3, &digest, 0).await.unwrap() == body);
    let ranges = faulty.ranges();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[..2], [None, None]);
    let resumed: u64 = ranges[3].as_deref().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap();
    assert!(resumed >= MIB as u64, "it goes on from the last good byte: {resumed}");

    faulty.script(is_get, vec![Fault::Cut(10); 4]);
    let error = download(&s3, &digest, 0).await.unwrap_err();
    assert!(matches!(error, BlobError::Io { .. }), "no fifth request: {error:?}");
    assert_eq!(faulty.ranges().len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_87_a_fifth_of_all_requests_refused_is_not_noticed() {
    let Some(minio) = minio("rs_87_a_fifth_of_all_requests_refused_is_not_noticed") else { return };
    let minio = &*minio;
    let faulty = Faulty::new();
    let s3 = faulty.blobs(settings(minio));
    faulty.refuse_every(5);
    for n in 0..60_usize {
        let body = pattern(n * 1000);
        let digest = upload(&s3, &body).await.unwrap();
        assert_eq!(download(&s3, &digest, 0).await.unwrap(), body, "{n}");
    }
    assert!(s3.tally().counts().failures >= 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_says_so() {
    let Some(minio) = minio("a_full_store_says_so") else { return };
    let minio = &*minio;
    for (length, which) in [(10, is_put as Which), (9 * MIB, is_put), (9 * MIB, is_complete)] {
        let faulty = Faulty::new();
        let s3 = faulty.blobs(settings(minio));
        faulty.script(which, vec![Fault::Status(507, "XMinioStorageFull"); 10]);
        let error = upload(&s3, &pattern(length)).await.unwrap_err();
        assert!(matches!(error, BlobError::Full(_)), "{error:?}");
        assert_eq!(s3.list(None, 10).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_names_the_variable_to_look_at() {
    let Some(minio) = minio("the_check_names_the_variable_to_look_at") else { return };
    let minio = &*minio;
    let good = settings(minio);
    S3Blobs::new(good.clone()).unwrap().check().await.unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let wrong = |key: &str| SecretString::from(key.to_owned());
    let cases = [
        (S3Settings { endpoint: nobody, ..good.clone() }, "MINIO_ENDPOINT: ", "cannot be reached"),
        (S3Settings { secure: true, ..good.clone() }, "MINIO_ENDPOINT: https://", "MINIO_SECURE"),
        (S3Settings { bucket: "nobodys".into(), ..good.clone() }, "MINIO_BUCKET: ", "has no bucket nobodys"),
        (
            S3Settings { access_key: wrong("nobody"), ..good.clone() },
            "MINIO_ACCESS_KEY ",
            "InvalidAccessKeyId",
        ),
        (
            S3Settings { secret_key: wrong("not-that"), ..good.clone() },
            "MINIO_SECRET_KEY",
            "SignatureDoesNotMatch",
        ),
        (S3Settings { endpoint: "no host".into(), ..good.clone() }, "MINIO_ENDPOINT", ""),
    ];
    for (settings, variable, reason) in cases {
        let debug = format!("{settings:?}");
        let error = match S3Blobs::new(settings) {
            Ok(s3) => s3.check().await.unwrap_err(),
            Err(error) => error,
        };
        let text = error.to_string();
        assert!(text.contains(variable) && text.contains(reason), "{text}");
        for secret in [Minio::SECRET_KEY, "not-that"] {
            assert!(!format!("{text} {error:?} {debug}").contains(secret), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_gives_the_object_and_no_more() {
    let Some(minio) = minio("a_link_gives_the_object_and_no_more") else { return };
    let minio = &*minio;
    let without = settings(minio);
    let public = Some(format!("http://localhost:{}", minio.0.port()));
    let with = S3Settings { public_endpoint: public, ..without.clone() };
    let (without, s3) = (S3Blobs::new(without).unwrap(), S3Blobs::new(with).unwrap());
    let digest = upload(&s3, b"linked").await.unwrap();
    let minute = Duration::from_secs(60);
    assert_eq!(without.link(&digest, 6, minute).await.unwrap(), None);
    let before = s3.tally().counts();
    let link = s3.link(&digest, 6, minute).await.unwrap().unwrap();
    assert_eq!(s3.tally().counts(), before, "a link costs no request");
    assert_eq!(link.host_str(), Some("localhost"));
    assert!(!link.as_str().contains(Minio::SECRET_KEY));

    let elsewhere = Some("https://s3.example.com".to_owned());
    let hosted = S3Settings { path_style: false, public_endpoint: elsewhere, ..settings(minio) };
    let bucket = hosted.bucket.clone();
    let link_of_host = S3Blobs::new(hosted).unwrap().link(&digest, 6, minute).await.unwrap().unwrap();
    assert_eq!(link_of_host.host_str(), Some(&*format!("{bucket}.s3.example.com")));
    assert_eq!(link_of_host.path(), format!("/{}", place_of(&digest)));

    let get = |url: Url| async move {
        let request = reqwest::Request::new(reqwest::Method::GET, url);
        let request: object_store::client::HttpRequest = {
            let mut made =
                object_store::client::HttpRequest::new(object_store::client::HttpRequestBody::empty());
            *made.uri_mut() = request.url().as_str().parse().unwrap();
            made
        };
        let answer = client::http_client(false).unwrap().execute(request).await.unwrap();
        (answer.status().as_u16(), answer.into_body().bytes().await.unwrap())
    };
    assert_eq!(get(link.clone()).await, (200, "linked".into()));
    let mut other = link;
    other.set_path(&other.path().replace(&digest.to_hex(), &Digest::of(b"other").to_hex()));
    assert_eq!(get(other).await.0, 403, "it is good for this object only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rs_11_the_bare_bucket_gives_what_it_has_and_takes_nothing() {
    let Some(minio) = minio("rs_11_the_bare_bucket_gives_what_it_has_and_takes_nothing") else { return };
    let minio = &*minio;
    let s3 = S3Blobs::new(settings(minio)).unwrap();
    let body = pattern(3 * MIB);
    let digest = upload(&s3, &body).await.unwrap();
    assert!(s3.stage(None).await.is_err());
    let before = s3.tally().counts().all();
    assert!(suite::read_all(&*s3.open(&digest).await.unwrap(), MIB).await == body);
    assert_eq!(s3.tally().counts().all(), before + 1, "read in order it is one request");
    let mut wrong = body.to_vec();
    wrong[5] ^= 1;
    s3.overwrite(&digest, wrong.clone().into()).await;
    let reader = s3.open(&digest).await.unwrap();
    assert!(suite::read_all(&*reader, MIB).await == wrong, "a scrub must see the damage");
    let key = s3.list(None, 10).await.unwrap();
    assert_eq!(key, [(digest, body.len() as u64)]);
    s3.quarantine(&digest).await.unwrap();
    assert!(matches!(s3.open(&digest).await, Err(BlobError::NotFound(_))));
}
