//! Challenges as registries send them, and as an attacker may.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

type Parsed<'a> = (&'a str, &'a [(&'a str, &'a str)]);

#[test]
fn parses() {
    let cases: &[(&str, &[Parsed<'_>])] = &[
        (
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            &[(
                "bearer",
                &[
                    ("realm", "https://auth.docker.io/token"),
                    ("service", "registry.docker.io"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            )],
        ),
        (
            r#"Basic realm="x", BEARER Realm = "y" , Service=z"#,
            &[("basic", &[("realm", "x")]), ("bearer", &[("realm", "y"), ("service", "z")])],
        ),
        (
            r#"Bearer realm="a\"b\\c",error="insufficient_scope""#,
            &[("bearer", &[("realm", r#"a"b\c"#), ("error", "insufficient_scope")])],
        ),
        ("Negotiate YWJj==, Basic realm=r", &[("negotiate", &[]), ("basic", &[("realm", "r")])]),
        ("Negotiate, Basic", &[("negotiate", &[]), ("basic", &[])]),
        (",, ,Basic", &[("basic", &[])]),
        (
            "Bearer realm=https://h:1/t?a=b,service=s",
            &[("bearer", &[("realm", "https://h:1/t?a=b"), ("service", "s")])],
        ),
        (r#"Bearer realm="open"#, &[("bearer", &[])]),
        (r#"realm="x""#, &[]),
        ("", &[]),
        ("=,=", &[]),
    ];
    for (value, want) in cases {
        let want: Vec<Challenge> = want
            .iter()
            .map(|(scheme, parameters)| Challenge {
                scheme: (*scheme).into(),
                parameters: parameters.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            })
            .collect();
        assert_eq!(parse(value), want, "{value}");
    }
}

#[test]
fn reads_several_headers_and_collects_scopes() {
    let mut headers = HeaderMap::new();
    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=a"));
    headers.append(
        WWW_AUTHENTICATE,
        HeaderValue::from_static(r#"Bearer realm="b",scope="z:1 a:2",scope="a:2""#),
    );
    let challenges = challenges(&headers);
    assert_eq!(challenges.len(), 2);
    let bearer = challenges.iter().find_map(BearerChallenge::of).unwrap();
    assert_eq!(bearer.scopes, ["a:2", "z:1"]);
    assert_eq!(bearer.service, None);
}

#[test]
fn floods_are_bounded() {
    assert_eq!(parse(&"Basic,".repeat(1000)).len(), MAX_CHALLENGES);
    let many = format!("Basic {}", "a=b,".repeat(1000));
    assert_eq!(parse(&many)[0].parameters.len(), MAX_PARAMETERS);
}

proptest! {
    #[test]
    fn never_panics_and_never_loops(value in "[ \t,=\"\\\\a-zé:/]{0,200}") {
        prop_assert!(parse(&value).len() <= MAX_CHALLENGES);
    }

    #[test]
    fn a_quoted_value_comes_back(value in "[ -~é]{0,60}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let parsed = parse(&format!("Bearer realm=\"{quoted}\",service=s"));
        prop_assert_eq!(parsed[0].parameter("realm"), Some(value.as_str()));
        prop_assert_eq!(parsed[0].parameter("service"), Some("s"));
    }
}
