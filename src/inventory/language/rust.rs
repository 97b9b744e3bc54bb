//! Rust programs built with `cargo auditable`: a section with the list of crates as JSON, compressed with zlib
//! (github.com/rust-secure-code/cargo-auditable, PARSING.md).

use std::io::Read;

use serde::Deserialize;

use crate::inventory::Ecosystem;

use super::LanguagePackages;
use super::executable::Executable;

/// The size of the compressed list, in bytes, and of the list. A thousand crates are 100 KiB of JSON.
const MAX_COMPRESSED: u64 = 4 << 20;
const MAX_LIST: u64 = 16 << 20;

#[derive(Deserialize)]
struct CrateList {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    /// When it is needed: at `runtime`, the default, or for the `build`.
    #[serde(default)]
    kind: Option<String>,
}

/// Reads the crates that were compiled in. Those that were only needed to build are left out.
pub(super) fn read(path: &str, executable: &mut Executable<'_>, found: &mut LanguagePackages) {
    for section in executable.rust_crates(MAX_COMPRESSED) {
        match section.and_then(|compressed| list(&compressed)) {
            Ok(list) => {
                let is_needed = |package: &&Crate| package.kind.as_deref().unwrap_or("runtime") != "build";
                for Crate { name, version, .. } in list.packages.iter().filter(is_needed) {
                    found.add(Ecosystem::Cargo, name, version, &[], path);
                }
            }
            Err(problem) => found.problem(problem),
        }
    }
}

/// Decompresses and parses the list.
fn list(compressed: &[u8]) -> Result<CrateList, String> {
    let damaged = |error: &dyn std::fmt::Display| format!("the list of crates is damaged: {error}");
    let mut json = Vec::new();
    let decoder = flate2::read::ZlibDecoder::new(compressed);
    decoder.take(MAX_LIST + 1).read_to_end(&mut json).map_err(|error| damaged(&error))?;
    if json.len() as u64 > MAX_LIST {
        return Err(format!("the list of crates has more than {MAX_LIST} bytes"));
    }
    serde_json::from_slice(&json).map_err(|error| damaged(&error))
}
