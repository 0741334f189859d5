use super::*;

const FILE: &str = "\
# A comment in front of everything.
---
# A comment in front of a document.

apiVersion: artifactapi.io/v1alpha1
kind: Remote
metadata:
  name: one
---
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: team}
data: {a: aHVudGVyMg==, both: eA==}
stringData:
  both: wins
--- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {ca.crt: pem}}
---
kind: Remote
apiVersion: artifactapi.io/v1alpha1
  metadata: oops
--- # last
apiVersion: artifactapi.io/v1alpha1
kind: Local
metadata: {name: last}
";

#[test]
fn documents_are_split_numbered_and_read_apart() {
    let documents = parse("f.yaml", FILE);
    let places: Vec<(usize, usize)> = documents
        .iter()
        .map(|document| match document {
            Ok(manifest) => (manifest.origin.document, manifest.origin.line),
            Err(error) => (error.origin.document, error.origin.line),
        })
        .collect();
    assert_eq!(places[..3], [(1, 5), (2, 11), (3, 17)]);
    assert_eq!((places[3].0, places[4]), (4, (5, 23)));
    let names: Vec<String> = documents.iter().flatten().map(|manifest| manifest.object.to_string()).collect();
    assert_eq!(names, ["Remote default/one", "Secret team/s", "ConfigMap default/c", "Local default/last"]);
}

#[test]
fn a_syntax_error_costs_one_document_and_names_its_line() {
    let documents = parse("f.yaml", FILE);
    let error = documents[3].as_ref().unwrap_err();
    assert_eq!((error.rule, error.origin.file.as_str()), ("yaml", "f.yaml"));
    assert!((19..=21).contains(&error.origin.line), "{error:?}");
    assert!(documents[4].is_ok());
}

#[test]
fn secrets_are_decoded_and_never_shown() {
    let documents = parse("f.yaml", FILE);
    let Body::Secret(secret) = &documents[1].as_ref().unwrap().body else { panic!("a Secret is expected") };
    assert_eq!(secret.text("a"), Ok("hunter2"));
    assert_eq!(secret.text("both"), Ok("wins"));
    let shown = format!("{:?}", documents[1]);
    assert!(
        !shown.contains("hunter2") && !shown.contains("wins") && !shown.contains("aHVudGVyMg"),
        "{shown}"
    );
}

#[test]
fn what_is_no_manifest_says_what_would_be() {
    for (text, field, rule, words) in [
        ("just text", "", "yaml", "apiVersion and kind"),
        ("[1, 2]", "", "yaml", "apiVersion and kind"),
        ("a: 1\na: 2", "", "yaml", "duplicate"),
        ("1: a", "", "yaml", "not text"),
        ("a: !tag b", "", "yaml", "tag"),
        ("a: .inf", "", "yaml", "infinite"),
        ("a: *nowhere", "", "yaml", "anchor"),
        ("a: [", "", "yaml", "not valid YAML"),
        ("metadata: {}", "kind", "kind", "Remote, Virtual, Local and Robot"),
        ("kind: Remote", "apiVersion", "kind", "artifactapi.io/v1alpha1"),
        ("{kind: Deployment, apiVersion: apps/v1}", "kind", "kind", "Remote, Virtual, Local and Robot"),
        ("{kind: Remote, apiVersion: v1}", "apiVersion", "kind", "must be artifactapi.io/v1alpha1"),
        ("{kind: Secret, apiVersion: v2}", "apiVersion", "kind", "must be v1"),
        ("{kind: Secret, apiVersion: v1}", "metadata.name", "required", "required"),
        (
            "{kind: Secret, apiVersion: v1, metadata: {name: s}, data: {a: 'p w!'}}",
            "data.a",
            "secret",
            "base64",
        ),
        (
            "{kind: Secret, apiVersion: v1, metadata: {name: s}, stringData: {a: 1}}",
            "stringData.a",
            "secret",
            "quotes",
        ),
        ("{kind: ConfigMap, apiVersion: v1, metadata: {name: s}, data: [a]}", "data", "configMap", "map"),
    ] {
        let documents = parse("f.yaml", text);
        assert_eq!(documents.len(), 1, "{text}");
        let error = documents.into_iter().next().unwrap().unwrap_err();
        assert_eq!((error.field.as_str(), error.rule), (field, rule), "{text}: {error:?}");
        assert!(error.message.contains(words), "{text}: {}", error.message);
    }
    for empty in ["", "\n\n", "# only a comment", "---\n---\n", "---\n...\n", "\u{feff}# comment\n"] {
        assert!(parse("f.yaml", empty).is_empty(), "{empty:?}");
    }
}

