//! PostgreSQL on a fresh cluster.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    Missing, Process,
    programs::{find, tools, versions},
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
        copy_unused(&initdb, home.path(), owner);
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

/// Puts a cluster that nobody has used into `home`: a copy, since making one takes longer than most tests. What is
/// copied is made once for each version and kept beside the tools.
fn copy_unused(initdb: &Path, home: &Path, owner: Option<(u32, u32)>) {
    let told = Command::new(initdb).arg("--version").output().expect("an executable initdb");
    let version = String::from_utf8_lossy(&told.stdout);
    // Whatever else it is made from.
    let made_from = format!("{version} {OPTIONS:?} {} {} {owner:?}", Postgres::USER, Postgres::PASSWORD);
    let mut hasher = DefaultHasher::new();
    made_from.hash(&mut hasher);
    let parent = tools().with_file_name("postgresql-unused");
    let kept = parent.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&parent).expect("space");
    // Several tests may be the first.
    let turn = fs::File::create(parent.join("lock")).expect("space");
    turn.lock().expect("a lock on a file of its own");
    if !kept.exists() {
        let new = TempDir::new().expect("a temporary directory");
        init(initdb, new.path(), owner);
        let half = kept.with_extension("new");
        let _ = fs::remove_dir_all(&half);
        copy(&new.path().join("data"), &half);
        fs::rename(&half, &kept).expect("a directory of its own");
    }
    drop(turn);
    copy(&kept, &home.join("data"));
}

/// What a cluster is made with.
const OPTIONS: [&str; 5] = [
    "--auth=scram-sha-256",
    "--no-sync",
    // Many of these run side by side on small disks.
    "--wal-segsize=1",
    "--encoding=UTF8",
    "--locale=C",
];

fn init(initdb: &Path, home: &Path, owner: Option<(u32, u32)>) {
    if let Some((uid, gid)) = owner {
        chown(home, Some(uid), Some(gid)).expect("it is ours to give");
    }
    let password = home.join("password");
    fs::write(&password, Postgres::PASSWORD).expect("space");
    let mut init = Command::new(initdb);
    init.arg("--pgdata").arg(home.join("data")).arg("--pwfile").arg(&password);
    init.args(OPTIONS).arg("--username").arg(Postgres::USER);
    let made = become_owner(&mut init, owner).stdin(Stdio::null()).output().expect("an executable initdb");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
}

/// With owners and modes, which PostgreSQL looks at.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).output().expect("cp");
    assert!(copied.status.success(), "cp: {}", String::from_utf8_lossy(&copied.stderr));
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
