//! Robots: the account that a validated one is, and its token, handed out in a Secret ([`keeper`]).

pub mod keeper;
pub mod plan;
pub mod secret;

use artifactapi_crds::{robots::RobotSpec, validate::ValidRobot};
use artifactapi_model::{PublicUrl, account::RobotKey};
use serde_json::Value;

use self::keeper::Job;
use crate::{seen::Seen, validate::Accepted};

/// Completes `accepted`.
pub fn describe(robot: &ValidRobot, accepted: &mut Accepted) {
    accepted.robot = Some(robot.account());
}

/// What is to be done for `seen`, which was accepted.
pub fn job(seen: &Seen) -> Option<Job> {
    let spec: RobotSpec = serde_json::from_value(seen.manifest.read().get_mut("spec")?.take()).ok()?;
    let RobotSpec { grants: _, token_ttl, secret_name } = spec;
    let name = &seen.object.name;
    let secret = secret_name.unwrap_or_else(|| name.clone());
    let before = seen.status.read().get("secretName").and_then(Value::as_str).map(str::to_owned);
    Some(Job {
        key: RobotKey { namespace: seen.object.namespace.clone(), name: name.parse().ok()? },
        object: seen.object.clone(),
        uid: seen.uid.clone(),
        before: before.filter(|before| *before != secret),
        secret,
        ttl: token_ttl.and_then(|ttl| ttl.parse().ok()),
        requested_at: seen.requested_at.clone(),
    })
}

/// Where container clients find the proxies: `host` or `host:port`.
pub fn registry(public_url: &PublicUrl) -> String {
    let origin = public_url.origin.as_str();
    origin.split_once("://").map_or(origin, |(_, host)| host).to_owned()
}
