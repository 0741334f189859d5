//! How to reach the server.

use std::{path::PathBuf, time::Duration};

use deadpool_postgres::tokio_postgres::config::{Config, SslMode};
use secrecy::{ExposeSecret as _, SecretString};

/// Where the database is and who we are there.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// Host name, address, or directory of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// Name of the database.
    pub database: String,
    /// Whether the connection is encrypted.
    pub tls: PostgresTls,
}

/// A password. One that stands in a file is read again for every connection: a Secret of Kubernetes is corrected, and
/// changed in time, under a process that runs.
#[derive(Clone, Debug)]
pub struct Password {
    known: SecretString,
    file: Option<PathBuf>,
}

impl From<SecretString> for Password {
    /// One that never changes.
    fn from(known: SecretString) -> Self {
        Password { known, file: None }
    }
}

impl Password {
    /// What `file` says, and `known` whenever it cannot be read or says nothing.
    pub fn in_file(known: SecretString, file: PathBuf) -> Self {
        Password { known, file: Some(file) }
    }

    /// The one that was there when the settings were read.
    pub fn at_first(&self) -> &SecretString {
        &self.known
    }

    /// The one of now.
    async fn current(&self) -> SecretString {
        let Some(file) = &self.file else { return self.known.clone() };
        match tokio::fs::read_to_string(file).await {
            Ok(text) if !text.trim().is_empty() => text.trim().to_owned().into(),
            _ => self.known.clone(),
        }
    }
}

/// TLS towards the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresTls {
    /// In the clear.
    Disable,
    /// Encrypted; whoever answers is taken for the server.
    Require,
    /// Encrypted, and the server's certificate must be for its host name.
    Verify {
        /// Certificates (PEM) of the authorities to trust; none: those of the system.
        ca: Option<Vec<u8>>,
    },
}

impl PostgresSettings {
    /// `host:port`, for messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// For one connection, which is to be made at once.
    pub(super) async fn config(&self) -> Config {
        let mut config = self.config_without_password();
        config.password(self.password.current().await.expose_secret());
        config
    }

    /// All that does not change.
    pub(super) fn config_without_password(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name("artifactapi")
            .keepalives_idle(Duration::from_secs(15))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(15))
            .ssl_mode(match self.tls {
                PostgresTls::Disable => SslMode::Disable,
                PostgresTls::Require | PostgresTls::Verify { .. } => SslMode::Require,
            });
        config
    }
}
