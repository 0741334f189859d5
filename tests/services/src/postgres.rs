//! PostgreSQL on a fresh cluster.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    Missing, Process,
    programs::{find, versions},
};

/// A running PostgreSQL with one database.
pub struct Postgres {
    /// The postmaster; ending it ends all of its processes.
    pub process: Process,
    bin: PathBuf,
}

impl Postgres {
    /// The superuser, who needs a password.
    pub const USER: &'static str = "artifactapi";
    /// Its password.
    pub const PASSWORD: &'static str = "postgres-secret";
    /// The database that is there.
    pub const DATABASE: &'static str = "postgres";

    /// Starts one.
    ///
    /// # Errors
    /// When it is not installed.
    ///
    /// # Panics
    /// When a cluster cannot be made.
    pub fn start() -> Result<Self, Missing> {
        let places: Vec<PathBuf> =
            versions(Path::new("/usr/lib/postgresql"), "").iter().map(|dir| dir.join("bin")).collect();
        let initdb = find("initdb", &places)?;
        // Through links: its siblings are where it really is.
        let initdb = fs::canonicalize(initdb).expect("a program that was just found");
        let bin = initdb.parent().unwrap_or(Path::new("/")).to_owned();
        let home = TempDir::new().expect("a temporary directory");
        let owner = owner();
        if let Some((uid, gid)) = owner {
            chown(home.path(), Some(uid), Some(gid)).expect("it is ours to give");
        }
        let password = home.path().join("password");
        fs::write(&password, Self::PASSWORD).expect("space");
        let mut init = Command::new(initdb);
        init.arg("--pgdata").arg(home.path().join("data")).arg("--pwfile").arg(&password);
        init.args([
            "--auth=scram-sha-256",
            "--no-sync",
            // Many of these run side by side on small disks.
            "--wal-segsize=1",
            "--encoding=UTF8",
            "--locale=C",
            "--username",
            Self::USER,
        ]);
        let made =
            become_owner(&mut init, owner).stdin(Stdio::null()).output().expect("an executable initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let postgres = bin.join("postgres");
        let make = move |home: &Path, port: u16| {
            let mut command = Command::new(&postgres);
            command.arg("-D").arg(home.join("data")).args(["-p", &port.to_string(), "-k", ""]);
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
            // Processes are killed here, machines are not: what is written survives without waiting for disks.
            command.args(["-c", "fsync=off", "-c", "min_wal_size=2MB", "-c", "max_wal_size=32MB"]);
            become_owner(&mut command, owner);
            command
        };
        let ready = bin.join("pg_isready");
        let probe = move |port: u16| {
            let mut command = Command::new(&ready);
            command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            command.status().is_ok_and(|status| status.success())
        };
        Ok(Postgres { process: Process::start("postgresql", home, make, probe), bin })
    }

    /// Runs SQL as the superuser; what psql printed, unaligned and without headings.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
        psql.args(["-p", &self.process.port().to_string(), "-U", Self::USER, "-d", database, "-c", sql]);
        let output = psql.env("PGPASSWORD", Self::PASSWORD).output().expect("an executable psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes another, empty database.
    pub fn database(&self, name: &str) {
        self.sql(Self::DATABASE, &format!("CREATE DATABASE {name}"));
    }
}

/// Whom to run it as: it refuses to be root.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

fn become_owner(command: &mut Command, owner: Option<(u32, u32)>) -> &mut Command {
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}
