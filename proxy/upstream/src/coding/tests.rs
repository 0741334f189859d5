//! Bodies under every label, cut into every kind of piece.

use flate2::{Compression, write::GzEncoder};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn labelled(value: &'static str) -> HeaderMap {
    let encoding = (header::CONTENT_ENCODING, HeaderValue::from_static(value));
    HeaderMap::from_iter([encoding, (header::CONTENT_LENGTH, HeaderValue::from_static("9"))])
}

/// What a client would get: headers, framing and bytes, or the error.
fn through(path: &str, body: &[u8], piece: usize) -> Result<(HeaderMap, Framing, Vec<u8>), String> {
    let url = Url::parse(&format!("http://a.example/{path}")).unwrap();
    let mut headers = labelled("gzip");
    let mut framing = Framing::Length(9);
    let coding = coding(&headers, &url)?;
    let pieces: Vec<_> = body.chunks(piece.max(1)).map(Bytes::copy_from_slice).map(Ok).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let body = take_off(coding, &mut headers, &mut framing, stream::iter(pieces).boxed(), &url).await;
        let mut body = body.map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(|e| e.to_string())?);
        }
        Ok((headers, framing, bytes))
    })
}

#[test]
fn labels() {
    let url = |path: &str| Url::parse(&format!("http://a.example/{path}?x=.gz")).unwrap();
    for (value, path, want) in [
        ("gzip", "simple/", Ok(Coding::Gzip)),
        ("X-GZIP", "a.tar.gz", Ok(Coding::GzipNamed)),
        ("identity", "a", Ok(Coding::Identity)),
        ("", "a", Ok(Coding::Identity)),
        ("br", "a", Err(())),
        ("gzip, gzip", "a", Err(())),
    ] {
        assert_eq!(coding(&labelled(value), &url(path)).map_err(|_| ()), want, "{value} {path}");
    }
}

#[test]
fn rs_10_an_index_comes_out_as_identity() {
    let (headers, framing, bytes) = through("index.json", &gzip(b"{\"a\":1}"), 3).unwrap();
    assert_eq!(bytes, b"{\"a\":1}");
    assert_eq!(framing, Framing::Delimited);
    assert!(headers.is_empty(), "{headers:?}");
}

#[test]
fn rs_10_a_labelled_file_stays_as_it_is() {
    let file = gzip(b"tar");
    let (headers, framing, bytes) = through("a.tar.gz", &file, 3).unwrap();
    assert_eq!(bytes, file);
    assert_eq!(framing, Framing::Length(9));
    assert!(!headers.contains_key(header::CONTENT_ENCODING));
}

#[test]
fn rs_10_a_doubled_coding_is_taken_off_once() {
    let file = gzip(b"tar");
    assert_eq!(through("a.tar.gz", &gzip(&file), 5).unwrap().2, file);
}

#[test]
fn rs_10_multi_member_and_mislabelled_bodies() {
    let members = [gzip(b"one"), gzip(b"two")].concat();
    assert_eq!(through("index", &members, 7).unwrap().2, b"onetwo");
    assert!(through("index", b"<html>", 7).is_err());
    assert_eq!(through("index", b"", 7).unwrap().2, b"");
    assert_eq!(through("a.tgz", b"<html>", 7).unwrap().2, b"<html>");
}

proptest! {
    #[test]
    fn rs_10_a_cut_never_ends_cleanly(body in prop::collection::vec(any::<u8>(), 1..2000), cut in 0.0..1.0f64, piece in 1usize..700) {
        let whole = gzip(&body);
        prop_assert_eq!(&through("index", &whole, piece).unwrap().2, &body);
        let kept = ((whole.len() as f64) * cut) as usize;
        // Nothing at all is no gzip stream that began.
        prop_assume!(kept > 0);
        prop_assert!(through("index", &whole[..kept], piece).is_err());
    }
}
