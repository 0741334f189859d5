//! Go: checksum database paths and records, `!` escapes, canonical versions, merged lists.
#![no_main]

use artifactapi_formats::Plan;
use artifactapi_fuzz::{index::Document, merge, plan, remote};
use artifactapi_model::{Mutability, PackageType::Goproxy};

/// What an escaped text stands for (golang.org/x/mod/module, `unescapeString`).
fn unescaped(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'!' => out.push(bytes.next().filter(u8::is_ascii_lowercase)?.to_ascii_uppercase().into()),
            b'A'..=b'Z' => return None,
            _ if byte.is_ascii() => out.push(byte.into()),
            _ => return None,
        }
    }
    Some(out)
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = "sumdb/sum.golang.org/lookup/rsc.io/!quote@v1.5.2";
    let reading =
        Document { package_type: Goproxy, target, content_type: "text/plain", accept: "" }.read(data);
    for fact in reading.facts.iter().flatten() {
        // Only the two files of the version that was looked up; never a line about another.
        assert!(
            ["rsc.io/!quote/@v/v1.5.2.zip", "rsc.io/!quote/@v/v1.5.2.mod"].contains(&&*fact.path),
            "{fact:?}"
        );
        assert_eq!(fact.checksums.len(), 1);
        let text = String::from_utf8_lossy(data);
        assert!(text.contains("rsc.io/Quote v1.5.2"), "{fact:?}");
    }
    let list = "rsc.io/!quote/@v/list";
    merge::check(Goproxy, list, &[(list.to_owned(), data.to_vec())].into());
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains('?') {
        return;
    }
    let remote = remote(Goproxy);
    for raw in [
        text.to_owned(),
        format!("a.b/@v/{text}"),
        format!("sumdb/s/{text}"),
        format!("sumdb/s/lookup/{text}"),
    ] {
        let Ok(Plan::Serve(planned)) = plan(&remote, &raw, "") else { continue };
        let path = planned.path.as_str();
        if path.contains("/@v/") || path.contains("/lookup/") {
            assert!(
                unescaped(
                    path.strip_prefix("sumdb/")
                        .map_or(path, |rest| rest.split_once('/').map_or(rest, |r| r.1))
                )
                .is_some(),
                "{path}"
            );
        }
        // Nothing that can change is kept for ever: a list, a query, a commit, the latest head.
        if planned.mutability == Mutability::Immutable {
            let is_tile = path.starts_with("sumdb/") && path.contains("/tile/");
            let version = path
                .rsplit_once("/@v/")
                .and_then(|(_, file)| file.rsplit_once('.'))
                .map(|(version, _)| version);
            let is_version = version.is_some_and(|version| {
                version.starts_with('v')
                    && version.matches('.').count() >= 2
                    && version[1..].starts_with(|c: char| c.is_ascii_digit())
            });
            assert!(is_tile || is_version, "{path}");
        }
    }
});
