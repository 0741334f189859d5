//! Variables of the environment: read with all their mistakes gathered, so that they are reported together. Every
//! secret may stand in a file instead (`NAME_FILE`).

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr},
};

use artifactapi_model::Sealer;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    listen,
    postgres::{Password, PostgresSettings, PostgresTls},
};

/// Where a variable is looked up; tests have their own.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads variables and gathers what is wrong with them.
pub struct Reader<'a> {
    lookup: Lookup<'a>,
    /// A sentence for each thing that is wrong.
    pub errors: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Reads where `lookup` looks.
    pub fn new(lookup: Lookup<'a>) -> Self {
        Reader { lookup, errors: Vec::new() }
    }

    /// `value`, unless something was wrong.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Vec<String>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }

    /// The value without spaces around it; nothing counts as not set.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A value that must be set; `example` says what it is.
    pub fn required(&mut self, name: &str, example: &str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.errors.push(format!("{name} is not set; {example}"));
            String::new()
        })
    }

    /// A secret, from the variable or from the file that `NAME_FILE` names.
    pub fn secret(&mut self, name: &str) -> Option<SecretString> {
        let file_name = format!("{name}_FILE");
        match (self.text(name), self.text(&file_name)) {
            (Some(_), Some(_)) => {
                self.errors.push(format!("{name} and {file_name} are both set; one of them is enough"));
                None
            }
            (Some(value), None) => Some(value.into()),
            (None, Some(file)) => match fs::read_to_string(&file) {
                Ok(text) if text.trim().is_empty() => {
                    self.errors.push(format!("{file_name}: {file} is empty"));
                    None
                }
                Ok(text) => Some(text.trim().to_owned().into()),
                Err(error) => {
                    self.errors.push(format!("{file_name}: {file} cannot be read: {error}"));
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// A secret that must be set.
    pub fn required_secret(&mut self, name: &str) -> SecretString {
        let before = self.errors.len();
        let secret = self.secret(name);
        if secret.is_none() && self.errors.len() == before {
            self.errors.push(format!("{name} is not set, and neither is {name}_FILE"));
        }
        secret.unwrap_or_else(|| String::new().into())
    }

    /// A value that is `wanted`, as "a port number".
    pub fn parsed<T: std::str::FromStr>(&mut self, name: &str, default: T, wanted: &str) -> T {
        match self.text(name).map(|text| (text.parse(), text)) {
            None => default,
            Some((Ok(value), _)) => value,
            Some((Err(_), text)) => {
                self.errors.push(format!("{name}: {text:?} is not {wanted}"));
                default
            }
        }
    }

    /// An address to listen on: `:8000` listens on every address, as the original system read it ([`listen::address`]).
    pub fn address(&mut self, name: &str, default: &str) -> SocketAddr {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        listen::address(&text).unwrap_or_else(|| {
            self.errors.push(format!("{name}: {text:?} is no address as 0.0.0.0:8000, [::1]:8000 or :8000"));
            SocketAddr::from(([0, 0, 0, 0], 0))
        })
    }

    /// Where others reach something: `host:port`, with the brackets that an IPv6 address needs, as templates put it
    /// together without them.
    pub fn reached(&mut self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        let reached = with_brackets(&text);
        if reached.is_none() {
            self.errors.push(format!("{name}: {text:?} is no address as 10.0.0.5:8001 or [fd00::5]:8001"));
        }
        reached
    }

    /// The text of the file that a variable names.
    pub fn file(&mut self, name: &str) -> Option<String> {
        let file = self.text(name)?;
        fs::read_to_string(&file)
            .map_err(|error| self.errors.push(format!("{name}: {file} cannot be read: {error}")))
            .ok()
    }

    /// PostgreSQL: `DBHOST`, `DBPORT`, `DBUSER`, `DBPASS`, `DBNAME`, `ARTIFACTAPI_DB_TLS`, `ARTIFACTAPI_DB_CA`.
    pub fn postgres(&mut self) -> PostgresSettings {
        PostgresSettings {
            host: self.required("DBHOST", "it is PostgreSQL's host name"),
            port: self.parsed("DBPORT", 5432, "a port number"),
            user: self.required("DBUSER", "it is the PostgreSQL role to connect as"),
            password: self.database_password(),
            database: self.text("DBNAME").unwrap_or_else(|| "artifactapi".into()),
            tls: self.database_tls(),
        }
    }

    fn database_password(&mut self) -> Password {
        let known = self.required_secret("DBPASS");
        match self.text("DBPASS_FILE") {
            Some(file) => Password::in_file(known, file.into()),
            None => known.into(),
        }
    }

    fn database_tls(&mut self) -> PostgresTls {
        match self.text("ARTIFACTAPI_DB_TLS").as_deref() {
            None | Some("disable") => PostgresTls::Disable,
            Some("require") => PostgresTls::Require,
            Some("verify") => {
                PostgresTls::Verify { ca: self.file("ARTIFACTAPI_DB_CA").map(String::into_bytes) }
            }
            Some(other) => {
                self.errors.push(format!("ARTIFACTAPI_DB_TLS: {other:?} is not disable, require or verify"));
                PostgresTls::Disable
            }
        }
    }

    /// The key of credentials at rest: `ARTIFACTAPI_ENCRYPTION_KEY`.
    pub fn sealer(&mut self) -> Option<Sealer> {
        let key = self.secret("ARTIFACTAPI_ENCRYPTION_KEY")?;
        match Sealer::new(key.expose_secret()) {
            Ok(sealer) => Some(sealer),
            Err(error) => {
                self.errors.push(format!("ARTIFACTAPI_ENCRYPTION_KEY: {error}"));
                None
            }
        }
    }
}

/// `host:port` as URLs have it; `None` when it is none.
fn with_brackets(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare.unwrap_or(host).parse::<Ipv6Addr>() {
        Ok(address) => Some(format!("[{address}]:{port}")),
        Err(_) if host.is_empty() || host.contains([':', '[', ']', '/', '@', ' ']) => None,
        Err(_) => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::with_brackets;

    #[test]
    fn an_address_gets_its_brackets() {
        for (text, want) in [
            ("10.0.0.5:8001", Some("10.0.0.5:8001")),
            ("replica-1.proxies:8001", Some("replica-1.proxies:8001")),
            ("fd00::5:8001", Some("[fd00::5]:8001")),
            ("[fd00::5]:8001", Some("[fd00::5]:8001")),
            ("::1:8001", Some("[::1]:8001")),
            ("fd00:1:2:3:4:5:6:7:8001", Some("[fd00:1:2:3:4:5:6:7]:8001")),
            ("fd00::5", None),
            (":8001", None),
            ("10.0.0.5", None),
            ("10.0.0.5:80010", None),
            ("http://10.0.0.5:8001", None),
            ("fd00::5::8001", None),
            ("[10.0.0.5]:8001", None),
        ] {
            assert_eq!(with_brackets(text).as_deref(), want, "{text}");
        }
    }
}
