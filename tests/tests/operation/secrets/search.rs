//! Canary secrets, and the search for them in everything that a person or a disk gets to see.

use std::{collections::BTreeMap, fs, path::Path};

use artifactapi_model::Digest;
use artifactapi_tests::http::{self, Fetched};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use reqwest::Method;

/// The canaries of one test, by what each of them is.
#[derive(Default)]
pub(crate) struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    /// The canary of `what`: a word that occurs nowhere else. It consists of letters and digits, so that
    /// escaping for JSON, a URL or a log leaves it as it is.
    pub(crate) fn of(&mut self, what: &'static str) -> String {
        let word = || format!("cnry{}", &Digest::of(what.as_bytes()).to_hex()[..20]);
        self.0.entry(what).or_insert_with(word).clone()
    }

    /// Takes a text that somebody else has made.
    pub(crate) fn add(&mut self, what: &'static str, text: &str) {
        self.0.insert(what, text.to_owned());
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(what, text)| (*what, text.as_str()))
    }

    /// What occurs where, in any form.
    pub(crate) fn found_in(&self, places: &[Place]) -> Vec<String> {
        let mut found = Vec::new();
        for (what, text) in self.all() {
            for (form, needle) in forms(text) {
                let hits = places.iter().filter(|place| place.holds(&needle));
                found.extend(hits.map(|place| format!("{what} ({form}) in {}", place.name)));
            }
        }
        found
    }
}

/// How a text may have been written: as it is, with every byte percent-encoded, in hex, and inside something
/// longer that is base64, where its first byte may be the first, second or third of a group.
pub(crate) fn forms(text: &str) -> Vec<(&'static str, String)> {
    let percent = |byte: u8| format!("%{byte:02X}");
    let mut forms = vec![
        ("plain", text.to_owned()),
        ("percent-encoded", text.bytes().map(percent).collect()),
        ("hex", hex::encode(text)),
    ];
    for (form, shift) in [("base64", 0), ("base64 + 1", 1), ("base64 + 2", 2)] {
        let packed = STANDARD_NO_PAD.encode(["\0".repeat(shift).as_str(), text].concat());
        // The characters at both ends also depend on the neighbours.
        let begin = (shift * 8).div_ceil(6);
        let end = (shift + text.len()) * 8 / 6;
        forms.push((form, packed[begin..end].to_owned()));
    }
    forms
}

/// Something that was written somewhere.
pub(crate) struct Place {
    pub(crate) name: String,
    /// In lower case, since header names and hex digits come in both; what is no text is of no matter.
    text: String,
}

impl Place {
    pub(crate) fn new(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        let text = String::from_utf8_lossy(bytes.as_ref()).to_ascii_lowercase();
        Place { name: name.into(), text }
    }

    /// Whether `needle` occurs.
    pub(crate) fn holds(&self, needle: &str) -> bool {
        self.text.contains(&needle.to_ascii_lowercase())
    }
}

/// Every file below `dir`.
pub(crate) fn files(dir: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            places.extend(files(&path));
        } else {
            places.push(Place::new(path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
    places
}

/// A client that keeps everything it is answered.
#[derive(Default)]
pub(crate) struct Listener(pub(crate) Vec<Place>);

impl Listener {
    /// What came back; `None` where the connection broke off before the answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Option<Fetched> {
        let answer = http::try_request(method.clone(), url, headers).await.ok()?;
        let mut bytes = Vec::new();
        for (name, value) in &answer.headers {
            bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
        }
        bytes.extend_from_slice(&answer.body);
        self.0.push(Place::new(format!("the answer to {method} {url}"), bytes));
        Some(answer)
    }
}

#[test]
fn every_form_is_found_in_what_holds_it() {
    let text = "cnry0123456789abcdef";
    let encoded = |n: usize| STANDARD_NO_PAD.encode(format!("{}{text}:tail", "u".repeat(n)));
    let mut written = vec![format!("a {text} b"), hex::encode_upper(format!("a{text}b"))];
    written.push(text.bytes().map(|byte| format!("%{byte:02x}")).collect());
    written.extend((0..6).map(encoded));
    let mut canaries = Canaries::default();
    canaries.add("it", text);
    for line in written {
        assert_eq!(canaries.found_in(&[Place::new("here", line.clone())]).len(), 1, "{line}");
    }
    assert!(canaries.found_in(&[Place::new("here", "cnry0123456789abcdee")]).is_empty());
}
