//! One service as a process of its own.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest time until a service has ended in order.
const FAREWELL: Duration = Duration::from_secs(15);
/// Pause between two looks at one that ends.
const PERIOD: Duration = Duration::from_millis(20);

/// How a service that starts is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Longest time until it answers.
    pub(crate) patience: Duration,
    /// Pause between two looks at it.
    pub(crate) period: Duration,
}

impl Pace {
    /// Of services that start within a second and are asked without much ado.
    const USUAL: Pace = Pace { patience: Duration::from_secs(60), period: PERIOD };
}

type Make = Box<dyn Fn(&Path, u16) -> Command + Send + Sync>;
type Probe = Box<dyn Fn(u16) -> bool + Send + Sync>;

/// A service that can be stopped, paused and started again on the same port and data. Killed when dropped.
pub struct Process {
    name: &'static str,
    home: TempDir,
    port: u16,
    pace: Pace,
    make: Make,
    probe: Probe,
    child: Option<Child>,
}

impl Process {
    /// Starts what `make` makes of a directory and a free port, and waits until `probe` says it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub(crate) fn start(
        name: &'static str,
        home: TempDir,
        make: impl Fn(&Path, u16) -> Command + Send + Sync + 'static,
        probe: impl Fn(u16) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(Pace::USUAL, name, home, make, probe)
    }

    /// The same of a service that is waited for otherwise than the others.
    ///
    /// # Panics
    /// When it does not come up.
    pub(crate) fn start_at(
        pace: Pace,
        name: &'static str,
        home: TempDir,
        make: impl Fn(&Path, u16) -> Command + Send + Sync + 'static,
        probe: impl Fn(u16) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (make, probe) = (Box::new(make), Box::new(probe));
        let mut process = Process { name, home, port: 0, pace, make, probe, child: None };
        for _ in 0..3 {
            process.port = free_port();
            if process.try_start() {
                return process;
            }
            // Somebody else may have taken the port before it did. One that runs has it, and is no faster on another.
            let has_ended = process.has_ended();
            process.kill();
            if !has_ended {
                break;
            }
        }
        panic!("{name} did not start:\n{}", process.log());
    }

    fn try_start(&mut self) -> bool {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.path().join("log"));
        let log = log.expect("a log file");
        let mut command = (self.make)(self.home.path(), self.port);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).process_group(0);
        self.child = Some(command.spawn().expect("an executable program"));
        let end = Instant::now() + self.pace.patience;
        while Instant::now() < end {
            if self.has_ended() {
                return false;
            }
            if (self.probe)(self.port) {
                return true;
            }
            thread::sleep(self.pace.period);
        }
        false
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What it has written.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.home.path().join("log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    fn signal(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    /// Stands still without ending: connections stay open and nobody answers (SIGSTOP). Processes of its own,
    /// as PostgreSQL has one for each connection, do the same.
    pub fn pause(&self) {
        // First itself, so that it starts no more.
        self.signal(Signal::STOP);
        self.signal_children(Signal::STOP);
    }

    /// Goes on after [`Process::pause`].
    pub fn resume(&self) {
        self.signal_children(Signal::CONT);
        self.signal(Signal::CONT);
    }

    fn signal_children(&self, signal: Signal) {
        for pid in self.children() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Processes of its own.
    fn children(&self) -> Vec<Pid> {
        let Some(parent) = self.child.as_ref().map(Child::id) else { return Vec::new() };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids =
            entries.filter_map(|it| it.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw));
        ids.filter(|pid| state_of(*pid).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
    }

    /// Ends it in order, or by force when it takes too long.
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        self.resume();
        let children = self.children();
        self.signal(signal);
        let end = Instant::now() + FAREWELL;
        while !self.has_ended() {
            if Instant::now() > end {
                self.signal(Signal::KILL);
            }
            thread::sleep(PERIOD);
        }
        self.child = None;
        // They notice that their parent was killed, and another one does not start on the same data before.
        let is_there = |pid: &Pid| state_of(*pid).is_some_and(|(state, _)| state != 'Z');
        while children.iter().any(is_there) && Instant::now() < end {
            thread::sleep(PERIOD);
        }
    }

    /// Starts it again on the same port and data.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        assert!(self.try_start(), "{} did not come back:\n{}", self.name, self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// State (`Z` has ended) and parent of a process: "pid (name) state parent …" in its `stat`, where the name may hold
/// anything.
fn state_of(pid: Pid) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
    listener.local_addr().expect("a bound address").port()
}
