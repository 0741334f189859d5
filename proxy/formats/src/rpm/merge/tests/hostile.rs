//! Members that are broken, or mean harm.

use super::{repository::gzip, *};

/// A repository with `body` as its metadata of `kind`.
pub(super) fn bad(kind: &'static str, body: impl Into<Vec<u8>>) -> Fake {
    let repository = Repository::of(&[package("b", "1")]);
    let mut member = repository.with(kind, String::new()).member("bad");
    let path = member.documents.keys().find(|path| path.contains(&format!("-{kind}."))).unwrap().clone();
    member.documents.insert(path, body.into());
    member
}

#[test]
fn rs_62_rs_63_hostile_members_end_in_an_error_that_names_them() {
    let one = |inner: &str| format!("<metadata><package type='rpm'>{inner}</package></metadata>");
    let identity =
        "<name>a</name><arch>x</arch><version ver='1'/><checksum>0123456789abcdef0123456789abcdef</checksum>";
    let whole = format!("{identity}<location href='a.rpm'/>");
    let deep = "<a>".repeat(100_000);
    let update = |inner: &str| format!("<updates><update>{inner}</update></updates>");
    for (what, member) in [
        ("no primary", Fake::new("bad", &[(REPOMD, b"<repomd/>")])),
        (
            "no such primary",
            Fake::new(
                "bad",
                &[(REPOMD, b"<repomd><data type='primary'><location href='x'/></data></repomd>")],
            ),
        ),
        (
            "primary elsewhere",
            Fake::new(
                "bad",
                &[(REPOMD, b"<repomd><data type='primary'><location href='../x'/></data></repomd>")],
            ),
        ),
        (
            "two primaries",
            Fake::new(
                "bad",
                &[(
                    REPOMD,
                    b"<repomd><data type='primary'><location href='x'/><location href='y'/></data></repomd>",
                )],
            ),
        ),
        ("repomd is HTML", Fake::new("bad", &[(REPOMD, b"<html>sign in</html>")])),
        ("no location", bad("primary", one(identity))),
        (
            "no checksum",
            bad("primary", one(&whole.replace("<checksum>0123456789abcdef0123456789abcdef</checksum>", ""))),
        ),
        ("checksum with a line end", bad("primary", one(&whole.replace("<checksum>", "<checksum>\n")))),
        ("checksum that is none", bad("primary", one(&whole.replace("abcdef", "ghijkl")))),
        ("empty name", bad("primary", one(&whole.replace("<name>a</name>", "<name/>")))),
        ("two names", bad("primary", one(&format!("{whole}<name>kept</name>")))),
        ("two locations", bad("primary", one(&format!("{whole}<location href='b.rpm'/>")))),
        ("empty package", bad("primary", "<metadata><package/></metadata>")),
        ("broken attribute", bad("primary", one(&format!("{whole}<x a=b/>")))),
        ("attribute twice", bad("primary", one(&format!("{whole}<x a='1' a='2'/>")))),
        ("entity of its own", bad("primary", one(&format!("{whole}<x>&own;</x>")))),
        ("entity in an attribute", bad("primary", one(&format!("{whole}<x a='&own;'/>")))),
        ("control character", bad("primary", one(&format!("{whole}<x>\u{1}</x>")))),
        ("its reference", bad("primary", one(&format!("{whole}<x>&#1;</x>")))),
        ("document type", bad("primary", format!("<!DOCTYPE m [<!ENTITY a 'b'>]>{}", one(&whole)))),
        ("two roots", bad("primary", one(&whole).repeat(2))),
        ("text behind", bad("primary", one(&whole) + "x")),
        (
            "namespace of another meaning",
            bad("primary", one(&whole).replace("<metadata>", "<metadata xmlns:rpm='x'>")),
        ),
        ("torn", bad("primary", one(&whole)[..60].to_owned())),
        ("depth", bad("primary", one(&deep))),
        ("long name", bad("primary", one(&whole.replace("<name>a", &format!("<name>{}", "a".repeat(5000)))))),
        ("bomb", bad("primary", gzip(&vec![b' '; 64 << 20]))),
        ("bomb of files", bad("filelists", gzip(&vec![b' '; 64 << 20]))),
        ("files of another root", bad("filelists", "<metadata/>")),
        ("no id", bad("updateinfo", update("<title>x</title>"))),
        ("two ids", bad("updateinfo", update("<id>1</id><id>2</id>"))),
        ("groups torn", bad("group", "<comps><group>")),
        ("modules are no YAML", bad("modules", "---\ndata: [\n")),
        ("modules are no mapping", bad("modules", "---\n- a\n")),
        ("modules on the line of a mark", bad("modules", "--- {a: b}\n")),
        (
            "one long module",
            bad("modules", gzip(format!("---\nx: {}\n", "0123456789abcdef ".repeat(300_000)).as_bytes())),
        ),
    ] {
        let members = [Repository::of(&[package("good", "1")]).member("good"), member];
        let error = merge(&members, &Table::default()).unwrap_err().to_string();
        assert!(error.starts_with("member bad: the index "), "{what}: {error}");
    }
}
