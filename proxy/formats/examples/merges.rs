//! Prints how fast indexes are rewritten and merged, from memory to memory on one thread. Figures, never a verdict.
//!
//! `merges DIRECTORY` also leaves the two rpm repositories of 25,000 packages there, for `mergerepo_c` to merge the same.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::{BufRead, Write},
    path::Path,
    time::{Duration, Instant},
};

use artifactapi_formats::{
    IndexError, LinkSigner, Plan, PublicBase, Request, RewriteContext, Source, format_of,
    merge::{Inputs, Listed, Member, Output, Rules, Signer, Written, merge_of},
};
use artifactapi_model::{
    Digest, PackageType, RepoName, RepoPath, Ttl,
    repository::{
        Delivery, DockerOptions, Egress, FileHosts, OnUpstreamGone, ReadAccess, RemoteSpec, Retention,
        Timeouts, UpstreamTls,
    },
};
use flate2::{Compression, write::GzEncoder};
use url::Url;

/// Rounds of which the fastest counts.
const ROUNDS: usize = 5;
const RPM_PACKAGES: usize = 25_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A member in memory.
struct Held {
    name: String,
    documents: BTreeMap<String, Vec<u8>>,
}

impl Member for Held {
    fn name(&self) -> &str {
        &self.name
    }

    fn permits(&self, _: &str) -> bool {
        true
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn BufRead + '_>>, IndexError> {
        Ok(self.documents.get(path).map(|body| Box::new(&body[..]) as Box<dyn BufRead>))
    }
}

struct United;

impl Rules for United {
    fn names_first(&self) -> bool {
        false
    }

    fn may_have(&self, _place: usize, _name: &str) -> bool {
        true
    }
}

impl Signer for United {
    fn rsa_name(&self) -> String {
        "none".to_owned()
    }

    fn rsa_sha256(&self, _: &Digest) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    fn openpgp(&self, _: &[u8]) -> Result<Option<String>, String> {
        Ok(None)
    }
}

/// Keeps what is written in memory, for as long as the next file is not begun.
#[derive(Default)]
struct Sink {
    file: Vec<u8>,
    bytes: usize,
    listed: usize,
}

impl Output for Sink {
    fn file(
        &mut self,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), IndexError>,
    ) -> Result<Written, IndexError> {
        self.file.clear();
        content(&mut self.file)?;
        self.bytes += self.file.len();
        Ok(Written { digest: Digest::of(&self.file), size: self.file.len() as u64 })
    }

    fn publish(&mut self, _: String, _: &'static str) {}

    fn list(&mut self, _: Listed) -> Result<(), IndexError> {
        self.listed += 1;
        Ok(())
    }

    fn alias(&mut self, _: String, _: Listed) -> Result<(), IndexError> {
        Ok(())
    }
}

fn main() -> Outcome<()> {
    let directory = env::args().nth(1);
    packument()?;
    charts()?;
    packages(directory.as_deref().map(Path::new))
}

