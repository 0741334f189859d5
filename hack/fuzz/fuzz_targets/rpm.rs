//! RPM repository metadata, plain and compressed, and mirror lists: facts stay in the repository (RS-26) and
//! mirror lists lead to us alone.
#![no_main]

use artifactapi_formats::Reach;
use artifactapi_fuzz::index::{self, Document};
use artifactapi_model::PackageType::Rpm;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let read =
        |target| Document { package_type: Rpm, target, content_type: "text/xml", accept: "" }.read(data);
    for target in ["os/repodata/repomd.xml", "os/repodata/primary.xml.gz"] {
        for fact in read(target).facts.iter().flatten() {
            assert!(fact.reach != Reach::Prefix);
            assert!(fact.reach == Reach::File || target.ends_with("repomd.xml"), "{fact:?}");
        }
    }
    let ours = index::base().url();
    if let Some(list) = read("mirrorlist?repo=a").output {
        let list = String::from_utf8(list).expect("a mirror list is UTF-8");
        assert_eq!(list.lines().count(), 1, "{list}");
        assert!(list.starts_with(&ours), "{list}");
    }
    if let Some(list) = read("metalink?repo=a").output {
        // Inside <resources>, where clients look, there is one URL and it is ours.
        let text = String::from_utf8_lossy(&list);
        for url in text.split("<url protocol=").skip(1) {
            let url = url.split_once('>').map_or("", |(_, url)| url);
            assert!(url.starts_with(&ours), "{text}");
        }
        // A mirror list of ours, read by one of us, is one again.
        let metalink =
            Document { package_type: Rpm, target: "metalink", content_type: "text/xml", accept: "" };
        assert!(metalink.read(&list).output.is_some(), "{text}");
    }
});
