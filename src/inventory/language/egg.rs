//! Python eggs, and programs in one file (PEP 441): zip archives with distributions, which Python loads without unpacking
//! them.

use std::path::Path;

use crate::inventory::ReadSeek;

use super::zip::{self, ZipBudget};
use super::{LanguagePackages, python, text};

/// Whether this is an egg in one file, or a program: `*.pyz`, `*.pex`.
pub(super) fn is_egg(path: &str) -> bool {
    [".egg", ".pex", ".pyz"].iter().any(|ending| path.ends_with(ending))
}

/// Reads the metadata in an egg.
pub(super) fn read(path: &str, content: &mut dyn ReadSeek, size: u64, folder: &Path, found: &mut LanguagePackages) {
    let mut budget = ZipBudget { folder, archives: 1, entries: 1_000_000, bytes: 64 << 20 };
    let entries = match zip::entries(content, size, &mut budget, python::is_metadata) {
        Ok(entries) => entries.unwrap_or_default(),
        Err(problem) => return found.problem(problem),
    };
    for entry in entries {
        match entry.read(content, &mut budget, super::MAX_TEXT_BYTES) {
            Ok(bytes) => python::read(path, &text::decode(&bytes), found),
            Err(problem) => found.problem(problem),
        }
    }
}