/// The fastest of some rounds of `work`, in seconds.
fn fastest(mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        work()?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A Remote in front of the packument's registry.
fn npm() -> Outcome<RemoteSpec> {
    Ok(RemoteSpec {
        name: RepoName::try_from("p")?,
        namespace: "default".into(),
        package_type: PackageType::Npm,
        base_url: Url::parse("https://up.test/")?,
        immutable_ttl: Ttl::Forever,
        mutable_ttl: Ttl::Forever,
        policy: Default::default(),
        docker: DockerOptions::default(),
        query_parameters: Vec::new(),
        stale_if_error: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
        negative_ttl: Duration::ZERO,
        on_upstream_gone: OnUpstreamGone::Keep,
        credentials: None,
        auth_realms: Vec::new(),
        tls: UpstreamTls::default(),
        file_hosts: FileHosts::Public,
        egress: Egress::default(),
        timeouts: Timeouts::default(),
        max_concurrent: 1,
        delivery: Delivery::Proxy,
        read: ReadAccess::Anonymous,
        suspend: false,
        retention: Retention::default(),
    })
}

/// A packument of 20 MB, rewritten in full and to the abbreviated form.
fn packument() -> Outcome<()> {
    let mut text =
        "{\"_id\":\"p\",\"name\":\"p\",\"dist-tags\":{\"latest\":\"1.0.0\"},\"versions\":{".to_owned();
    let filler = "lorem ipsum dolor sit amet ".repeat(100);
    for version in 0..7_000 {
        let comma = if version == 0 { "" } else { "," };
        write!(
            text,
            "{comma}\"1.0.{version}\":{{\"name\":\"p\",\"version\":\"1.0.{version}\",\"description\":\"{filler}\",\
             \"dependencies\":{{\"a\":\"^1.0.0\"}},\"dist\":{{\"integrity\":\"sha512-AAAA\",\
             \"tarball\":\"https://up.test/p/-/p-1.0.{version}.tgz\"}}}}"
        )?;
    }
    text.push_str("}}");
    let spec = npm()?;
    let links = LinkSigner::new([7; 32]);
    let base = PublicBase { origin: "https://here.test".into(), prefix: "/api/v1/remote/p/".into() };
    let format = format_of(PackageType::Npm);
    for (form, accept) in
        [("full", "application/json"), ("abbreviated", "application/vnd.npm.install-v1+json")]
    {
        let request = Request { method: artifactapi_formats::Method::Get, raw_path: "p", query: "", accept };
        let Plan::Serve(resource) = format.plan(&request, &spec, &links)? else {
            return Err("no plan".into());
        };
        let url = spec.base_url.join("p")?;
        let source = Source { path: &resource.path, query: "", content_type: "application/json", url: &url };
        let cx = RewriteContext { base: &base, links: &links, remote: &spec, permits: &|_| true };
        let mut output = Vec::with_capacity(text.len() * 2);
        let seconds = fastest(|| {
            output.clear();
            format.rewrite(&resource, &source, &cx, &mut text.as_bytes(), &mut output)?;
            Ok(())
        })?;
        let rate = text.len() as f64 / 1e9 / seconds;
        println!(
            "npm: a packument of {:.1} MiB rewritten ({form}) in {:.1} ms: {rate:.2} GB/s",
            mebibytes(text.len()),
            seconds * 1e3
        );
    }
    Ok(())
}

/// 50 members, one of 40 MB and 49 of 0.5 MB, as the members serve them.
fn charts() -> Outcome<()> {
    let index = |member: usize, bytes: usize| {
        let mut text = "{\"apiVersion\":\"v1\",\"entries\":{".to_owned();
        let mut chart = 0;
        while text.len() < bytes {
            let comma = if chart == 0 { "" } else { "," };
            let _ = write!(text, "{comma}\"m{member}-chart{chart}\":[");
            for version in 0..20 {
                let comma = if version == 0 { "" } else { "," };
                let _ = write!(
                    text,
                    "{comma}{{\"apiVersion\":\"v2\",\"name\":\"m{member}-chart{chart}\",\"version\":\"1.{version}.0\",\
                     \"description\":\"{}\",\"urls\":[\"charts/m{member}-chart{chart}-1.{version}.0.tgz\"],\
                     \"digest\":\"{:064x}\",\"created\":\"2024-01-01T00:00:00Z\"}}",
                    "a chart that does what charts do ".repeat(10),
                    chart * 100 + version
                );
            }
            text.push(']');
            chart += 1;
        }
        text + "}}"
    };
    let member = |number: usize| {
        let bytes = if number == 0 { 40_000_000 } else { 500_000 };
        let documents = BTreeMap::from([("index.yaml".to_owned(), index(number, bytes).into_bytes())]);
        Held { name: format!("m{number}"), documents }
    };
    let members: Vec<Held> = (0..50).map(member).collect();
    report("helm: 50 members", PackageType::Helm, "index.yaml", &members)?;
    Ok(())
}

/// Merges `members` and prints what that took.
fn report(what: &str, package_type: PackageType, path: &str, members: &[Held]) -> Outcome<f64> {
    let merge = merge_of(package_type).ok_or("no merge")?;
    let path = RepoPath::from_canonical(path)?;
    let given: Vec<&dyn Member> = members.iter().map(|member| member as &dyn Member).collect();
    let bytes: usize = members.iter().flat_map(|member| member.documents.values()).map(Vec::len).sum();
    let mut sink = Sink::default();
    let seconds = fastest(|| {
        sink = Sink::default();
        let inputs = Inputs { index: &path, members: &given, rules: &United, signer: &United };
        Ok(merge.merge(inputs, &mut sink)?)
    })?;
    println!(
        "{what}, {:.1} MiB in, {:.1} MiB out, {} entries: merged in {:.0} ms",
        mebibytes(bytes),
        mebibytes(sink.bytes),
        sink.listed,
        seconds * 1e3
    );
    Ok(seconds)
}

fn gzip(text: &str) -> Outcome<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

/// Two repositories of 25,000 packages each, half of which they have in common.
fn packages(directory: Option<&Path>) -> Outcome<()> {
    let mut members = Vec::new();
    for (number, first) in [0, RPM_PACKAGES / 2].into_iter().enumerate() {
        let documents = repository(first)?;
        if let Some(directory) = directory {
            for (path, body) in &documents {
                let path = directory.join(format!("r{number}")).join(path);
                fs::create_dir_all(path.parent().ok_or("no directory")?)?;
                fs::write(path, body)?;
            }
        }
        members.push(Held { name: format!("r{number}"), documents });
    }
    report("rpm: 2 × 25,000 packages", PackageType::Rpm, "repodata/repomd.xml", &members)?;
    Ok(())
}

/// The metadata of packages numbered from `first`.
fn repository(first: usize) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let head = |root: &str, space: &str, extra: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"http://linux.duke.edu/metadata/{space}\"{extra} \
             packages=\"{RPM_PACKAGES}\">\n"
        )
    };
    let mut primary = head("metadata", "common", " xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\"");
    let (mut filelists, mut other) = (head("filelists", "filelists", ""), head("otherdata", "other", ""));
    for number in first..first + RPM_PACKAGES {
        let (name, id) = (format!("package{number}"), Digest::of(number.to_string().as_bytes()).to_hex());
        writeln!(
            primary,
            "<package type=\"rpm\"><name>{name}</name><arch>x86_64</arch><version epoch=\"0\" ver=\"1.0\" rel=\"1\"/>\
             <checksum type=\"sha256\" pkgid=\"YES\">{id}</checksum><summary>A package</summary>\
             <description>{}</description><packager/><url>https://example.test/</url>\
             <time file=\"1700000000\" build=\"1700000000\"/><size package=\"1000\" installed=\"2000\" archive=\"2500\"/>\
             <location href=\"Packages/{name}-1.0-1.x86_64.rpm\"/><format><rpm:license>MIT</rpm:license><rpm:vendor/>\
             <rpm:group>Unspecified</rpm:group><rpm:buildhost>localhost</rpm:buildhost>\
             <rpm:sourcerpm>{name}-1.0-1.src.rpm</rpm:sourcerpm><rpm:header-range start=\"1\" end=\"2\"/>\
             <rpm:provides><rpm:entry name=\"{name}\" flags=\"EQ\" epoch=\"0\" ver=\"1.0\" rel=\"1\"/></rpm:provides>\
             <rpm:requires><rpm:entry name=\"libc.so.6()(64bit)\"/></rpm:requires></format></package>",
            "It does what packages do. ".repeat(12)
        )?;
        let package = format!(
            "<package pkgid=\"{id}\" name=\"{name}\" arch=\"x86_64\"><version epoch=\"0\" ver=\"1.0\" rel=\"1\"/>"
        );
        filelists.push_str(&package);
        for file in 0..20 {
            write!(filelists, "<file>/usr/share/{name}/part{file}/data.bin</file>")?;
        }
        filelists.push_str("</package>\n");
        writeln!(
            other,
            "{package}<changelog author=\"A &lt;a@example.test&gt; - 1.0-1\" date=\"1700000000\">- first</changelog></package>"
        )?;
    }
    primary.push_str("</metadata>");
    filelists.push_str("</filelists>");
    other.push_str("</otherdata>");
    let mut documents = BTreeMap::new();
    let mut repomd =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<repomd xmlns=\"http://linux.duke.edu/metadata/repo\" \
                      xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\"><revision>1700000000</revision>\n"
            .to_owned();
    for (kind, text) in [("primary", primary), ("filelists", filelists), ("other", other)] {
        let packed = gzip(&text)?;
        let (open, sum) = (Digest::of(text.as_bytes()).to_hex(), Digest::of(&packed).to_hex());
        let path = format!("repodata/{sum}-{kind}.xml.gz");
        writeln!(
            repomd,
            "<data type=\"{kind}\"><checksum type=\"sha256\">{sum}</checksum>\
             <open-checksum type=\"sha256\">{open}</open-checksum><location href=\"{path}\"/>\
             <timestamp>1700000000</timestamp><size>{}</size><open-size>{}</open-size></data>",
            packed.len(),
            text.len()
        )?;
        documents.insert(path, packed);
    }
    documents.insert("repodata/repomd.xml".to_owned(), (repomd + "</repomd>").into_bytes());
    Ok(documents)
}
