//! What createrepo_c and dnf make of the same members.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use super::*;

/// Whether `program` is there; else says which test is skipped, or fails where tools are required.
fn is_there(program: &str, test: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return true;
    }
    let required = env::var_os("ARTIFACTAPI_REQUIRE_SERVICES").is_some();
    assert!(!required, "{program} is not installed, and {test} needs it");
    eprintln!("SKIPPED {test}: {program} is not installed");
    false
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn write<'a>(directory: &Path, files: impl IntoIterator<Item = (&'a String, &'a Vec<u8>)>) {
    for (path, body) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, body).unwrap();
    }
}

/// Every package's identity and checksum.
fn packages(primary: &[u8]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let input = &mut &primary[..];
    primary::packages(&mut *crate::inflate::open(input).unwrap(), &mut |_| Ok(()), &mut |package| {
        let [epoch, version, release] = package.version.unwrap();
        found.insert(
            [package.name, package.arch, package.checksum]
                .into_iter()
                .flatten()
                .chain([epoch, version, release])
                .collect(),
        );
        Ok(())
    })
    .unwrap();
    found
}

fn only(directory: &Path, end: &str) -> Vec<u8> {
    let mut entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    fs::read(entries.find(|path| path.to_string_lossy().ends_with(end)).unwrap()).unwrap()
}

/// Some of everything: shared and own names, versions, epochs and architectures.
fn members() -> Vec<Vec<Package>> {
    let one = vec![
        package("a", "1"),
        package("a", "2"),
        package("b", "1"),
        Package { arch: "noarch", ..package("c", "1") },
    ];
    let two = vec![
        Package { note: "two", ..package("a", "1") },
        Package { epoch: "1", ..package("a", "1") },
        package("a", "3"),
        package("c", "1"),
        package("d", "1"),
    ];
    vec![one, two, vec![Package { note: "three", ..package("d", "1") }, package("e", "1")]]
}

/// Those members with everything that is united, one of its own each.
fn furnished() -> Vec<Fake> {
    let build = |(place, packages): (usize, &Vec<Package>)| {
        let update = format!(
            "<update from='x' status='stable' type='security' version='1'><id>ADV-{place}</id><title>t</title>\
             <issued date='2024-01-01 00:00:00'/><description>d</description><pkglist><collection short='c'>\
             <name>c</name><package name='b' version='1' release='' epoch='0' arch='x86_64' src='b.src.rpm'>\
             <filename>b-0:1.x86_64.rpm</filename></package></collection></pkglist></update>"
        );
        let group = format!(
            "<group><id>group-{place}</id><name>Group {place}</name><description/><default>true</default>\
             <uservisible>true</uservisible><packagelist><packagereq type='mandatory'>a</packagereq></packagelist></group>"
        );
        let module = format!(
            "---\ndocument: modulemd\nversion: 2\ndata:\n  name: module{place}\n  stream: 1.10\n  version: 8010\n  \
             context: abcd\n  arch: x86_64\n  summary: A module\n  description: A module\n  \
             license:\n    module: [MIT]\n...\n"
        );
        Repository::of(packages)
            .with("updateinfo", format!("<updates>{update}</updates>"))
            .with("group", format!("<comps>{group}</comps>"))
            .with("modules", module)
            .member(&format!("m{place}"))
    };
    members().iter().enumerate().map(build).collect()
}

#[test]
fn the_packages_are_those_of_mergerepo_c() {
    if !is_there("mergerepo_c", "the_packages_are_those_of_mergerepo_c") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    let built = build(&members(), "");
    let mut arguments = vec!["--all".to_owned(), "--no-database".into(), "--outputdir".into(), at("out")];
    arguments.extend(["--compress-type".to_owned(), "gz".into()]);
    for member in &built {
        write(&scratch.path().join(&member.name), &member.documents);
        arguments.extend(["--repo".to_owned(), at(&member.name)]);
    }
    run("mergerepo_c", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let theirs = packages(&only(&scratch.path().join("out/repodata"), "-primary.xml.gz"));
    let got = merge(&furnished(), &Table::default()).unwrap();
    write(&scratch.path().join("ours"), &got.files);
    let ours = packages(&only(&scratch.path().join("ours/repodata"), "-primary.xml.gz"));
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 9);
    // Theirs of ours alone is ours again: createrepo_c reads every document of it.
    run(
        "mergerepo_c",
        &[
            "--all",
            "--no-database",
            "--compress-type",
            "gz",
            "--outputdir",
            &at("again"),
            "--repo",
            &at("ours"),
        ],
    );
    assert_eq!(packages(&only(&scratch.path().join("again/repodata"), "-primary.xml.gz")), ours);
}

#[test]
fn dnf_finds_every_package_where_it_is_listed() {
    if !is_there("dnf", "dnf_finds_every_package_where_it_is_listed") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    let got = merge(&furnished(), &Table::default()).unwrap();
    write(&scratch.path().join("ours"), &got.files);
    let dnf = |arguments: &[&str]| {
        let options = [
            "--quiet".to_owned(),
            format!("--installroot={}", at("root")),
            "--releasever=1".to_owned(),
            "--forcearch=x86_64".to_owned(),
            "--setopt=reposdir=/dev/null".to_owned(),
            format!("--setopt=cachedir={}", at("cache")),
            format!("--repofrompath=ours,file://{}", at("ours")),
            "--repo=ours".to_owned(),
        ];
        run("dnf", &options.iter().map(String::as_str).chain(arguments.iter().copied()).collect::<Vec<_>>())
    };
    let found = dnf(&["repoquery", "--queryformat=%{location}"]);
    let found: BTreeSet<_> = found.lines().filter(|line| line.contains(".rpm")).collect();
    assert_eq!(found, got.listed.keys().map(String::as_str).collect());
    let files = dnf(&["repoquery", "--list", "e"]);
    assert!(files.contains("/usr/bin/"), "{files}");
    let (groups, modules) = (dnf(&["group", "list"]), dnf(&["module", "list"]));
    for place in 0..3 {
        assert!(groups.contains(&format!("Group {place}")), "{groups}");
        let stream = |line: &str| line.starts_with(&format!("module{place}")) && line.contains(" 1.10 ");
        assert!(modules.lines().any(stream), "{modules}");
    }
}
