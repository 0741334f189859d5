//! Tar and gzip bytes, put together by hand so that tests can also put them together wrongly.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

/// One gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A regular file with its header and padding.
pub(crate) fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    typed(b'0', name, content)
}

/// A PAX header for the next entry, with one record ("LENGTH KEY=VALUE\n", where LENGTH counts itself).
pub(crate) fn pax(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let length = (1..).find(|length| format!("{length}{rest}").len() == *length).unwrap();
    typed(b'x', "PaxHeader", format!("{length}{rest}").as_bytes())
}

/// Files one after another, without the end marker.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    files.iter().flat_map(|(name, content)| entry(name, content)).collect()
}

/// An archive with its end marker.
pub(crate) fn with_end(mut archive: Vec<u8>) -> Vec<u8> {
    archive.extend([0; 1024]);
    archive
}

/// An entry of any kind.
pub(crate) fn typed(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[148..156].copy_from_slice(b"        ");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = block.to_vec();
    out.extend(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}
