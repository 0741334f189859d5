use std::collections::BTreeSet;

use artifactapi_model::{
    PackageType,
    repository::{Credentials, ReadAccess, RemoteSpec},
};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::{manifests::Origin, virtuals::Resolution};

mod bad;

fn load(files: &[(&str, &str)]) -> Loaded {
    Set::load(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

fn document(kind: &str, namespace: &str, name: &str, spec: &Value) -> String {
    let manifest = json!({
        "apiVersion": "artifactapi.io/v1alpha1",
        "kind": kind,
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    });
    format!("---\n{}", serde_yaml::to_string(&manifest).unwrap())
}

fn remote(name: &str, package_type: &str) -> String {
    document("Remote", "team", name, &json!({ "type": package_type, "baseURL": "https://h/" }))
}

fn found(loaded: &Loaded) -> Vec<(&str, &str)> {
    loaded.errors.iter().map(|problem| (problem.field.as_str(), problem.rule.as_str())).collect()
}

fn examples() -> Vec<(String, String)> {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let directory = std::path::Path::new(&root).join("examples");
    let mut files: Vec<(String, String)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_example_is_sound_and_every_type_has_one() {
    let files = examples();
    let loaded = Set::load(files.clone());
    assert_eq!(loaded.errors, []);
    let types: BTreeSet<PackageType> = loaded.remotes.iter().map(|remote| remote.package_type).collect();
    assert_eq!(types.len(), PackageType::ALL.len());
    let asks_for_power =
        |remote: &&Arc<RemoteSpec>| remote.docker.root_mirror || !remote.docker.mirror_for.is_empty();
    let asking = loaded.remotes.iter().find(asks_for_power);
    assert!(asking.is_none(), "whoever runs an operator has to allow nothing for the examples: {asking:?}");
    assert!(!loaded.virtuals.is_empty(), "there is one of several repositories behind one URL");
    let remotes = loaded.remotes.iter().map(|remote| &remote.name);
    let names: BTreeSet<_> = remotes.chain(loaded.virtuals.iter().map(|it| &it.name)).collect();
    for ((file, text), name) in files.iter().zip(names) {
        assert_eq!(*file, format!("{name}.yaml"));
        assert!(text.starts_with("# "), "{file} begins with what it is");
        assert!(text.contains("\n#\n#   "), "{file} has a command to try");
        assert!(text.contains("127.0.0.1:8000"), "{file} names the default address");
    }
}

#[test]
fn rs_132_what_is_sound_is_loaded_beside_what_is_not() {
    let loaded = load(&[
        ("a.yaml", &format!("{}{}", remote("one", "npm"), remote("two", "nothing"))),
        ("b.yaml", "kind: ["),
        ("c.yaml", &remote("three", "pypi")),
    ]);
    let names: Vec<&str> = loaded.remotes.iter().map(|remote| remote.name.as_str()).collect();
    assert_eq!(names, ["one", "three"]);
    assert_eq!(found(&loaded), [("spec.type", "enum"), ("", "yaml")]);
    assert_eq!(loaded.errors[0].origin, Origin { file: "a.yaml".into(), document: 2, line: 18 });
    let shown = loaded.errors[0].to_string();
    assert!(shown.starts_with("a.yaml:18: Remote team/two: spec.type: must be one of generic,"), "{shown}");
    assert_eq!(loaded.origins.len(), 3);
}

#[test]
fn every_error_of_a_manifest_is_reported_at_once() {
    let spec = json!({
        "type": "docker",
        "baseURL": "ftp://h/?q",
        "baseUrl": "https://h/",
        "mutableTTL": "30d",
        "patterns": ["("],
        "generic": {},
        "maxConcurrent": 0,
        "auth": { "secretRef": { "name": "nobody" } },
    });
    let loaded = load(&[("a.yaml", &document("Remote", "team", "Bad_Name", &spec))]);
    let mut paths: Vec<&str> = found(&loaded).into_iter().map(|(path, _)| path).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "metadata.name",
            "spec.auth.secretRef.name",
            "spec.baseURL",
            "spec.baseURL",
            "spec.baseUrl",
            "spec.generic",
            "spec.maxConcurrent",
            "spec.mutableTTL",
            "spec.patterns[0]",
        ],
        "{:#?}",
        loaded.errors
    );
}

#[test]
fn rs_132_a_name_belongs_to_its_first_claimant_whatever_the_kind_and_namespace() {
    let other = document("Local", "elsewhere", "one", &json!({ "type": "docker" }));
    let loaded = load(&[("a.yaml", &remote("one", "npm")), ("b.yaml", &other)]);
    assert_eq!((loaded.remotes.len(), loaded.locals.len()), (1, 0));
    assert_eq!(found(&loaded), [("metadata.name", "nameConflict"); 2]);
    let files: Vec<&str> = loaded.errors.iter().map(|problem| problem.origin.file.as_str()).collect();
    assert_eq!(files, ["a.yaml", "b.yaml"]);
    assert!(loaded.errors[1].message.contains("Remote team/one at a.yaml:2"), "{}", loaded.errors[1]);

    let robot = json!({ "grants": [{ "repositories": ["*"], "actions": ["pull"] }] });
    let robots = [document("Robot", "a", "one", &robot), document("Robot", "b", "one", &robot)].concat();
    let loaded = load(&[("a.yaml", &remote("one", "npm")), ("b.yaml", &robots)]);
    assert_eq!((loaded.robots.len(), loaded.errors.len()), (2, 0));
}

#[test]
fn a_mirrored_host_and_the_root_have_one_owner() {
    let docker = |name, docker: Value| {
        document(
            "Remote",
            "team",
            name,
            &json!({ "type": "docker", "baseURL": "https://h/", "docker": docker }),
        )
    };
    let text = [
        docker("a", json!({ "mirrorFor": ["docker.io", "quay.io"], "rootMirror": true })),
        docker("b", json!({ "mirrorFor": ["ghcr.io", "quay.io"], "rootMirror": true })),
        docker("c", json!({ "mirrorFor": ["ghcr.io"] })),
    ]
    .concat();
    let loaded = load(&[("a.yaml", &text)]);
    let names: Vec<&str> = loaded.remotes.iter().map(|remote| remote.name.as_str()).collect();
    assert_eq!(names, ["a", "c"], "b is refused whole, and claims nothing");
    let conflict = "mirrorConflict";
    assert_eq!(
        found(&loaded),
        [("spec.docker.mirrorFor[1]", conflict), ("spec.docker.rootMirror", conflict)]
    );
}

#[test]
fn a_virtual_knows_its_members() {
    let secret =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: team}\nstringData: {token: t}\n";
    let closed = json!({ "type": "helm", "baseURL": "https://h/", "auth": { "secretRef": { "name": "s" } } });
    let open = document("Virtual", "team", "open", &json!({ "type": "helm", "members": ["a"] }));
    let mixed = document(
        "Virtual",
        "team",
        "mixed",
        &json!({
            "type": "helm", "members": ["closed", "a"],
            "reserved": [{ "member": "closed", "patterns": ["corp-.*"] }],
        }),
    );
    // Virtuals may stand before what they name.
    let text = [&open, &mixed, &remote("a", "helm"), &document("Remote", "team", "closed", &closed), secret]
        .map(String::from);
    let loaded = load(&[("a.yaml", &text.concat())]);
    assert_eq!(loaded.errors, []);
    let reads: Vec<ReadAccess> = loaded.virtuals.iter().map(|one| one.read).collect();
    assert_eq!(reads, [ReadAccess::Anonymous, ReadAccess::Authenticated]);
    assert_eq!(loaded.virtuals[1].resolution, Resolution::Union);
    assert!(loaded.virtuals[1].reserved[0].patterns.matches("corp-x"));
    assert!(!loaded.virtuals[1].reserved[0].patterns.matches("my-corp-x"));
}

