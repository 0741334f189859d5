//! How to reach the server.

use std::time::Duration;

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
    pub password: SecretString,
    /// Name of the database.
    pub database: String,
    /// Whether the connection is encrypted.
    pub tls: PostgresTls,
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

    pub(super) fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .password(self.password.expose_secret())
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
