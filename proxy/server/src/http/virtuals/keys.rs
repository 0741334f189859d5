//! The public keys that merged repositories are signed with: `-/keys/rpm.asc` and `-/keys/apk.rsa.pub`.
//!
//! apk looks for the key by the name that the signature carries, so that one is also the file's own name here.

use artifactapi_model::PackageType;
use http::{HeaderValue, Response, StatusCode, header};

use super::Asked;
use crate::http::{
    body::ReplyBody,
    caching,
    errors::{Refused, refusal},
    passed,
};

/// Where keys are below a Virtual.
const KEYS: &str = "-/keys/";
const RPM: &str = "rpm.asc";
const APK: &str = "apk.rsa.pub";

impl Asked<'_> {
    /// A public key, when that is what is asked for.
    ///
    /// # Errors
    /// 404 for keys that this Virtual does not sign with, 503 when there is none.
    pub(super) async fn key(&self) -> Result<Option<Response<ReplyBody>>, Refused> {
        let Some(name) = self.path.strip_prefix(KEYS) else { return Ok(None) };
        let package_type = self.repository.face.package_type;
        if !matches!(package_type, PackageType::Rpm | PackageType::Alpine) {
            return Err(Refused::not_found("only merged rpm and alpine repositories are signed"));
        }
        let keys = self.app.signing.public_keys().await.map_err(|error| refusal(&error.into(), self.path))?;
        let (text, content_type, file) = match (package_type, name) {
            (PackageType::Rpm, RPM) => (keys.openpgp, "application/pgp-keys", RPM.to_owned()),
            (PackageType::Alpine, name) if name == APK || name == keys.rsa_name => {
                (keys.rsa_pem, "application/x-pem-file", keys.rsa_name)
            }
            _ => {
                let known = if package_type == PackageType::Rpm { RPM } else { APK };
                return Err(Refused::not_found(format!("the key of this repository is at {KEYS}{known}")));
            }
        };
        let mut response = passed::text(StatusCode::OK, content_type, text);
        let disposition = caching::header(format!("attachment; filename=\"{file}\""));
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
        Ok(Some(response))
    }
}
