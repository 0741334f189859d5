use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn copy(text: &[u8]) -> Result<Vec<u8>, IndexError> {
    let mut input = text;
    let mut out = Vec::new();
    let mut reader = Reader::new(&mut input)?;
    reader.value(&mut out)?;
    reader.end(&mut out)?;
    Ok(out)
}

#[test]
fn a_value_is_copied_byte_for_byte() {
    for text in [
        "{ \"a\" : [1, -2.5e+3,true,\tnull,{}, [ ] ] ,\r\n \"b\\\"\":\"\\\\\" }\n",
        "[]",
        "\"x\"",
        " 12 ",
        "{\"k\":{\"k\":[{\"k\":\"\\u00e9 \u{e9}\"}]}}",
    ] {
        assert_eq!(String::from_utf8(copy(text.as_bytes()).unwrap()).unwrap(), text);
    }
}

#[test]
fn what_is_no_json_is_an_error() {
    for text in [
        "",
        "{",
        "[1",
        "\"x",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "[1 2]",
        "[1,]",
        "{\"a\":1,}",
        "{]",
        "[}",
        "1 2",
        "nul",
        "01",
        "<html>",
        "[,1]",
        "{,}",
        "\"\\",
        "{\"a\" 1}",
        "{\"a\":1:2}",
    ] {
        assert!(copy(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn rs_63_deep_nesting_ends_in_an_error() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(copy(deep.as_bytes()), Err(IndexError::TooLarge(_))));
    let long = format!("\"{}\"", "x".repeat(100));
    let mut input = long.as_bytes();
    assert!(matches!(Reader::new(&mut input).unwrap().raw(50), Err(IndexError::TooLarge(_))));
}

#[test]
fn members_are_visited_with_decoded_keys() {
    let mut input = &br#"{"vers\u0069ons":[1, 2],"x": {}}"#[..];
    let mut seen = Vec::new();
    let mut out = Vec::new();
    Reader::new(&mut input)
        .unwrap()
        .object(&mut out, |reader, out, key| {
            seen.push(key.to_owned());
            if key == "x" {
                out.write_all(b"true")?;
                return reader.value(&mut std::io::sink());
            }
            reader.array(out, |reader, out| reader.value(out))
        })
        .unwrap();
    assert_eq!(seen, ["versions", "x"]);
    assert_eq!(out, br#"{"vers\u0069ons":[1, 2],"x": true}"#);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Gives a byte a read.
struct Dripping<'d>(&'d [u8]);

impl io::Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (first, rest) = self.0.split_at(self.0.len().min(buffer.len()).min(1));
        buffer[..first.len()].copy_from_slice(first);
        self.0 = rest;
        Ok(first.len())
    }
}

#[test]
fn a_byte_order_mark_that_comes_in_pieces_is_one() {
    let mut input = io::BufReader::with_capacity(1, Dripping("\u{feff}{\"a\":1}".as_bytes()));
    let mut out = Vec::new();
    let mut reader = Reader::new(&mut input).unwrap();
    reader.value(&mut out).unwrap();
    reader.end(&mut out).unwrap();
    assert_eq!(out, b"{\"a\":1}");
}

/// Visits every value there is; strings become others or stay.
fn visit(reader: &mut Reader<'_>, out: &mut dyn Write) -> Result<(), IndexError> {
    match reader.peek(out)? {
        b'{' => reader.object(out, |reader, out, key| {
            // Some members are passed over whole.
            if key.len() % 3 == 2 { reader.value(out) } else { visit(reader, out) }
        }),
        b'[' => reader.array(out, visit),
        b'"' => reader.replace_text(out, |text| (text.len() % 2 == 0).then(|| format!("{text}\"\n\\"))),
        _ => reader.value(out),
    }
}

/// What visiting the document that `input` gives leaves, or what is wrong with it.
fn visited(mut input: impl BufRead) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut visit = || {
        let mut reader = Reader::new(&mut input)?;
        visit(&mut reader, &mut out)?;
        reader.end(&mut out)
    };
    visit().map_err(|error| error.to_string())?;
    Ok(out)
}

/// What copying the value that `input` gives leaves, or what is wrong with it.
fn copied(mut input: impl BufRead) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut copy = || {
        let mut reader = Reader::new(&mut input)?;
        reader.value(&mut out)?;
        reader.end(&mut out)
    };
    copy().map_err(|error| error.to_string())?;
    Ok(out)
}

proptest! {
    #[test]
    fn what_comes_in_pieces_is_what_comes_whole(
        value in any_json(),
        pretty: bool,
        damage in prop::option::of((any::<prop::sample::Index>(), "[\\[\\]{}\",:a1e.t \\\\\\x01é-]{0,2}")),
        length in 1..40_usize,
    ) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let mut text = text.unwrap().into_bytes();
        if let Some((at, damage)) = damage {
            let at = at.index(text.len());
            text.splice(at..=at, damage.bytes());
        }
        let dripping = || io::BufReader::with_capacity(length, Dripping(&text));
        prop_assert_eq!(copied(&*text), copied(dripping()));
        prop_assert_eq!(visited(&*text), visited(dripping()));
    }

    #[test]
    fn every_document_survives(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        prop_assert_eq!(copy(&text).unwrap(), text);
    }

    #[test]
    fn garbage_never_panics(text in "[\\[\\]{}\",:a1 \\\\]{0,40}") {
        let valid = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        if valid {
            prop_assert!(copy(text.as_bytes()).is_ok());
        } else if !text.contains('\\') {
            prop_assert!(copy(text.as_bytes()).is_err());
        }
    }
}
