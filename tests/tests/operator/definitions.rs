//! The definitions as `kubectl` shows them, and the examples.

use artifactapi_tests::kubernetes::Object;
use serde_json::json;

use crate::{
    Ending,
    bench::{Bench, crds},
};

const PLURALS: [&str; 4] = ["locals", "remotes", "robots", "virtuals"];

pub(crate) async fn explained(bench: &Bench) -> Ending {
    let names = bench.kubectl(&["api-resources", "--categories=artifactapi", "--namespaced", "-o", "name"]);
    let mut names: Vec<&str> = names.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, PLURALS.map(|plural| format!("{plural}.artifactapi.io")));

    // Each short name is understood; so is the category.
    let namespace = bench.namespace("explained").await;
    for name in ["rem", "virt", "loc", "rob", "artifactapi"] {
        bench.kubectl(&["get", name, "-n", &namespace]);
    }
    let explained = bench.kubectl(&["explain", "remotes.spec.baseURL"]);
    for word in ["GROUP:      artifactapi.io", "FIELD: baseURL <string>", "Upstream root: http or https"] {
        assert!(explained.contains(word), "{explained}");
    }
    // No field of any kind is left without a word.
    for plural in PLURALS {
        let explained = bench.kubectl(&["explain", &format!("{plural}.spec"), "--recursive"]);
        assert!(explained.contains("FIELDS:"), "{explained}");
    }
    let again = bench.kubectl(&["apply", "--server-side", "-f", &crds("generated").to_string_lossy()]);
    assert_eq!(again.matches("serverside-applied").count(), 4, "{again}");
    for plural in PLURALS {
        let name = format!("{plural}.artifactapi.io");
        let definition = bench.admin().get(&Object::new("CustomResourceDefinition", "", &name)).await;
        let definition = definition.expect("it was just applied");
        assert_eq!(definition["metadata"]["generation"], 1, "what is installed is not changed by itself");
        for condition in ["NamesAccepted", "Established"] {
            let conditions = definition["status"]["conditions"].as_array().expect("conditions");
            let holds = |one: &serde_json::Value| one["type"] == condition && one["status"] == "True";
            assert!(conditions.iter().any(holds), "{name}: {conditions:?}");
        }
        let odd = |one: &serde_json::Value| one["type"] == "NonStructuralSchema" && one["status"] == "True";
        assert!(
            !definition["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(odd)),
            "{name}"
        );
    }
    Ok(())
}

pub(crate) async fn columns(bench: &Bench) -> Ending {
    let namespace = bench.namespace("columns").await;
    let api = bench.admin();
    let remote = json!({
        "apiVersion": "artifactapi.io/v1alpha1", "kind": "Remote",
        "metadata": { "name": "npm", "namespace": namespace },
        "spec": { "type": "npm", "baseURL": "https://registry.yarnpkg.com/" },
    });
    api.apply(&remote).await;
    let condition = |name: &str, status: &str| {
        json!({
            "type": name, "status": status, "reason": "Test", "message": format!("{name} in a sentence"),
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let status = json!({ "status": {
        "observedGeneration": 1,
        "url": "https://artifacts.example/api/v1/remote/npm/",
        "conditions": [condition("Ready", "True"), condition("UpstreamReachable", "False")],
    } });
    api.merge(&Object::of(&remote), "status", &status).await.ok();

    let table = |more: &[&str]| {
        let text = bench.kubectl(&[&["get", "remotes", "-n", &namespace], more].concat());
        let rows: Vec<Vec<String>> =
            text.lines().map(|line| line.split("  ").map(|cell| cell.trim().to_owned()).collect()).collect();
        let filled = |row: &Vec<String>| row.iter().filter(|cell| !cell.is_empty()).cloned().collect();
        rows.iter().map(filled).collect::<Vec<Vec<String>>>()
    };
    let short = table(&[]);
    assert_eq!(short[0], ["NAME", "TYPE", "UPSTREAM", "READY", "REASON", "REACHABLE", "AGE"]);
    assert_eq!(short[1][..6], ["npm", "npm", "https://registry.yarnpkg.com/", "True", "Test", "False"]);
    let wide = table(&["-o", "wide"]);
    assert_eq!(
        wide[0],
        ["NAME", "TYPE", "UPSTREAM", "READY", "REASON", "REACHABLE", "URL", "MESSAGE", "AGE"]
    );
    assert!(wide[1].contains(&"Ready in a sentence".to_owned()), "{wide:?}");

    // What a person who waits in a script uses.
    bench.kubectl(&["wait", "--for=condition=Ready", "--timeout=5s", "-n", &namespace, "remote/npm"]);
    let of_type =
        bench.kubectl(&["get", "remotes", "-n", &namespace, "--field-selector=spec.type=npm", "-o", "name"]);
    assert_eq!(of_type.trim(), "remote.artifactapi.io/npm");
    let none =
        bench.kubectl(&["get", "remotes", "-n", &namespace, "--field-selector=spec.type=pypi", "-o", "name"]);
    assert_eq!(none.trim(), "");
    Ok(())
}

pub(crate) async fn examples(bench: &Bench) -> Ending {
    let namespace = bench.namespace("examples").await;
    let directory = crds("examples");
    let apply = || {
        let mut command = bench.kubernetes().kubectl();
        command.args(["apply", "-n", &namespace, "-f"]).arg(&directory);
        let output = command.output().expect("an executable kubectl");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let files = std::fs::read_dir(&directory).expect("examples").count();
    let (succeeded, told, warned) = apply();
    assert!(succeeded, "{warned}");
    assert_eq!(warned, "", "a warning is the first thing a newcomer would see");
    assert_eq!(told.lines().filter(|line| line.ends_with(" created")).count(), files, "{told}");
    let (_, again, _) = apply();
    assert_eq!(again.lines().filter(|line| line.ends_with(" unchanged")).count(), files, "{again}");
    Ok(())
}
