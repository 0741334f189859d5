//! Chores of this repository that are easier in Rust than in shell: `cargo run -p xtask -- gen`.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("gen") => generate(),
        _ => Err("usage: cargo run -p xtask -- gen    (writes {crds,operator}/generated/ and the copies in \
                  charts/artifactapi/files/)"
            .into()),
    }
}

/// Writes the files that are derived from code and checked in; tests compare them with the code.
fn generate() -> Result<(), Box<dyn Error>> {
    // By cargo's word, or else the checkout that one stands in: never the one that this was compiled in.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(|here| Path::new(&here).join("../.."));
    let root = here.unwrap_or_else(|| ".".into());
    let (crds, roles) = (artifactapi_crds::generate::files()?, artifactapi_operator::rbac::files()?);
    // The chart has copies: Helm packs nothing from outside its directory.
    let parts = [
        ("crds/generated", &crds),
        ("operator/generated", &roles),
        ("charts/artifactapi/files/crds", &crds),
        ("charts/artifactapi/files/rbac", &roles),
    ];
    for (part, files) in parts {
        let directory = root.join(part);
        fs::create_dir_all(&directory)?;
        for (name, text) in files {
            fs::write(directory.join(name), text)?;
            println!("{part}/{name}");
        }
    }
    Ok(())
}
