//! A file that the gate writes must be neither a file that it reads nor another file that it writes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::PreflightFindings;
use crate::policy::Materials;
use crate::runtime::resolved_path;

/// The names that pullgate writes in a state directory besides the audit file and the socket. Files below them are also
/// its own.
const STATE_FILES: [&str; 10] = [
    "advisories",
    "blobs",
    "lock",
    "next.sock",
    "pullgate.db",
    "pullgate.db-journal",
    "pullgate.db-reserve",
    "pullgate.db-shm",
    "pullgate.db-wal",
    "scans",
];
/// What to do about a file that is used twice.
const HINT: &str = "name a file that has no other use";

/// Files and directories, with what they are.
type NamedPaths = Vec<(String, PathBuf)>;

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    let (audit, socket) = (resolved_path(&config.audit.file), resolved_path(&config.admin.socket));
    let state = resolved_path(&config.state_dir);
    let mut reserved = vec![("the configuration".to_owned(), resolved_path(config.places.file().as_ref()))];
    reserved.extend(config.read.iter().map(|(what, path)| (what.clone(), resolved_path(path))));
    let taken = reserved.iter().find(|(_, other)| state.starts_with(other));
    let is_state_taken = taken.is_some();
    if let Some((what, other)) = taken {
        let message = format!("{}: this is {}", state.display(), place(&state, what, other));
        found.error("state_dir", &message, Some("give it a directory of its own"));
    }
    let own = |name: &str| (format!("pullgate's own {name}"), resolved_path(&state.join(name)));
    reserved.extend(STATE_FILES.map(own));
    // Below a state directory in the wrong place, the directory is the mistake.
    compare(found, &reserved, |path| is_state_taken && path.starts_with(&state));
    if audit == socket {
        let message = format!("{}: this is also admin.socket", audit.display());
        found.error("audit.file", &message, Some(HINT));
    }
}

/// Compares what the gate writes with what it reads, except for the paths that `is_reported` names.
fn compare(found: &mut PreflightFindings<'_>, reserved: &[(String, PathBuf)], is_reported: impl Fn(&Path) -> bool) {
    let config = found.config;
    let (audit, socket) = (resolved_path(&config.audit.file), resolved_path(&config.admin.socket));
    for (key, path) in [("audit.file", &audit), ("admin.socket", &socket)] {
        let taken = reserved.iter().find(|(_, other)| !is_reported(path) && path.starts_with(other));
        if let Some((what, other)) = taken {
            let message = format!("{}: this is {}", path.display(), place(path, what, other));
            found.error(key, &message, Some(HINT));
        }
    }
    let keep = config.audit.keep;
    if let Some((what, other)) = reserved.iter().find(|(_, other)| is_rotated(&audit, keep, other)) {
        let message = format!("{}: this is {what}, which a rotation of the audit file replaces", other.display());
        found.error("audit.file", &message, Some(HINT));
    }
}

/// The location of a path if it is this file or below this directory.
fn place(path: &Path, what: &str, other: &Path) -> String {
    if path == other || what.starts_with("pullgate's") { what.to_owned() } else { format!("in {what}") }
}

/// Whether a file has a name that the rotation of the audit file uses: `audit.jsonl.1`, `audit.jsonl.next`.
fn is_rotated(audit: &Path, keep: u32, other: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let (Some(own), Some(other_name)) = (name(audit), name(other)) else { return false };
    let suffix = other_name.strip_prefix(&own).and_then(|rest| rest.strip_prefix('.'));
    let is_used =
        |suffix: &str| suffix == "next" || suffix.parse().is_ok_and(|number: u32| (1..=keep).contains(&number));
    audit.parent() == other.parent() && suffix.is_some_and(is_used)
}

/// Compares what the gate writes with the files that policies name, which may be anywhere.
pub(super) fn check_policies(found: &mut PreflightFindings<'_>, read: NamedMaterials<'_>) {
    let config = found.config;
    let policies = resolved_path(&config.policy_dir);
    let names = read.names.into_inner().into_iter();
    let named: NamedPaths =
        names.map(|(what, path)| (format!("a {what} that a policy names"), resolved_path(&path))).collect();
    // The files that the configuration names or contains are already reported.
    let known: Vec<PathBuf> = config.read.iter().map(|(_, path)| resolved_path(path)).collect();
    let new: NamedPaths =
        named.into_iter().filter(|(_, path)| !known.contains(path) && !path.starts_with(&policies)).collect();
    compare(found, &new, |_| false);
}

/// Materials of policies, and the files and directories that were read for them.
pub(super) struct NamedMaterials<'a> {
    from: &'a dyn Materials,
    /// The directory where relative paths begin.
    root: &'a Path,
    names: RefCell<BTreeSet<(&'static str, PathBuf)>>,
}

impl<'a> NamedMaterials<'a> {
    pub(super) fn new(from: &'a dyn Materials, root: &'a Path) -> Self {
        Self { from, root, names: RefCell::default() }
    }
}

impl Materials for NamedMaterials<'_> {
    fn file(&self, document: &str, path: &str) -> Result<Vec<u8>, String> {
        self.names.borrow_mut().insert(("file", self.root.join(path)));
        self.from.file(document, path)
    }

    fn modified(&self, document: &str, path: &str) -> Option<Timestamp> {
        self.from.modified(document, path)
    }

    fn folder(&self, document: &str, path: &str) -> Result<Vec<OsString>, String> {
        self.names.borrow_mut().insert(("folder", self.root.join(path)));
        self.from.folder(document, path)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.from.secret(namespace, name)
    }

    fn secret_namespaces(&self) -> Vec<String> {
        self.from.secret_namespaces()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_uses_as_many_names_as_are_kept() {
        let audit = Path::new("/log/audit");
        for (keep, other, wanted) in [
            (2, "/log/audit.1", true),
            (2, "/log/audit.2", true),
            (2, "/log/audit.3", false),
            (2, "/log/audit.0", false),
            (0, "/log/audit.0", false),
            (0, "/log/audit.next", true),
            (2, "/log/audit1", false),
            (2, "/other/audit.1", false),
        ] {
            assert_eq!(is_rotated(audit, keep, Path::new(other)), wanted, "{keep} {other}");
        }
    }
}
