//! Robots: the account that a validated one is. Tokens and the Secrets they are handed out in come on top of it.

use artifactapi_crds::validate::ValidRobot;

use crate::validate::Accepted;

/// Completes `accepted`.
pub fn describe(robot: &ValidRobot, accepted: &mut Accepted) {
    accepted.robot = Some(robot.account());
}
