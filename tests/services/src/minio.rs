//! MinIO on one directory.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Missing, Process,
    programs::{find, tools, versions},
    scratch,
};

/// A running MinIO with one bucket.
pub struct Minio(pub Process);

impl Minio {
    /// Access key.
    pub const ACCESS_KEY: &'static str = "minioadmin";
    /// Secret key.
    pub const SECRET_KEY: &'static str = "minioadmin-secret";
    /// The bucket that is there.
    pub const BUCKET: &'static str = "artifactapi";

    /// Starts one.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn start() -> Result<Self, Missing> {
        Self::start_in(TempDir::new().expect("a temporary directory"))
    }

    /// Starts one that keeps everything in memory, where there is a directory for that: for tests that make thousands
    /// of small objects and nothing of their durability.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn start_in_memory() -> Result<Self, Missing> {
        Self::start_in(scratch())
    }

    fn start_in(home: TempDir) -> Result<Self, Missing> {
        let program = find("minio", &versions(&tools(), "minio-"))?;
        // On a single directory, a bucket is a directory.
        fs::create_dir_all(home.path().join("data").join(Self::BUCKET)).expect("space");
        let make = move |home: &std::path::Path, port: u16| {
            let mut command = Command::new(&program);
            command.arg("server").arg("--quiet").arg("--address").arg(format!("127.0.0.1:{port}"));
            command.arg("--console-address").arg("127.0.0.1:0").arg(home.join("data"));
            command
                .env("MINIO_ROOT_USER", Self::ACCESS_KEY)
                .env("MINIO_ROOT_PASSWORD", Self::SECRET_KEY)
                .env("MINIO_UPDATE", "off")
                .env("MINIO_CALLHOME_ENABLE", "off")
                .env("HOME", home);
            command
        };
        Ok(Minio(Process::start("minio", home, make, is_ready)))
    }

    /// `127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.0.port())
    }

    /// Makes another, empty bucket.
    ///
    /// # Panics
    /// When there is no space.
    pub fn bucket(&self, name: &str) {
        fs::create_dir_all(self.0.home().join("data").join(name)).expect("space");
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream
            .write_all(b"GET /minio/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
