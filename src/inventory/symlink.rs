//! The effect of symbolic links on files that are read because of their names.

use super::language::{LanguageFile, kind_of_link};
use super::paths::parent;
use super::system_file::SystemFile;

/// Where Debian and Red Hat keep the links that choose one of several files with the same purpose
/// (update-alternatives(1)).
const ALTERNATIVES: &str = "etc/alternatives";

/// Whether the path is one of the links that choose between alternatives.
pub(super) fn is_alternative(path: &str) -> bool {
    parent(path) == ALTERNATIVES
}

/// Whether the path is below the directory of alternatives.
pub(super) fn is_in_alternatives(path: &str) -> bool {
    path.strip_prefix(ALTERNATIVES).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a link at this path gives a file no name under which it would be read.
pub(super) fn is_no_name(path: &str) -> bool {
    kinds(path) == (None, None)
}

/// Whether a file at these two paths is read for the same: then it is enough to read it under one of them.
pub(super) fn is_read_alike(path: &str, other: &str) -> bool {
    kinds(path) == kinds(other)
}

fn kinds(path: &str) -> (Option<SystemFile>, Option<LanguageFile>) {
    (SystemFile::at(path).filter(|kind| kind.is_essential()), kind_of_link(path))
}
