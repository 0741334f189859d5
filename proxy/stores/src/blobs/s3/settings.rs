//! Where the S3 store is and how to speak to it.

use std::time::Duration;

use object_store::{
    BackoffConfig, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
    client::HttpClient,
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::client::Connector;

/// Longest time to the first byte of an answer, and between two pieces of a body.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Retries of one request.
pub(super) const RETRIES: u32 = 3;

/// Where the S3 store is and how to speak to it. Its debug text has no secret.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// `host` or `host:port`.
    pub endpoint: String,
    /// Whether to speak TLS.
    pub secure: bool,
    /// Access key.
    pub access_key: SecretString,
    /// Secret key.
    pub secret_key: SecretString,
    /// The bucket; it must be there.
    pub bucket: String,
    /// Region; most stores other than AWS take any.
    pub region: String,
    /// `endpoint/bucket/key` rather than `bucket.endpoint/key`.
    pub path_style: bool,
    /// `http(s)://host[:port]` under which clients reach the store; links are made for it. Without it there
    /// are no links.
    pub public_endpoint: Option<String>,
    /// Longest time to the first byte of an answer, and between two pieces of a body.
    pub patience: Duration,
}

impl S3Settings {
    /// Settings with the defaults: path style, region `us-east-1`, no TLS, no public endpoint.
    pub fn new(
        endpoint: impl Into<String>,
        bucket: impl Into<String>,
        access_key: SecretString,
        secret_key: SecretString,
    ) -> Self {
        S3Settings {
            endpoint: endpoint.into(),
            secure: false,
            access_key,
            secret_key,
            bucket: bucket.into(),
            region: "us-east-1".into(),
            path_style: true,
            public_endpoint: None,
            patience: PATIENCE,
        }
    }

    /// `http(s)://host[:port]`.
    pub(super) fn base(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.endpoint)
    }

    /// Refuses what the client below would stumble over.
    ///
    /// # Errors
    /// Which setting, and why.
    pub(super) fn validate(&self) -> Result<(), String> {
        if !is_origin(&self.base()) {
            let scheme = "no scheme and no path; MINIO_SECURE says whether to speak TLS";
            return Err(format!("MINIO_ENDPOINT is host or host:port, {scheme}; it is {:?}", self.endpoint));
        }
        if let Some(public) = self.public_endpoint.as_deref().filter(|public| !is_origin(public)) {
            return Err(format!("the public S3 endpoint is http(s)://host[:port]; it is {public:?}"));
        }
        let of_bucket = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if self.bucket.is_empty() || !self.bucket.chars().all(of_bucket) {
            return Err(format!("MINIO_BUCKET is no bucket's name: {:?}", self.bucket));
        }
        let visible = |c: char| c.is_ascii_graphic();
        if self.region.is_empty() || !self.region.chars().all(visible) {
            return Err(format!("MINIO_REGION is no region's name: {:?}", self.region));
        }
        for (name, key) in [("MINIO_ACCESS_KEY", &self.access_key), ("MINIO_SECRET_KEY", &self.secret_key)] {
            let key = key.expose_secret();
            if key.is_empty() || !key.chars().all(visible) {
                return Err(format!("{name} is empty or has spaces or line ends in it"));
            }
        }
        Ok(())
    }

    /// A client of the store below `base` that asks again at most `retries` times.
    pub(super) fn build(
        &self,
        base: &str,
        http: HttpClient,
        retries: u32,
    ) -> Result<AmazonS3, object_store::Error> {
        let endpoint = match base.split_once("://") {
            Some((scheme, host)) if !self.path_style => format!("{scheme}://{}.{host}", self.bucket),
            _ => base.to_owned(),
        };
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 3.0,
        };
        let retry = RetryConfig { backoff, max_retries: retries as usize, retry_timeout: self.patience };
        AmazonS3Builder::new()
            .with_endpoint(endpoint.trim_end_matches('/'))
            .with_allow_http(true)
            .with_virtual_hosted_style_request(!self.path_style)
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(self.access_key.expose_secret())
            .with_secret_access_key(self.secret_key.expose_secret())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Connector(http))
            .build()
    }
}

/// Whether `text` is `http(s)://host[:port]` and no more.
fn is_origin(text: &str) -> bool {
    let bare = |url: Url| {
        let same = url.as_str().trim_end_matches('/').eq_ignore_ascii_case(text.trim_end_matches('/'));
        let default_port = url.port().is_none() && (text.ends_with(":443") || text.ends_with(":80"));
        let whole = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && whole && (same || default_port)
    };
    !text.contains(char::is_whitespace) && !text.contains('@') && Url::parse(text).is_ok_and(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut S3Settings);

    #[test]
    fn what_cannot_be_used_is_told_by_name() {
        let good = S3Settings::new("minio:9000", "artifacts", "key".into(), "secret".into());
        let set = |change: Change| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.validate()
        };
        let fine: [Change; 5] = [
            |_| {},
            |s| s.endpoint = "S3.Example.com:443".into(),
            |s| s.endpoint = "[::1]:9000".into(),
            |s| s.public_endpoint = Some("https://s3.example.com/".into()),
            |s| s.secure = true,
        ];
        for (n, change) in fine.into_iter().enumerate() {
            assert_eq!(set(change), Ok(()), "{n}");
        }
        let wrong: [(Change, &str); 9] = [
            (|s| s.endpoint = "http://minio:9000".into(), "MINIO_ENDPOINT"),
            (|s| s.endpoint = "minio:9000/path".into(), "MINIO_ENDPOINT"),
            (|s| s.endpoint = "no host".into(), "MINIO_ENDPOINT"),
            (|s| s.endpoint = String::new(), "MINIO_ENDPOINT"),
            (|s| s.public_endpoint = Some("s3.example.com".into()), "public"),
            (|s| s.bucket = "a/b".into(), "MINIO_BUCKET"),
            (|s| s.region = " ".into(), "MINIO_REGION"),
            (|s| s.access_key = "".into(), "MINIO_ACCESS_KEY"),
            (|s| s.secret_key = "hidden\n".into(), "MINIO_SECRET_KEY"),
        ];
        for (change, name) in wrong {
            let reason = set(change).unwrap_err();
            assert!(reason.contains(name) && !reason.contains("hidden"), "{reason}");
        }
    }
}
