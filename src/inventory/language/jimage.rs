//! Images of Java's runtime that `jlink` writes: `lib/modules` (OpenJDK, `jdk.internal.jimage`). They hold the classes
//! of the JDK's modules, and of the application's. These state no version, so they are gaps.

use std::collections::BTreeSet;

use crate::inventory::ReadSeek;

use super::window::{Integers, read_at, read_up_to};
use super::{LanguagePackages, split_path};

/// The first bytes, in both byte orders.
const MAGIC: [[u8; 4]; 2] = [*b"\xda\xda\xfe\xca", *b"\xca\xfe\xda\xda"];
/// The length of the header, in bytes.
const HEADER: u64 = 28;
/// The maximum size of the index in bytes. That of the whole JDK has 3 MiB.
const MAX_INDEX: u64 = 64 << 20;
/// The names of modules that belong to a JDK: OpenJDK's, and what vendors add to it.
const OF_JDK: [&str; 8] =
    ["java", "jdk", "javafx", "openj9", "org.graalvm", "com.oracle.graal", "com.azul.crs", "com.azul.tooling"];
/// The maximum number of modules that a problem names.
const MAX_NAMED: usize = 3;
/// The attributes of a location: its end, and the module of the resource.
const END: u8 = 0;
const MODULE: u8 = 1;

/// Whether the file is such an image. Java loads it under this name only.
pub(super) fn is_image(path: &str, first_bytes: &[u8]) -> bool {
    split_path(path).1 == "modules" && MAGIC.iter().any(|magic| first_bytes.starts_with(magic))
}

/// Reports the modules that do not belong to the JDK.
pub(super) fn read(content: &mut dyn ReadSeek, found: &mut LanguagePackages) {
    let Some(modules) = modules(content) else {
        return found.problem("the image of Java's modules is damaged".to_owned());
    };
    let is_of_jdk = |module: &str| {
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('.');
        OF_JDK.iter().any(|known| module.strip_prefix(known).is_some_and(is_below))
    };
    // The index also lists the directories `/modules` and `/packages`.
    let is_other = |module: &&String| !module.is_empty() && !matches!(&***module, "modules" | "packages");
    let own: Vec<&str> = modules.iter().filter(is_other).map(String::as_str).filter(|name| !is_of_jdk(name)).collect();
    if !own.is_empty() {
        let more = own.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(", +{more}") } else { String::new() };
        let named = own[..own.len().min(MAX_NAMED)].join(", ");
        found.problem(format!("modules without a version in a Java runtime built by jlink: {named}{more}"));
    }
}

/// The names of all modules. `None` if the index cannot be read.
fn modules(content: &mut dyn ReadSeek) -> Option<BTreeSet<String>> {
    let header = read_at(content, 0, HEADER)?;
    let integers = Integers { bytes: &header, big_endian: header.starts_with(&MAGIC[1]) };
    let sizes = [16, 20, 24].map(|at| integers.u32(at).map(u64::from));
    let [Some(entries), Some(locations), Some(strings)] = sizes else { return None };
    if entries.checked_mul(8)?.checked_add(locations + strings)? > MAX_INDEX {
        return None;
    }
    // The table that the hash of a name leads to comes first, and is not needed.
    let offsets_at = HEADER + 4 * entries;
    let offsets = read_at(content, offsets_at, 4 * entries)?;
    let locations_at = offsets_at + 4 * entries;
    let table = read_at(content, locations_at, locations)?;
    let strings = read_up_to(content, locations_at + locations, strings)?;
    let mut seen = BTreeSet::new();
    for bytes in offsets.chunks_exact(4) {
        let offset = Integers { bytes, ..integers }.u32(0)?;
        seen.extend(module_of(table.get(usize::try_from(offset).ok()?..)?)?);
    }
    let name = |at: u64| {
        let rest = strings.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    seen.into_iter().map(name).collect()
}

/// Where the name of a resource's module is. `None` if the attributes have no end.
fn module_of(attributes: &[u8]) -> Option<Option<u64>> {
    let (mut at, mut module) = (0, None);
    loop {
        let first = *attributes.get(at)?;
        let (kind, length) = (first >> 3, usize::from(first & 7) + 1);
        if kind == END {
            return Some(module);
        }
        let value = attributes.get(at + 1..at + 1 + length)?;
        if kind == MODULE {
            module = Some(value.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
        }
        at += 1 + length;
    }
}
