//! `spec.auth`: upstream credentials from a Secret.

use artifactapi_model::repository::Credentials;
use url::Url;

use super::{
    dockerconfig,
    tls::{Lookup, with_name},
};
use crate::{
    error::Errors,
    references::Secret,
    remotes::{Auth, ObjectReference},
};

const PATH: &str = "spec.auth.secretRef";
const USERNAME: &str = "username";
const PASSWORD: &str = "password";
const TOKEN: &str = "token";
const DOCKERCONFIG: &str = ".dockerconfigjson";

/// Reads the credentials for `base_url`'s origin. The Secret's keys say which kind they are, so that every
/// usual way to make one works: `kubernetes.io/basic-auth`, `kubernetes.io/dockerconfigjson`, Opaque.
pub(super) fn read(
    auth: Option<&Auth>,
    base_url: Option<&Url>,
    lookup: &Lookup<'_>,
    errors: &mut Errors,
) -> Option<Credentials> {
    let Auth { secret_ref } = auth?;
    let secret = lookup.secret(PATH, secret_ref, errors)?;
    let basic = secret.has(USERNAME) || secret.has(PASSWORD);
    match (secret.has(DOCKERCONFIG), secret.has(TOKEN), basic) {
        (true, false, false) => {
            let text =
                errors.keep(PATH, "secretKey", with_name(secret.text(DOCKERCONFIG), "Secret", secret_ref))?;
            // Without a base URL there is no host to look for, and an error of its own.
            let found = dockerconfig::find(text, base_url?);
            errors.keep(
                PATH,
                "dockerconfigjson",
                found.map_err(|e| format!("Secret {:?} {e}", secret_ref.name)),
            )
        }
        (false, true, false) => bearer(secret, secret_ref, errors),
        (false, false, true) => self::basic(secret, secret_ref, errors),
        (false, false, false) => {
            let message = format!(
                "Secret {:?} has neither {USERNAME} and {PASSWORD}, nor {TOKEN}, nor {DOCKERCONFIG}",
                secret_ref.name
            );
            errors.push(PATH, "secretKey", message);
            None
        }
        _ => {
            let message = format!(
                "Secret {:?} is ambiguous: it must have {USERNAME} and {PASSWORD}, or {TOKEN}, or {DOCKERCONFIG}",
                secret_ref.name
            );
            errors.push(PATH, "secretKey", message);
            None
        }
    }
}

fn basic(secret: &Secret, name: &ObjectReference, errors: &mut Errors) -> Option<Credentials> {
    let username = errors.keep(PATH, "secretKey", with_name(secret.text(USERNAME), "Secret", name));
    let password = errors.keep(PATH, "secretKey", with_name(secret.text(PASSWORD), "Secret", name));
    let (username, password) = username.zip(password)?;
    if !fits_basic(username, password) {
        let message = format!("Secret {:?} has a control character, or a colon in {USERNAME}", name.name);
        errors.push(PATH, "secretValue", message);
        return None;
    }
    Some(Credentials::Basic { username: username.to_owned(), password: password.to_owned().into() })
}

/// Whether HTTP Basic can carry them (RFC 7617, section 2).
pub(super) fn fits_basic(username: &str, password: &str) -> bool {
    !username.contains(':') && !username.chars().chain(password.chars()).any(char::is_control)
}

fn bearer(secret: &Secret, name: &ObjectReference, errors: &mut Errors) -> Option<Credentials> {
    let token = errors.keep(PATH, "secretKey", with_name(secret.text(TOKEN), "Secret", name))?;
    if !fits_bearer(token) {
        let message =
            format!("Secret {:?} has a {TOKEN} with spaces, line breaks or other than ASCII", name.name);
        errors.push(PATH, "secretValue", message);
        return None;
    }
    Some(Credentials::Bearer(token.to_owned().into()))
}

/// Whether a header can carry it as one word (a little wider than RFC 6750's `b64token`).
pub(super) fn fits_bearer(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_graphic())
}
