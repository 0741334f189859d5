//! Redis, without persistence.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Missing, Process, programs::find};

/// A running Redis.
pub struct Redis(pub Process);

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn start() -> Result<Self, Missing> {
        let program = find("redis-server", &[])?;
        let make = move |home: &std::path::Path, port: u16| {
            let mut command = Command::new(&program);
            command.args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
            command.arg("--dir").arg(home);
            command
        };
        let home = TempDir::new().expect("a temporary directory");
        Ok(Redis(Process::start("redis", home, make, |port| {
            ask(port, "PING").is_some_and(|it| it == "+PONG")
        })))
    }

    /// `redis://…`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0.port())
    }

    /// Sends one inline command; the first line of the answer.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn command(&self, line: &str) -> String {
        ask(self.0.port(), line).expect("an answer of redis")
    }
}

fn ask(port: u16, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
    let mut answer = [0; 256];
    let read = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned())
}
