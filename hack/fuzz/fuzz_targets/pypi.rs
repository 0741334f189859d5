//! PyPI project pages, JSON and HTML, in both renderings: every link leads to a file that the facts know,
//! both renderings list the same files, HTML has no unescaped text, and our own page reads as the same (RS-56); merged
//! with nothing else it leads to files of its member only.
#![no_main]

use artifactapi_fuzz::{
    index::{Document, Reading},
    merge,
};
use artifactapi_model::PackageType::Pypi;
use serde_json::Value;

const JSON: &str = "application/vnd.pypi.simple.v1+json";

fn files(reading: &Reading) -> Option<Vec<Value>> {
    Some(reading.json()?["files"].as_array().expect("a page of files").clone())
}

/// The `href`s of a page that this crate wrote; each anchor stands on a line of its own.
fn hrefs(html: &str) -> Vec<String> {
    let unescape = |text: &str| {
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&")
    };
    html.lines().filter_map(|line| line.strip_prefix("<a href=\"")?.split('"').next()).map(unescape).collect()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for content_type in [JSON, "text/html", ""] {
        let page = Document { package_type: Pypi, target: "simple/flask/", content_type, accept: JSON };
        let as_json = page.read(data);
        let as_html = Document { accept: "text/html", ..page }.read(data);
        assert_eq!(as_json.output.is_some(), as_html.output.is_some(), "one form is refused");
        let Some(files) = files(&as_json) else { continue };
        for file in &files {
            as_json.check_link(file["url"].as_str().expect("a URL"));
        }
        let html = String::from_utf8(as_html.output.clone().expect("a page")).expect("a page is UTF-8");
        let links = hrefs(&html);
        assert_eq!(links.len(), files.len(), "{html}");
        for (href, file) in links.iter().zip(&files) {
            assert_eq!(
                href.split('#').next(),
                file["url"].as_str().map(|url| url.split('#').next().unwrap_or(url))
            );
        }
        // Whatever upstream wrote, markup is ours: three tags a file, and a fixed number around them.
        let tags = html.matches('<').count();
        assert_eq!(tags, html.matches('>').count());
        let metas = html.matches("<meta ").count();
        assert_eq!(tags, 11 + metas + 3 * links.len(), "{html}");
        // Our page, read again as JSON, says the same about the same files.
        let again = Document { content_type: JSON, ..page }.read(as_json.output.as_ref().expect("a page"));
        let again = self::files(&again).expect("our own page can be read");
        let claims = |files: &[Value]| -> Vec<Value> {
            files
                .iter()
                .map(|file| {
                    let mut file = file.clone();
                    file["url"].take();
                    file
                })
                .collect()
        };
        assert_eq!(claims(&again), claims(&files));
        let wanted = merge::needs(Pypi, "simple/flask/").remove(0);
        let documents = [(wanted, as_json.output.clone().expect("a page"))].into();
        if let Some(merged) = merge::check(Pypi, "simple/flask/", &documents) {
            let html = std::str::from_utf8(&merged.files["simple/flask/"]).expect("a page is UTF-8");
            assert!(hrefs(html).len() <= files.len());
            assert_eq!(html.matches('<').count(), html.matches('>').count());
        }
    }
    let api = Document {
        package_type: Pypi,
        target: "pypi/flask/json",
        content_type: "application/json",
        accept: "",
    };
    if let Some(output) = api.read(data).copied_json(data) {
        assert!(output.is_object());
    }
});
