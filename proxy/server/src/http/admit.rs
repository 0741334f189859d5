//! Lets a request into a repository, or not (RS-47, RS-53). What is open to everyone costs one look at the repository.

use std::sync::Arc;

use artifactapi_model::account::{Action, Caller, Protected};
use http::request::Parts;

use super::{errors::Refused, handle::Connection};
use crate::{App, telemetry::Record};

/// Lets the request pass if whose it is may do `action` in `repository`. Returns and notes whose it is, as far as that
/// was asked: of what is open it is nobody's, whatever credentials it shows. `scope` is what a registry client calls
/// what it asks for (`local/app`), else the repository's name.
///
/// # Errors
/// 401 when it has to show (something else for) who it is, 403 when it may not, 429 and 503 when nobody has looked.
pub async fn admit(
    app: &Arc<App>,
    connection: &Connection,
    parts: &Parts,
    repository: &Protected<'_>,
    scope: impl FnOnce() -> String,
    action: Action,
    record: &mut Record,
) -> Result<Caller, Refused> {
    if repository.is_open_to(action) {
        return Ok(Caller::ANONYMOUS);
    }
    let scope = scope();
    let client = app.outside.client_of(&connection.ends, &parts.headers);
    let caller = Box::pin(app.gate.caller(parts, client, &scope, action)).await?;
    note(record, &caller);
    app.gate.require(&caller, repository, &scope, action)?;
    Ok(caller)
}

/// Notes whose request it is.
pub fn note(record: &mut Record, caller: &Caller) {
    if let (Some(entry), Some(robot)) = (record.entry(), caller.robot()) {
        entry.robot = Some(robot.clone());
    }
}
