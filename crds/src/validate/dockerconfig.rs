//! `.dockerconfigjson`: the entry of one registry.
//!
//! Format: docker/cli:cli/config/configfile. Keys are hosts, or the URLs that old clients wrote
//! (`https://index.docker.io/v1/`).

use artifactapi_model::repository::Credentials;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use url::Url;

use super::credentials::{fits_basic, fits_bearer};

/// Names under which clients store credentials for Docker Hub.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Why there are no credentials. Never holds any of the file's text but host names asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("holds no JSON object with \"auths\" under the key .dockerconfigjson")]
    Malformed,
    #[error("has no entry for {0} in \"auths\"")]
    NoEntry(String),
    #[error(
        "has an entry for {0} without usable \"auth\", \"username\" and \"password\", or \"registrytoken\""
    )]
    Unusable(String),
    #[error(
        "has only an identity token for {0}, which is not supported: log in with a password or access token"
    )]
    IdentityToken(String),
}

/// Credentials for `base_url`'s host in the text of a `config.json`.
pub(super) fn find(text: &str, base_url: &Url) -> Result<Credentials, ConfigError> {
    let config: Value = serde_json::from_str(text).map_err(|_| ConfigError::Malformed)?;
    let auths = config.get("auths").and_then(Value::as_object).ok_or(ConfigError::Malformed)?;
    let wanted = authority(base_url);
    let entry = auths.iter().find(|(key, _)| same_registry(key, &wanted)).map(|(_, entry)| entry);
    let entry = entry.ok_or_else(|| ConfigError::NoEntry(wanted.clone()))?;
    credentials(entry).ok_or_else(|| {
        if entry.get("identitytoken").is_some() {
            ConfigError::IdentityToken(wanted)
        } else {
            ConfigError::Unusable(wanted)
        }
    })
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn same_registry(key: &str, wanted: &str) -> bool {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let host = key.split('/').next().unwrap_or_default().to_ascii_lowercase();
    host == wanted || (DOCKER_HUB.contains(&host.as_str()) && DOCKER_HUB.contains(&wanted))
}

fn credentials(entry: &Value) -> Option<Credentials> {
    let field = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = field("registrytoken") {
        return fits_bearer(token).then(|| Credentials::Bearer(token.to_owned().into()));
    }
    let (username, password) = match (field("username"), field("password"), field("auth")) {
        (Some(username), Some(password), _) => (username.to_owned(), password.to_owned()),
        (_, _, Some(packed)) => unpack(packed)?,
        _ => return None,
    };
    fits_basic(&username, &password).then(|| Credentials::Basic { username, password: password.into() })
}

/// base64 of `user:password`.
fn unpack(packed: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(packed.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Some clients pad with NUL.
    let password = password.trim_end_matches('\0');
    (!username.is_empty() && !password.is_empty()).then(|| (username.to_owned(), password.to_owned()))
}
