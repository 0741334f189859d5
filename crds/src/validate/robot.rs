//! `Robot` → [`ValidRobot`].

use std::time::Duration;

use artifactapi_model::{
    RepoName,
    account::{Glob, Grant, InvalidGlob, Robot, RobotKey},
};

use super::{duration, identity};
use crate::{
    FieldError,
    error::Errors,
    robots::{self, RobotSpec},
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
    pub grants: Vec<Grant>,
    /// Life of a token; `None` = no end.
    pub token_ttl: Option<Duration>,
    /// Secret that takes the token.
    pub secret_name: String,
}

impl ValidRobot {
    /// The account it stands for.
    pub fn account(&self) -> Robot {
        let key = RobotKey { namespace: self.namespace.clone(), name: self.name.clone() };
        Robot { key, grants: self.grants.clone(), token_ttl: self.token_ttl }
    }
}

/// Validates a Robot.
///
/// # Errors
/// Every error, with its field path.
pub fn robot(manifest: &crate::Robot) -> Result<ValidRobot, Vec<FieldError>> {
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

fn grant(index: usize, grant: &robots::Grant, errors: &mut Errors) -> Grant {
    let robots::Grant { repositories, actions } = grant;
    let globs = repositories.iter().enumerate().filter_map(|(place, text)| {
        let path = format!("spec.grants[{index}].repositories[{place}]");
        let glob = Glob::parse(text).ok_or(InvalidGlob);
        errors.keep(path, "glob", glob)
    });
    Grant { repositories: globs.collect(), actions: actions.iter().map(|action| (*action).into()).collect() }
}
