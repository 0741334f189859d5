//! The canonicaliser: total, idempotent, and no output that could be read as another path (RS-20).
#![no_main]

use artifactapi_model::{RepoPath, Spelling};

libfuzzer_sys::fuzz_target!(|raw: &str| {
    for spelling in [Spelling::Plain, Spelling::NpmScope] {
        let Ok(path) = RepoPath::parse(raw, spelling) else { continue };
        assert!(!path.as_str().starts_with('/'));
        assert!(!path.as_str().contains(['\\', '%', '\0']));
        assert!(path.as_str().split('/').all(|segment| segment != "." && segment != ".."));
        assert_eq!(RepoPath::parse(&path.encode(), Spelling::Plain).as_ref(), Ok(&path));
    }
});
