//! What is wrong with a manifest, and where.

use std::{borrow::Cow, fmt};

/// One error in one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// Path from the manifest's root, as `spec.members[2]`.
    pub path: String,
    /// What was broken: a JSON-schema keyword (`required`, `pattern`, …), a CEL expression, or the name of a
    /// rule of [`crate::validate`] (`regex`, `secretMissing`, …).
    pub rule: Cow<'static, str>,
    /// A sentence for the author, with the way out; never the value of a secret.
    pub message: String,
}

impl FieldError {
    /// An error of a rule with a fixed name.
    pub fn new(path: impl Into<String>, rule: &'static str, message: impl Into<String>) -> Self {
        FieldError { path: path.into(), rule: Cow::Borrowed(rule), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for FieldError {}

/// Collects errors while a whole manifest is read, so that its author sees all of them at once.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>);

impl Errors {
    /// Notes an error.
    pub(crate) fn push(&mut self, path: impl Into<String>, rule: &'static str, message: impl Into<String>) {
        self.0.push(FieldError::new(path, rule, message));
    }

    /// The value, or `None` after noting the error.
    pub(crate) fn keep<T, E: fmt::Display>(
        &mut self,
        path: impl Into<String>,
        rule: &'static str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.push(path, rule, error.to_string())).ok()
    }

    /// `value` when nothing was noted and it could be made; else everything that was noted.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
