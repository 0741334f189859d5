//! RS-98: bytes survive a power cut before anything says that they are stored. Seen from outside, in the system
//! calls of the real process.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use artifactapi_model::{Digest, PackageType};
use artifactapi_tests::{Proxy, RemoteManifest, Upstream, http, wait};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use artifactapi_tests::fixtures::noise;

const CALLS: &str = "trace=fsync,fdatasync,renameat,renameat2,linkat,pwrite64,write,writev,sendto,sendmsg";

/// A tracer attached to a process; killed when it is dropped, which lets the process go.
struct Tracer(Child);

impl Tracer {
    /// Lets it write down what it has seen.
    fn end(mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a child's id");
        kill_process(pid, Signal::INT).expect("it runs");
        self.0.wait().expect("its end");
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Attaches to `proxy`; says why it cannot.
async fn trace(proxy: &Proxy, output: &Path) -> Result<Tracer, String> {
    let said = output.with_extension("said");
    let child = Command::new("strace")
        .args(["-f", "-y", "-s", "16", "-e", CALLS, "-p", &proxy.pid().to_string(), "-o"])
        .arg(output)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).expect("space"))
        .spawn();
    let mut tracer = Tracer(child.map_err(|error| format!("no strace: {error}"))?);
    let text = || fs::read_to_string(&said).unwrap_or_default();
    let mut ended = false;
    wait::until("strace to attach", http::PATIENCE, async || {
        ended = !matches!(tracer.0.try_wait(), Ok(None));
        // How many threads there are changes all the time.
        ended || text().contains("attached with ")
    })
    .await;
    if ended { Err(format!("strace cannot attach: {}", text().trim())) } else { Ok(tracer) }
}

#[tokio::test(flavor = "multi_thread")]
async fn rs_98_file_and_directory_are_synced_before_the_row_and_the_row_before_the_end() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(RemoteManifest::new("g", PackageType::Generic, &upstream).document()).await;
    let scratch = TempDir::new().expect("a temporary directory");
    let output = scratch.path().join("calls");
    let tracer = match trace(&proxy, &output).await {
        Ok(tracer) => tracer,
        Err(why) => return eprintln!("SKIPPED rs_98: {why}"),
    };
    let bytes = noise(7, 300 << 10);
    upstream.put("cold.bin", bytes.clone());
    let answer = http::get(&format!("{}cold.bin", proxy.remote("g"))).await;
    assert!(answer.is_ok() && answer.body == bytes);
    let hex = Digest::of(&bytes).to_hex();
    let text = || fs::read_to_string(&output).expect("what strace wrote");
    // A client has its last byte before strace has written down who sent it.
    let end = Instant::now() + http::PATIENCE;
    while !order(&text(), &hex).is_ok_and(|order| order.is_sorted()) && Instant::now() < end {
        wait::breathe().await;
    }
    tracer.end();
    let text = text();
    let order = order(&text, &hex).unwrap_or_else(|missing| panic!("no {missing} in\n{text}"));
    assert!(order.is_sorted(), "{order:?} in\n{text}");
}

/// In which lines of a trace the blob called `hex` is synced, gets its name, has that synced, is written to the database
/// and synced there; and the last line that tells a client anything.
fn order(text: &str, hex: &str) -> Result<[usize; 6], String> {
    let calls: Vec<&str> = text.lines().collect();
    let shard = format!("/blobs/sha256/{}>", &hex[..2]);
    let after = |begin: usize, what: &str, wanted: &dyn Fn(&str) -> bool| {
        let found = calls.iter().skip(begin).position(|call| wanted(call)).map(|found| begin + found);
        found.ok_or_else(|| format!("{what} after call {begin}"))
    };
    let first = |what: &str, wanted: &dyn Fn(&str) -> bool| after(0, what, wanted);
    let file =
        first("sync of the staged file", &|call| call.contains(" fdatasync(") && call.contains("/staging/"))?;
    let rename = first("move to its name", &|call| call.contains("rename") && call.contains(hex))?;
    let directory =
        first("sync of its directory", &|call| call.contains(" fsync(") && call.contains(&shard))?;
    let wal = |call: &str| call.contains("-wal>") || call.contains(".wal>");
    // What is written before says that a fill begins and that its blob is coming; this is its row.
    let row = after(directory, "write to the database", &|call| call.contains("write") && wal(call))?;
    let synced = after(row, "sync of the database", &|call| call.contains("sync(") && wal(call))?;
    let socket = |call: &&str| call.contains("<TCP:[127.0.0.1") || call.contains("<socket:[");
    let told = calls.iter().rposition(socket).ok_or("answer")?;
    Ok([file, rename, directory, row, synced, told])
}
