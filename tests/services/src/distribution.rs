//! Distribution (`registry serve`), the registry other registries are compared with.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Minio, Missing, Process,
    programs::{find, tools, versions},
};

/// Where a Distribution keeps what is pushed.
#[derive(Clone, Debug)]
pub enum Storage {
    /// A directory, which several of them may share.
    Directory(PathBuf),
    /// A bucket of a MinIO at this endpoint (`host:port`).
    Bucket {
        /// `host:port`.
        endpoint: String,
        /// Its name.
        bucket: String,
    },
}

impl Storage {
    fn section(&self) -> String {
        match self {
            Storage::Directory(root) => format!("filesystem: {{rootdirectory: {}}}", root.display()),
            Storage::Bucket { endpoint, bucket } => format!(
                "s3: {{region: us-east-1, regionendpoint: \"http://{endpoint}\", bucket: {bucket}, accesskey: {}, \
                 secretkey: {}, forcepathstyle: true, secure: false}}",
                Minio::ACCESS_KEY,
                Minio::SECRET_KEY
            ),
        }
    }
}

/// A running Distribution that takes pushes and deletions from everybody.
pub struct Distribution(pub Process);

impl Distribution {
    /// Starts one on `storage`.
    ///
    /// # Errors
    /// When it is not installed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(storage: &Storage) -> Result<Self, Missing> {
        let program = find("registry", &versions(&tools(), "registry-"))?;
        let home = TempDir::new().expect("a temporary directory");
        let section = storage.section();
        let make = move |home: &Path, port: u16| {
            let file = home.join("config.yml");
            // The secret signs sessions: whoever shares the storage must share it.
            let text = format!(
                "version: 0.1\n\
                 log: {{level: warn, accesslog: {{disabled: true}}}}\n\
                 storage:\n  {section}\n  delete: {{enabled: true}}\n  redirect: {{disable: true}}\n  \
                 maintenance: {{uploadpurging: {{enabled: false}}}}\n\
                 http: {{addr: \"127.0.0.1:{port}\", secret: the-same-for-all}}\n"
            );
            fs::write(&file, text).expect("space");
            let mut command = Command::new(&program);
            command.arg("serve").arg(file).env("OTEL_TRACES_EXPORTER", "none").env("HOME", home);
            command
        };
        Ok(Distribution(Process::start("distribution", home, make, is_ready)))
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.0.port())
    }

    /// Root URL without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
