//! The canonicaliser: total, idempotent, and no output that could be read as another path (RS-20, RS-21).
#![no_main]

use artifactapi_model::{RepoPath, Spelling};

libfuzzer_sys::fuzz_target!(|raw: &str| {
    for spelling in [Spelling::Plain, Spelling::NpmScope] {
        let Ok(path) = RepoPath::parse(raw, spelling) else { continue };
        let text = path.as_str();
        assert!(!text.starts_with('/') && !text.contains("//"));
        assert!(!text.contains(['\\', '%']) && !text.contains(char::is_control));
        assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
        // Guard and handler: what was judged and what is asked for are one text, however often it travels.
        assert_eq!(RepoPath::parse(&path.encode(), Spelling::Plain).as_ref(), Ok(&path));
        assert_eq!(RepoPath::from_canonical(text).as_ref(), Ok(&path));
        assert_eq!(format!("{}{}", path.parent(), path.file_name()), text);
        // A URL library reads the same segments out of it: none is dropped, merged or moved.
        let base = url::Url::parse("https://upstream.example/base/").expect("a valid URL");
        let joined = base.join(&format!("./{}", path.encode())).expect("an encoded path joins");
        assert_eq!(joined.path(), format!("/base/{}", path.encode()));
        assert_eq!((joined.query(), joined.fragment()), (None, None));
        // An escape of a character that needs none is the same thing.
        if spelling == Spelling::Plain && raw.is_ascii() && !raw.contains('%') && raw.len() < 1000 {
            let escaped: String =
                raw.bytes().map(|b| if b == b'/' { "/".into() } else { format!("%{b:02x}") }).collect();
            assert_eq!(RepoPath::parse(&escaped, spelling).as_ref(), Ok(&path));
        }
    }
});
