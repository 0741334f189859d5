//! Log output: JSON lines, or text on a terminal, through a bounded queue and one writing thread, so that a
//! reader who stops reading never stops a request.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::{
    EnvFilter, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Pieces of output under way; each holds one line or a batch of them.
const QUEUE: usize = 4096;

/// What is logged unless `RUST_LOG` says otherwise. refinery tells of every step with the path at which it was
/// built.
const DEFAULT_FILTER: &str = "info,refinery_core=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// Whether lines are JSON, now that the output is known.
    pub fn is_json(self) -> bool {
        match self {
            LogFormat::Auto => !io::stdout().is_terminal(),
            LogFormat::Json => true,
            LogFormat::Text => false,
        }
    }
}

enum Piece {
    Lines(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The way to the output. Cheap to clone.
#[derive(Clone)]
pub struct LogSink {
    queue: SyncSender<Piece>,
    dropped: Counter,
}

impl LogSink {
    /// Starts the writing thread. What finds the queue full is counted in `dropped`.
    ///
    /// # Errors
    /// The operating system's when it gives no thread.
    pub fn start(dropped: Counter) -> io::Result<Self> {
        let (queue, pieces) = sync_channel(QUEUE);
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(&pieces))?;
        Ok(LogSink { queue, dropped })
    }

    /// Hands over whole lines; never waits.
    pub fn send(&self, lines: Vec<u8>) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !lines.is_empty() && self.queue.try_send(Piece::Lines(lines)).is_err() {
            self.dropped.inc_by(count);
        }
    }

    /// Waits until everything handed over so far is written; for the end of the process.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Piece::Flush(done)).is_ok() {
            let _ = written.recv_timeout(std::time::Duration::from_secs(2));
        }
    }

    /// Makes this the process's log. `RUST_LOG` chooses what is logged; the default is `info`.
    pub fn install(&self, json: bool) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
        let registry = tracing_subscriber::registry().with(filter);
        let layer = tracing_subscriber::fmt::layer().with_writer(self.clone());
        // A second call in one process (a test) keeps the first.
        let _ = if json {
            registry.with(layer.json().flatten_event(true)).try_init()
        } else {
            registry.with(layer.with_ansi(io::stdout().is_terminal())).try_init()
        };
    }
}

fn write_all(pieces: &Receiver<Piece>) {
    let mut output = io::stdout();
    while let Ok(piece) = pieces.recv() {
        match piece {
            // Where standard output is gone there is nobody to tell.
            Piece::Lines(lines) => drop(output.write_all(&lines)),
            Piece::Flush(done) => {
                drop(output.flush());
                let _ = done.send(());
            }
        }
    }
}

/// One event on its way out; the formatter writes it in pieces.
pub struct Line {
    sink: LogSink,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.sink.send(std::mem::take(&mut self.text));
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { sink: self.clone(), text: Vec::new() }
    }
}
