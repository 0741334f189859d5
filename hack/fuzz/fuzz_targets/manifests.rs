//! Manifest files: total, positions lie in the file, no Secret's text is kept, and a broken document costs
//! only itself.
#![no_main]

use artifactapi_crds::manifests::{Body, line_of, parse};

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: good\ndata:\n  a: b\n";

libfuzzer_sys::fuzz_target!(|text: &str| {
    // YAML 1.1, which manifests are, knows more line breaks than "\n".
    let lines = 1 + text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    let manifests = parse("f.yaml", text);
    for (at, manifest) in manifests.iter().enumerate() {
        let origin = match manifest {
            Ok(manifest) => &manifest.origin,
            Err(error) => {
                assert!(!error.message.is_empty() && !error.rule.is_empty());
                &error.origin
            }
        };
        assert_eq!(origin.document, at + 1);
        assert!((1..=lines + 1).contains(&origin.line), "line {} of {lines}", origin.line);
        let Ok(manifest) = manifest else { continue };
        if let Body::Secret(_) = manifest.body {
            assert!(manifest.text.is_empty());
        }
        for field in ["spec", "spec.members[2]", "metadata.name", "spec.a[0].b"] {
            let line = line_of(&manifest.text, manifest.origin.line, field);
            assert!((manifest.origin.line..=lines).contains(&line), "{field} in line {line} of {lines}");
        }
    }
    // Another document before and behind it is read as if it stood alone.
    let among = parse("f.yaml", &format!("{GOOD}---\n{text}\n---\n{GOOD}"));
    let good = |at: Option<&Result<_, _>>| matches!(at, Some(Ok(_)));
    assert!(good(among.first()) && good(among.last()), "a neighbour is gone");
    assert_eq!(among.len(), manifests.len() + 2);
    for (alone, among) in manifests.iter().zip(&among[1..]) {
        assert_eq!(alone.is_ok(), among.is_ok());
    }
});
