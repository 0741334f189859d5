//! RS-98: bytes survive a power cut before anything says that they are stored. Seen from outside, in the system
//! calls of the real process.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use artifactapi_model::{Digest, PackageType};
use artifactapi_tests::{Proxy, RemoteManifest, Upstream, http, wait};
use tempfile::TempDir;

use artifactapi_tests::fixtures::noise;

const CALLS: &str = "trace=fsync,fdatasync,renameat,renameat2,linkat,pwrite64,write,writev,sendto,sendmsg";

/// A tracer attached to a process; killed when it is dropped, which lets the process go.
struct Tracer(Child);

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
    let threads = fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("it runs").count();
    let text = || fs::read_to_string(&said).unwrap_or_default();
    let mut ended = false;
    wait::until("strace to attach", http::PATIENCE, async || {
        ended = !matches!(tracer.0.try_wait(), Ok(None));
        ended
            || text().contains(&format!("attached with {threads} threads"))
            || text().matches("attached").count() >= threads
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
    drop(tracer);

    let text = fs::read_to_string(&output).expect("what strace wrote");
    let calls: Vec<&str> = text.lines().collect();
    let hex = Digest::of(&bytes).to_hex();
    let shard = format!("/blobs/sha256/{}>", &hex[..2]);
    let after = |begin: usize, what: &str, wanted: &dyn Fn(&str) -> bool| {
        let found = calls.iter().skip(begin).position(|call| wanted(call)).map(|found| begin + found);
        found.unwrap_or_else(|| panic!("no {what} after call {begin} in\n{text}"))
    };
    let first = |what: &str, wanted: &dyn Fn(&str) -> bool| after(0, what, wanted);
    let file =
        first("sync of the staged file", &|call| call.contains(" fdatasync(") && call.contains("/staging/"));
    let rename = first("move to its name", &|call| call.contains("rename") && call.contains(&hex));
    let directory = first("sync of its directory", &|call| call.contains(" fsync(") && call.contains(&shard));
    let wal = |call: &str| call.contains("-wal>") || call.contains(".wal>");
    // What is written before says that a fill begins and that its blob is coming; this is its row.
    let row = after(directory, "write to the database", &|call| call.contains("write") && wal(call));
    let synced = after(row, "sync of the database", &|call| call.contains("sync(") && wal(call));
    let socket = |call: &&str| call.contains("<TCP:[127.0.0.1") || call.contains("<socket:[");
    let told = calls.iter().rposition(socket).unwrap_or_else(|| panic!("no answer in\n{text}"));
    let order = [file, rename, directory, row, synced, told];
    assert!(order.is_sorted(), "{order:?} in\n{text}");
}
