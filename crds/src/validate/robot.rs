//! `Robot` → [`ValidRobot`].

use std::{collections::BTreeSet, time::Duration};

use artifactapi_model::RepoName;

use super::{duration, identity};
use crate::{
    FieldError, Robot,
    error::Errors,
    robots::{Action, Grant, RobotSpec},
};

/// Shortest life of a token, so that clients can follow a rotation.
const MIN_TOKEN_TTL: Duration = Duration::from_secs(600);

/// A validated Robot.
#[derive(Clone, Debug)]
pub struct ValidRobot {
    /// Name.
    pub name: RepoName,
    /// Namespace; all its grants are for repositories of it.
    pub namespace: String,
    /// What it may do.
    pub grants: Vec<ValidGrant>,
    /// Life of a token; `None` = no end.
    pub token_ttl: Option<Duration>,
    /// Secret that takes the token.
    pub secret_name: String,
}

/// One validated grant.
#[derive(Clone, Debug)]
pub struct ValidGrant {
    /// Repositories.
    pub repositories: Vec<Glob>,
    /// Actions.
    pub actions: BTreeSet<Action>,
}

/// A pattern of repository names: `*` stands for any characters, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Takes 1 to 63 characters `a-z`, `0-9`, `-` and `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'*';
        ((1..=63).contains(&text.len()) && text.bytes().all(known)).then(|| Glob(text.to_owned()))
    }

    /// Whether `name` matches; linear in both but for the product of stars and 63 characters.
    pub fn matches(&self, name: &RepoName) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.as_str().strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            // The leftmost place leaves the most for what follows.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// Validates a Robot.
///
/// # Errors
/// Every error, with its field path.
pub fn robot(manifest: &Robot) -> Result<ValidRobot, Vec<FieldError>> {
    let mut errors = Errors::default();
    let e = &mut errors;
    let (name, namespace) = identity(&manifest.metadata, e);
    let RobotSpec { grants, token_ttl, secret_name } = &manifest.spec;
    if grants.is_empty() {
        e.push("spec.grants", "minItems", "must not be empty");
    }
    let grants = grants.iter().enumerate().map(|(index, grant)| self::grant(index, grant, e)).collect();
    let token_ttl = token_ttl.as_ref().map(|text| {
        let ttl = duration("spec.tokenTTL", text, e);
        if text.parse().is_ok_and(|ttl| ttl < MIN_TOKEN_TTL) {
            e.push("spec.tokenTTL", "minimum", "must be at least 10m, so that clients can follow a rotation");
        }
        ttl
    });
    let robot = name.map(|name| ValidRobot {
        secret_name: secret_name.clone().unwrap_or_else(|| name.to_string()),
        name,
        namespace,
        grants,
        token_ttl,
    });
    errors.finish(robot)
}

fn grant(index: usize, grant: &Grant, errors: &mut Errors) -> ValidGrant {
    let Grant { repositories, actions } = grant;
    let globs = repositories.iter().enumerate().filter_map(|(place, text)| {
        let path = format!("spec.grants[{index}].repositories[{place}]");
        let glob = Glob::parse(text).ok_or("must be a repository name, in which * stands for any characters");
        errors.keep(path, "glob", glob)
    });
    ValidGrant { repositories: globs.collect(), actions: actions.iter().copied().collect() }
}
