//! Compressed indexes: broken gzip, xz and zstd end in an error or the same facts, within the limits (RS-62).
#![no_main]

use artifactapi_fuzz::index::Document;
use artifactapi_model::PackageType::Rpm;

/// One small index in each form; the input says where to break it.
const FORMS: [&[u8]; 3] = [
    include_bytes!(
        "../../../proxy/formats/fixtures/rpm/repodata/7276b4510da5e8fe36df95ac7f5ad77d8d4fb003e9591505092f5a2619d2fe88-primary.xml.gz"
    ),
    include_bytes!("../../../proxy/formats/fixtures/rpm/repodata/primary.xml.xz"),
    include_bytes!("../../../proxy/formats/fixtures/rpm/repodata/primary.xml.zst"),
];

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<(u16, u8)>, u16)| {
    let index =
        Document { package_type: Rpm, target: "repodata/primary.xml.gz", content_type: "", accept: "" };
    let form = FORMS[usize::from(input.0) % FORMS.len()];
    let mut data = form.to_vec();
    for (at, byte) in input.1 {
        let length = data.len();
        data[usize::from(at) % length] = byte;
    }
    data.truncate(data.len() - usize::from(input.2) % data.len());
    let facts = index.read(&data).facts;
    if data.len() < form.len() {
        // A cut body never passes for a whole one.
        assert_eq!(facts, None, "{} of {} bytes", data.len(), form.len());
    }
});