#[test]
fn rs_37_a_yaml_error_never_quotes_the_document() {
    for value in [
        "!!int s3cret",
        "!!bool 's3\"cret'",
        "!!float \"s3`cret\"",
        "{s3cret: 1, s3cret: 2}",
        "*s3cret",
        "!s3cret x",
    ] {
        let text = format!("kind: Secret\napiVersion: v1\nstringData:\n  password: {value}\n");
        let error = parse("f.yaml", &text).into_iter().next().unwrap().unwrap_err();
        assert_eq!(error.rule, "yaml", "{value}");
        assert!(!error.message.contains("s3") && !error.message.contains("cret"), "{}", error.message);
    }
}

#[test]
fn deep_nesting_and_aliases_end_in_an_error() {
    let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(parse("f.yaml", &deep)[0].is_err());
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for level in 1..40 {
        let inner = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![inner; 9].join(",")));
    }
    assert!(parse("f.yaml", &bomb)[0].is_err());
}

#[test]
fn a_field_has_a_line() {
    let text = "\
kind: Virtual
metadata:
  name: v   # spec:
  labels:
    spec: no
spec:
  type: npm
  members:
    - a

    - b
  reserved:
  - member: a
    patterns:
      - x
  access: {read: anonymous}
";
    for (path, want) in [
        ("metadata.name", 12),
        ("spec", 15),
        ("spec.type", 16),
        ("spec.members", 17),
        ("spec.members[0]", 18),
        ("spec.members[1]", 20),
        ("spec.members[9]", 17),
        ("spec.reserved[0]", 22),
        ("spec.reserved[0].member", 22),
        ("spec.reserved[0].patterns[0]", 24),
        ("spec.access.read", 25),
        ("spec.missing", 15),
        ("", 10),
        ("nothing.at.all", 10),
    ] {
        assert_eq!(line_of(text, 10, path), want, "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\PC|\n|---|: |- |&a|\\*a|!t |[{}\\[\\]]){0,80}", path in "[a-c.\\[\\]0-9]{0,12}") {
        for manifest in parse("f.yaml", &text).into_iter().flatten() {
            let _ = manifest.object.to_string();
        }
        let _ = line_of(&text, 1, &path);
    }
}

#[test]
fn a_manifest_is_read_again_from_its_json() {
    let text = "apiVersion: artifactapi.io/v1alpha1\nkind: Remote\nmetadata: {name: a}\n\
                spec: {type: npm, baseURL: \"https://a.test/\"}\n---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: n}\nstringData: {password: \"ü:\\n\"}\n---\n\
                apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {ca.crt: x}\n";
    for manifest in parse("a.yaml", text) {
        let manifest = manifest.unwrap();
        let json = manifest.to_json();
        let [again] = &parse("json", &json)[..] else { panic!("one document: {json}") };
        let again = again.as_ref().unwrap();
        assert_eq!(again.object, manifest.object);
        assert_eq!(again.to_json(), json);
        match (&manifest.body, &again.body) {
            (Body::Custom(_, one), Body::Custom(_, two)) => assert_eq!(one, two),
            (Body::Secret(one), Body::Secret(two)) => {
                assert_eq!(one.text("password").unwrap(), "ü:");
                assert_eq!(two.text("password").unwrap(), "ü:");
            }
            (Body::ConfigMap(one), Body::ConfigMap(two)) => assert_eq!(one.data, two.data),
            bodies => panic!("{bodies:?}"),
        }
    }
}
