//! Regular expressions from manifests: linear-time, bounded in size, and blamed by byte offset (RS-70).

use artifactapi_model::policy::{MAX_PATTERN_SIZE, Patterns};
use regex_syntax::ParserBuilder;

use crate::error::Errors;

/// Deepest nesting of groups in one pattern.
const MAX_NESTING: u32 = 64;

/// Compiles patterns that may match anywhere in a path.
pub(super) fn unanchored(path: &str, patterns: &[String], errors: &mut Errors) -> Patterns {
    compile(path, patterns, patterns, errors)
}

/// Compiles patterns that must match the whole of a tag or name: a ban on `latest` is no ban on
/// `latest-alpine`.
pub(super) fn whole(path: &str, patterns: &[String], errors: &mut Errors) -> Patterns {
    let anchored: Vec<String> = patterns.iter().map(|pattern| format!("^(?:{pattern})$")).collect();
    compile(path, patterns, &anchored, errors)
}

/// Compiles `effective`, and reports on `written`, what the author wrote.
fn compile(path: &str, written: &[String], effective: &[String], errors: &mut Errors) -> Patterns {
    let mut sound = true;
    for (index, pattern) in written.iter().enumerate() {
        let alone = &effective[index..=index];
        let complaint = syntax_error(pattern)
            .or_else(|| {
                syntax_error(&effective[index]).map(|_| "leaves its group open at its end".to_owned())
            })
            .or_else(|| Patterns::compile(alone).err().map(|_| too_large()));
        if let Some(complaint) = complaint {
            errors.push(format!("{path}[{index}]"), "regex", complaint);
            sound = false;
        }
    }
    if !sound {
        return Patterns::default();
    }
    Patterns::compile(effective).unwrap_or_else(|_| {
        errors.push(path, "regex", format!("together, {}", too_large()));
        Patterns::default()
    })
}

fn syntax_error(pattern: &str) -> Option<String> {
    let error = ParserBuilder::new().nest_limit(MAX_NESTING).build().parse(pattern).err()?;
    let (offset, cause) = match &error {
        regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
        regex_syntax::Error::Translate(error) => (error.span().start.offset, error.kind().to_string()),
        _ => return Some("is not a regular expression".to_owned()),
    };
    Some(format!("is not a regular expression: at byte {offset}: {cause}"))
}

fn too_large() -> String {
    format!("the compiled size exceeds {} KiB: use smaller repetitions", MAX_PATTERN_SIZE >> 10)
}
