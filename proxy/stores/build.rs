//! Migrations are read while the crate is compiled: a new file compiles it again.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