#[test]
fn a_broken_member_is_reported_once() {
    let broken = document("Remote", "team", "a", &json!({ "type": "npm", "baseURL": "nonsense" }));
    let text = broken + &document("Virtual", "team", "v", &json!({ "type": "npm", "members": ["a"] }));
    let loaded = load(&[("a.yaml", &text)]);
    assert_eq!(found(&loaded).iter().filter(|(path, _)| *path != "spec.baseURL").count(), 0);
    assert_eq!(loaded.virtuals.len(), 1);
}

#[test]
fn an_object_that_was_made_anew_may_have_another_type() {
    let file = |uid: &str, package_type: &str| {
        let text = remote("a", package_type).replace("  name: a\n", &format!("  name: a\n  uid: {uid}\n"));
        assert!(uid.is_empty() || text.contains("uid"), "{text}");
        vec![("a.yaml".to_owned(), text)]
    };
    let first = Set::load(file("one", "npm"));
    assert!(first.errors.is_empty(), "{:?}", first.errors);
    assert_eq!(Set::load_over(file("one", "pypi"), &first.stored).remotes.len(), 0);
    let second = Set::load_over(file("two", "pypi"), &first.stored);
    assert_eq!(second.remotes[0].package_type, PackageType::Pypi, "{:?}", second.errors);
}

#[test]
fn a_stored_type_does_not_change() {
    let first = load(&[("a.yaml", &remote("one", "npm"))]);
    let again = vec![("a.yaml".to_owned(), remote("one", "pypi"))];
    let second = Set::load_over(again, &first.stored);
    assert_eq!(found(&second), [("spec.type", "self == oldSelf")]);
    assert!(second.remotes.is_empty());
}

