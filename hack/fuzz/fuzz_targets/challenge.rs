//! `WWW-Authenticate`: what is read, written again, is read as the same; a well-formed challenge survives
//! whatever stands behind it (RFC 9110, 11.6.1).
#![no_main]

#[path = "../../../proxy/upstream/src/challenge.rs"]
#[allow(dead_code)]
mod challenge;

use challenge::{Challenge, parse};

/// The one unambiguous way to write challenges: every value quoted, everything else escaped.
fn written(challenges: &[Challenge]) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
    let one = |challenge: &Challenge| {
        let parameters: Vec<String> = challenge
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", quoted(value)))
            .collect();
        format!("{} {}", challenge.scheme, parameters.join(", "))
    };
    challenges.iter().map(one).collect::<Vec<_>>().join(", ")
}

libfuzzer_sys::fuzz_target!(|value: &str| {
    let challenges = parse(value);
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    for challenge in &challenges {
        assert!(!challenge.scheme.is_empty() && challenge.scheme.chars().all(is_token));
        assert_eq!(challenge.scheme, challenge.scheme.to_ascii_lowercase());
        for (name, _) in &challenge.parameters {
            assert!(!name.is_empty() && name.chars().all(is_token) && *name == name.to_ascii_lowercase());
        }
    }
    // Unescaping only shortens: nothing is in the challenges that was not in the header.
    let length: usize = challenges
        .iter()
        .flat_map(|c| c.parameters.iter().map(|(n, v)| n.len() + v.len()).chain([c.scheme.len()]))
        .sum();
    assert!(length <= value.len());
    assert_eq!(parse(&written(&challenges)), challenges, "{}", written(&challenges));

    let bearer = "Bearer realm=\"https://auth.example/token\", service=\"r, \\\"x\\\"\", scope=\"a:b:pull\"";
    let want = parse(bearer);
    assert_eq!(want[0].parameter("service"), Some("r, \"x\""));
    if value.trim_start().starts_with('=') {
        return; // "Basic =x" is a parameter called Basic (RFC 9110, 11.2), and rightly part of what is before it.
    }
    let behind = parse(&format!("{bearer}, Basic {value}"));
    assert_eq!(behind[0], want[0], "a challenge depends on what follows it");
    let before = parse(&format!("Negotiate, {bearer}"));
    assert_eq!(before[1], want[0]);
});
