//! Chores of this repository that are easier in Rust than in shell: `cargo run -p xtask -- gen`.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("gen") => generate(),
        _ => Err("usage: cargo run -p xtask -- gen    (writes crds/generated/*.yaml)".into()),
    }
}

/// Writes the files that are derived from code and checked in; tests compare them with the code.
fn generate() -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/generated");
    fs::create_dir_all(&directory)?;
    for (name, text) in artifactapi_crds::generate::files()? {
        fs::write(directory.join(&name), text)?;
        println!("crds/generated/{name}");
    }
    Ok(())
}
