//! Redis, without persistence.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
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
        Self::start_with(&[])
    }

    /// Starts a cluster of one node that has all slots.
    ///
    /// # Errors
    /// When it is not installed.
    ///
    /// # Panics
    /// When it does not become a cluster.
    pub fn start_cluster() -> Result<Self, Missing> {
        let redis = Self::start_with(&["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"])?;
        assert_eq!(redis.command("CLUSTER ADDSLOTSRANGE 0 16383"), "+OK");
        let end = Instant::now() + Duration::from_secs(30);
        while !redis.answer("CLUSTER INFO").contains("cluster_state:ok") {
            assert!(Instant::now() < end, "no cluster:\n{}", redis.0.log());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    fn start_with(more: &'static [&'static str]) -> Result<Self, Missing> {
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
            command.arg("--dir").arg(home).args(more);
            command
        };
        let home = TempDir::new().expect("a temporary directory");
        Ok(Redis(Process::start("redis", home, make, |port| {
            ask(port, "PING").is_some_and(|it| it.starts_with("+PONG"))
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
        self.answer(line).lines().next().unwrap_or_default().to_owned()
    }

    /// The beginning of the whole answer.
    fn answer(&self, line: &str) -> String {
        ask(self.0.port(), line).expect("an answer of redis")
    }
}

fn ask(port: u16, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
    let mut answer = [0; 256];
    let read = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..read]).into_owned())
}
