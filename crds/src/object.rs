//! One object: all stages of its check, and what it refers to.

use std::sync::Arc;

use artifactapi_model::repository::{LocalSpec, RemoteSpec};
use serde_json::Value;

use crate::{
    FieldError, References,
    manifests::ObjectRef,
    remotes::{Auth, ObjectReference, Tls},
    schema::{Kind, add_unless_known},
    validate::{self, Repositories, ValidRobot, ValidVirtual},
};

/// A validated object.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named after the kinds")]
pub enum Valid {
    Remote(Arc<RemoteSpec>),
    Virtual(Arc<ValidVirtual>),
    Local(Arc<LocalSpec>),
    Robot(Arc<ValidRobot>),
}

/// All stages for one manifest: schema and rules (with `old`, the stored object, also those of transitions), then what
/// no schema can say. Later stages run as long as the manifest can be read at all, so that its author sees their errors
/// too. Returns the manifest with its defaults, and its validated form.
///
/// # Errors
/// Everything that is wrong, in the order of the stages; at most one stage speaks for a path.
pub fn check(
    kind: Kind,
    manifest: Value,
    old: Option<&Value>,
    known: &Repositories,
    references: &References,
) -> Result<(Value, Valid), Vec<FieldError>> {
    let checked = kind.schema().check(manifest, old);
    let mut errors = checked.errors;
    match read(kind, &checked.manifest, known, references) {
        Ok(valid) if errors.is_empty() => return Ok((checked.manifest, valid)),
        Ok(_) => {}
        // The schema check has said why, in better words.
        Err(later) if !errors.is_empty() && later.iter().all(|error| error.rule == SHAPE) => {}
        Err(later) => add_unless_known(&mut errors, later),
    }
    Err(errors)
}

pub(crate) fn read(
    kind: Kind,
    manifest: &Value,
    known: &Repositories,
    references: &References,
) -> Result<Valid, Vec<FieldError>> {
    match kind {
        Kind::Remote => {
            validate::remote(&typed(manifest)?, references).map(|remote| Valid::Remote(Arc::new(remote)))
        }
        Kind::Virtual => {
            validate::virtual_repository(&typed(manifest)?, known).map(|virt| Valid::Virtual(Arc::new(virt)))
        }
        Kind::Local => validate::local(&typed(manifest)?).map(|local| Valid::Local(Arc::new(local))),
        Kind::Robot => validate::robot(&typed(manifest)?).map(|robot| Valid::Robot(Arc::new(robot))),
    }
}

/// Rule of a manifest that its kind's type cannot hold.
const SHAPE: &str = "shape";

/// The typed form. Serde's message is dropped, since it might repeat a value.
fn typed<T: serde::de::DeserializeOwned>(manifest: &Value) -> Result<T, Vec<FieldError>> {
    serde_json::from_value(manifest.clone())
        .map_err(|_| vec![FieldError::new("spec", SHAPE, "does not have the shape of this kind")])
}

/// The Secrets and ConfigMaps that the manifest of a Remote names, sound or not, each once.
pub fn named_by(manifest: &Value) -> Vec<ObjectRef> {
    let namespace = manifest.pointer("/metadata/namespace").and_then(Value::as_str);
    let namespace = namespace.unwrap_or(crate::DEFAULT_NAMESPACE);
    let spec = manifest.get("spec").unwrap_or(&Value::Null);
    let field = |name| spec.get(name).cloned().unwrap_or_default();
    let mut named: Vec<ObjectRef> = Vec::new();
    let mut add = |kind, reference: ObjectReference| {
        let object = ObjectRef { kind, namespace: namespace.to_owned(), name: reference.name };
        if !named.contains(&object) {
            named.push(object);
        }
    };
    if let Ok(Some(Auth { secret_ref })) = serde_json::from_value(field("auth")) {
        add("Secret", secret_ref);
    }
    let tls: Option<Tls> = serde_json::from_value(field("tls")).unwrap_or_default();
    let Tls { ca_secret_ref, ca_config_map_ref, cert_secret_ref } = tls.unwrap_or_default();
    ca_secret_ref.into_iter().chain(cert_secret_ref).for_each(|to| add("Secret", to));
    ca_config_map_ref.into_iter().for_each(|to| add("ConfigMap", to));
    named
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_remote_names_its_secrets_and_maps() {
        let manifest = json!({"metadata": {"namespace": "team"}, "spec": {
            "auth": {"secretRef": {"name": "a"}},
            "tls": {"caConfigMapRef": {"name": "m"}, "caSecretRef": {"name": "a"}, "certSecretRef": {"name": "c"}},
        }});
        let named: Vec<String> = named_by(&manifest).iter().map(ToString::to_string).collect();
        assert_eq!(named, ["Secret team/a", "Secret team/c", "ConfigMap team/m"]);
        for nothing in
            [json!({}), json!({"spec": 1}), json!({"spec": {"auth": {"secretRef": "x"}, "tls": []}})]
        {
            assert!(named_by(&nothing).is_empty(), "{nothing}");
        }
    }
}
