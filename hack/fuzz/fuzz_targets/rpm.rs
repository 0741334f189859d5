//! RPM repository metadata, plain and compressed, and mirror lists: facts stay in the repository (RS-26) and
//! mirror lists lead to us alone; merged metadata reads as what it lists.
#![no_main]

use artifactapi_formats::Reach;
use artifactapi_fuzz::{
    index::{self, Document},
    merge,
};
use artifactapi_model::PackageType::Rpm;

/// One package.
const PRIMARY: &[u8] = b"<metadata><package type='rpm'><name>a</name><arch>x</arch><version ver='1'/>\
    <checksum type='md5'>0123456789abcdef0123456789abcdef</checksum><size package='1'/><location href='a.rpm'/></package></metadata>";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let read =
        |target| Document { package_type: Rpm, target, content_type: "text/xml", accept: "" }.read(data);
    for target in ["os/repodata/repomd.xml", "os/repodata/primary.xml.gz"] {
        for fact in read(target).facts.iter().flatten() {
            assert!(fact.reach != Reach::Prefix);
            assert!(fact.reach == Reach::File || target.ends_with("repomd.xml"), "{fact:?}");
        }
    }
    let repomd = "os/repodata/repomd.xml".to_owned();
    merge::check(Rpm, &repomd, &[(repomd.clone(), data.to_vec())].into());
    for kind in ["primary", "filelists", "updateinfo", "group", "modules"] {
        let mut index =
            String::from("<repomd><data type='primary'><location href='repodata/primary'/></data>");
        if kind != "primary" {
            index += &format!("<data type='{kind}'><location href='repodata/{kind}'/></data>");
        }
        let mut documents = merge::Documents::from([(repomd.clone(), (index + "</repomd>").into_bytes())]);
        documents.insert("os/repodata/primary".to_owned(), PRIMARY.to_vec());
        documents.insert(format!("os/repodata/{kind}"), data.to_vec());
        merge::check(Rpm, &repomd, &documents);
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
