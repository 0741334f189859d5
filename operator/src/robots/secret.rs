//! The Secret in which a robot's token is handed out: as a pull secret, and plain. Pure.
//!
//! | key | value |
//! |---|---|
//! | `.dockerconfigjson` | what the kubelet, docker, crane and the like take |
//! | `token` | the token alone |
//! | `username` | a name to show with it; the token is what counts |
//! | `registry` | `host:port` of the proxies |

use std::collections::BTreeMap;

use artifactapi_crds::{GROUP, VERSION};
use artifactapi_model::account::RobotToken;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::api::ObjectMeta;
use serde_json::json;

/// The type of these Secrets.
pub const TYPE: &str = "kubernetes.io/dockerconfigjson";
const CONFIG: &str = ".dockerconfigjson";
const TOKEN: &str = "token";
/// Which request for another token the token in it answers.
pub const REQUESTED_AT: &str = "artifactapi.io/requested-at";

/// Whose Secret it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace of the robot.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
}

/// What a Secret has to be.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whose.
    pub owner: &'a Owner,
    /// `host:port` of the proxies.
    pub registry: &'a str,
    /// The request for another token that is answered.
    pub requested_at: Option<&'a str>,
}

/// A Secret as it was found.
pub enum Found {
    /// There is none.
    Nothing,
    /// It is somebody else's.
    Foreign,
    /// It is the robot's.
    Ours {
        /// The token in it, if it is one.
        token: Option<RobotToken>,
        /// Whether everything else is as it has to be.
        is_whole: bool,
        /// Whether it can be mended: its type cannot be changed.
        is_mendable: bool,
        /// The request that its token answers.
        requested_at: Option<String>,
        /// Its version.
        version: Option<String>,
    },
}

impl Wanted<'_> {
    /// The Secret with this token.
    pub fn with(&self, token: &RobotToken) -> Secret {
        let Wanted { name, owner, registry: _, requested_at } = self;
        let annotations = requested_at.map(|at| BTreeMap::from([(REQUESTED_AT.to_owned(), at.to_owned())]));
        let data = self.data(token).into_iter().map(|(key, value)| (key.to_owned(), ByteString(value)));
        Secret {
            metadata: ObjectMeta {
                name: Some((*name).to_owned()),
                namespace: Some(owner.namespace.clone()),
                annotations,
                owner_references: Some(vec![owner.reference()]),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    fn data(&self, token: &RobotToken) -> [(&'static str, Vec<u8>); 4] {
        let username = &self.owner.name;
        let login = json!({
            "username": username,
            "password": token.expose(),
            "auth": STANDARD.encode(format!("{username}:{}", token.expose())),
        });
        let config = json!({ "auths": { self.registry: login } });
        [
            (CONFIG, config.to_string().into_bytes()),
            (TOKEN, token.expose().as_bytes().to_vec()),
            ("username", username.as_bytes().to_vec()),
            ("registry", self.registry.as_bytes().to_vec()),
        ]
    }

    /// What `secret` is, held against this.
    pub fn find(&self, secret: Option<&Secret>) -> Found {
        let Some(secret) = secret else { return Found::Nothing };
        let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
        if !owners.iter().any(|owner| owner.uid == self.owner.uid) {
            return Found::Foreign;
        }
        let data = secret.data.clone().unwrap_or_default();
        let text = data.get(TOKEN).and_then(|value| std::str::from_utf8(&value.0).ok());
        let token = text.and_then(RobotToken::parse);
        let is_mendable = secret.type_.as_deref() == Some(TYPE) && secret.immutable != Some(true);
        let has = |(key, value): &(&str, Vec<u8>)| data.get(*key).is_some_and(|found| found.0 == *value);
        let is_whole = is_mendable && token.as_ref().is_some_and(|token| self.data(token).iter().all(has));
        let annotations = secret.metadata.annotations.as_ref();
        Found::Ours {
            token,
            is_whole,
            is_mendable,
            requested_at: annotations.and_then(|all| all.get(REQUESTED_AT)).cloned(),
            version: secret.metadata.resource_version.clone(),
        }
    }
}

/// What is left of a Secret that holds no token any more; its type wants a file.
pub fn nothing() -> BTreeMap<String, ByteString> {
    BTreeMap::from([(CONFIG.to_owned(), ByteString(json!({ "auths": {} }).to_string().into_bytes()))])
}

impl Owner {
    fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "Robot".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { namespace: "ns".into(), name: "ci".into(), uid: "u1".into() }
    }

    #[test]
    fn what_is_written_is_found_and_what_is_damaged_is_noticed() {
        let owner = owner();
        let wanted =
            Wanted { name: "ci", owner: &owner, registry: "reg.test:5000", requested_at: Some("now") };
        let token = RobotToken::generate().unwrap();
        let secret = wanted.with(&token);
        let is_whole = |wanted: &Wanted<'_>, secret: &Secret| match wanted.find(Some(secret)) {
            Found::Ours { token: found, is_whole, requested_at, .. } => {
                assert_eq!(requested_at.as_deref(), Some("now"));
                Some((found.map(|found| found.id()) == Some(token.id()), is_whole))
            }
            Found::Nothing | Found::Foreign => None,
        };
        assert_eq!(is_whole(&wanted, &secret), Some((true, true)));
        assert!(matches!(wanted.find(None), Found::Nothing));
        let mut damaged = secret.clone();
        damaged.data.as_mut().unwrap().remove("username");
        assert_eq!(is_whole(&wanted, &damaged), Some((true, false)));
        damaged.data.as_mut().unwrap().insert("token".into(), ByteString(b"x".to_vec()));
        assert_eq!(is_whole(&wanted, &damaged), Some((false, false)));
        let mut typed = secret.clone();
        typed.type_ = Some("Opaque".into());
        assert!(matches!(wanted.find(Some(&typed)), Found::Ours { is_mendable: false, is_whole: false, .. }));
        let moved = Wanted { registry: "other.test", ..wanted.clone() };
        assert_eq!(is_whole(&moved, &secret), Some((true, false)));
        let mut foreign = secret.clone();
        foreign.metadata.owner_references = None;
        assert!(matches!(wanted.find(Some(&foreign)), Found::Foreign));
    }

    #[test]
    fn clients_can_log_in_with_it() {
        let owner = owner();
        let wanted = Wanted { name: "ci", owner: &owner, registry: "reg.test:5000", requested_at: None };
        let token = RobotToken::generate().unwrap();
        let data = wanted.with(&token).data.unwrap();
        let config: serde_json::Value = serde_json::from_slice(&data[CONFIG].0).unwrap();
        let login = &config["auths"]["reg.test:5000"];
        assert_eq!((&login["username"], &login["password"]), (&json!("ci"), &json!(token.expose())));
        let auth = STANDARD.decode(login["auth"].as_str().unwrap()).unwrap();
        assert_eq!(auth, format!("ci:{}", token.expose()).into_bytes());
        assert_eq!(data["token"].0, token.expose().as_bytes());
        assert_eq!(wanted.with(&token).metadata.owner_references.unwrap()[0].controller, Some(true));
    }
}
