//! Upstreams that want to know who asks: Basic, and the token dance of container registries.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{Answer, Recorded};

/// Whom an upstream lets in.
#[derive(Clone, Debug)]
pub enum Guard {
    /// `Authorization: Basic` with this user and password.
    Basic(String, String),
    /// `Authorization: Bearer` with exactly this token, which nobody hands out.
    FixedBearer(String),
    /// A bearer token from a realm.
    Token(TokenGuard),
}

/// The docker token dance, on the registry's side.
#[derive(Clone, Debug)]
pub struct TokenGuard {
    /// URL of the token endpoint.
    pub realm: String,
    /// Name the registry has at the endpoint.
    pub service: String,
    /// Whether the challenge says which scope is needed.
    pub names_scope: bool,
}

/// The path at which an upstream hands out tokens.
pub const TOKEN_PATH: &str = "token";

impl Guard {
    /// The token dance with the realm on `origin` (as `http://host:port/`).
    pub fn token(origin: &str) -> Self {
        Guard::Token(TokenGuard {
            realm: format!("{origin}{TOKEN_PATH}"),
            service: "scripted".to_owned(),
            names_scope: true,
        })
    }

    /// 401 with a challenge, or `None` when `request` may pass.
    pub(super) fn refuse(&self, request: &Recorded) -> Option<Answer> {
        if request.path() == TOKEN_PATH {
            return None;
        }
        let shown = request.header("authorization").unwrap_or_default();
        let (wanted, challenge) = match self {
            Guard::Basic(user, password) => (
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
                "Basic realm=\"scripted\"".into(),
            ),
            Guard::FixedBearer(token) => (format!("Bearer {token}"), "Bearer realm=\"none\"".into()),
            Guard::Token(guard) => {
                let scope = needed_scope(request.path());
                (format!("Bearer {}", token_for(scope.as_deref())), guard.challenge(scope.as_deref()))
            }
        };
        (shown != wanted).then(|| {
            Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
                .with("content-type", "application/json")
                .with("www-authenticate", challenge)
        })
    }
}

impl TokenGuard {
    fn challenge(&self, scope: Option<&str>) -> String {
        let mut challenge = format!("Bearer realm=\"{}\",service=\"{}\"", self.realm, self.service);
        if let Some(scope) = scope.filter(|_| self.names_scope) {
            challenge.push_str(&format!(",scope=\"{scope}\""));
        }
        challenge
    }
}

/// The scope that reading `path` needs: `repository:{name}:pull` below `/v2/{name}/`.
fn needed_scope(path: &str) -> Option<String> {
    let rest = path.strip_prefix("v2/")?;
    let end = ["/manifests/", "/blobs/", "/tags/", "/referrers/"]
        .iter()
        .filter_map(|part| rest.rfind(part))
        .max()?;
    Some(format!("repository:{}:pull", &rest[..end]))
}

fn token_for(scope: Option<&str>) -> String {
    STANDARD.encode(scope.unwrap_or("none"))
}

/// What the token endpoint answers: a token for exactly the scope that was asked for.
pub(super) fn hand_out(request: &Recorded) -> Answer {
    let scope = request.parameter("scope");
    Answer::json(&json!({ "token": token_for(scope.as_deref()), "expires_in": 60 }))
}