#[test]
fn only_what_changed_or_names_what_changed_is_checked_again() {
    let private = document(
        "Remote",
        "team",
        "private",
        &json!({ "type": "npm", "baseURL": "https://p.test/", "auth": { "secretRef": { "name": "s" } } }),
    );
    let secret = |token: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: team}}\nstringData: {{token: {token}}}\n"
        )
    };
    let open = |access: &str| {
        let spec = json!({ "type": "npm", "baseURL": "https://o.test/", "access": { "read": access } });
        document("Remote", "team", "open", &spec)
    };
    let virt = document("Virtual", "team", "v", &json!({ "type": "npm", "members": ["open"] }));
    let local = document("Local", "team", "l", &json!({ "type": "docker" }));
    let files = |open: &str, secret: &str| -> Vec<(String, String)> {
        let texts = [open, &private, &virt, &local, secret];
        texts
            .iter()
            .enumerate()
            .map(|(number, text)| (format!("{number}.yaml"), (*text).to_owned()))
            .collect()
    };
    let first = Set::load(files(&open("anonymous"), &secret("one")));
    assert_eq!((first.checked, first.errors.as_slice()), (4, [].as_slice()));
    let token = |loaded: &Loaded| match &loaded.remotes[1].credentials {
        Some(Credentials::Bearer(token)) => token.expose_secret().to_owned(),
        other => panic!("{other:?}"),
    };
    for (open, secret, checked) in [
        (open("anonymous"), secret("one"), 0),
        // The Remote that names it.
        (open("anonymous"), secret("two"), 1),
        // It and the Virtual that has it as a member.
        (open("authenticated"), secret("one"), 2),
        // It is broken now; the Virtual's member is there.
        (open("nobody"), secret("one"), 1),
    ] {
        let fresh = Set::load(files(&open, &secret));
        let again = Set::load_over(files(&open, &secret), &first.stored);
        assert_eq!(again.checked, checked, "{open}{secret}");
        assert_eq!(again.errors, fresh.errors);
        assert_eq!(again.remotes.len(), fresh.remotes.len());
        if fresh.remotes.len() == 2 {
            assert_eq!(token(&again), token(&fresh));
        }
        assert_eq!((again.virtuals.len(), again.locals.len()), (1, 1));
    }
}

#[test]
fn what_was_unsound_in_between_is_checked_again() {
    let sound = vec![("a.yaml".to_owned(), remote("one", "npm"))];
    let first = Set::load(sound.clone());
    let broken = vec![("a.yaml".to_owned(), remote("one", "pypi"))];
    let mut second = Set::load_over(broken, &first.stored);
    second.stored.keep(&first.stored, &second.origins.keys().next().unwrap().clone());
    let third = Set::load_over(sound, &second.stored);
    assert_eq!((third.checked, third.remotes.len()), (1, 1));
}

#[test]
fn a_second_secret_of_a_name_is_reported_and_not_used() {
    let secret = |token| {
        format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{token: {token}}}\n")
    };
    let loaded = load(&[("a.yaml", &(secret("first") + &secret("second")))]);
    assert_eq!(found(&loaded), [("metadata.name", "duplicate")]);
    assert_eq!(loaded.errors[0].origin.document, 2);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "docker",
            "npm",
            "https://h/",
            "https://u:p@h",
            "1h",
            "0s",
            "30d",
            "10Gi",
            "public",
            "^(a|b)$",
            "(",
            "[::1]:80",
            "10.0.0.0/8",
            "authenticated",
            "r",
            "union",
            "5.0",
            "pull",
            "*",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field_name(), inner), 0..4)
                .prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    })
}

fn field_name() -> impl Strategy<Value = String> {
    let known = vec![
        "type",
        "baseURL",
        "immutableTTL",
        "mutableTTL",
        "patterns",
        "blocklist",
        "docker",
        "banTags",
        "mirrorFor",
        "generic",
        "auth",
        "secretRef",
        "name",
        "tls",
        "caSecretRef",
        "fileHosts",
        "egress",
        "allowCIDRs",
        "proxyURL",
        "timeouts",
        "connect",
        "maxConcurrent",
        "access",
        "read",
        "retention",
        "maxBytes",
        "members",
        "reserved",
        "resolution",
        "quota",
        "bytes",
        "terraform",
        "protocols",
        "grants",
        "repositories",
        "actions",
        "tokenTTL",
    ];
    prop_oneof![9 => prop::sample::select(known).prop_map(String::from), 1 => "\\PC{0,6}"]
}

proptest! {
    #[test]
    fn rs_132_no_manifest_makes_validation_panic(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        name in "\\PC{0,8}|[a-z]{1,5}",
        spec in prop::collection::vec((field_name(), json_value()), 0..8),
        metadata in json_value(),
        plain in any::<bool>(),
    ) {
        let spec: Value = spec.into_iter().collect::<serde_json::Map<_, _>>().into();
        let metadata = if plain { json!({ "name": name }) } else { metadata };
        let manifest = json!({
            "apiVersion": "artifactapi.io/v1alpha1", "kind": kind.as_str(), "metadata": metadata, "spec": spec,
        });
        let loaded = load(&[("f.yaml", &serde_yaml::to_string(&manifest).unwrap())]);
        let sound = loaded.remotes.len() + loaded.virtuals.len() + loaded.locals.len() + loaded.robots.len();
        prop_assert!(sound + loaded.errors.len() >= 1, "neither loaded nor reported");
        // Also without the schema in front, as an operator with an older schema might see it.
        let _ = crate::object::read(kind, &manifest, &Repositories::default(), &References::default());
    }
}
