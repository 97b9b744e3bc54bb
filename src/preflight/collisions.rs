//! Files that the gate writes must not be files that it reads, nor its other files.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use super::PreflightFindings;
use crate::policy::Materials;

/// What pullgate writes in a state directory besides the audit file and the socket. Files below are its own, too.
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
const HINT: &str = "name a file that is used for nothing else";

/// Files and folders, with what they are.
type NamedPaths = Vec<(String, PathBuf)>;

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    let (audit, socket) = (resolved(&config.audit.file), resolved(&config.admin.socket));
    let state = resolved(&config.state_dir);
    let mut reserved = vec![("the configuration".to_owned(), resolved(config.places.file().as_ref()))];
    reserved.extend(config.read.iter().map(|(what, path)| (what.clone(), resolved(path))));
    let taken = reserved.iter().find(|(_, other)| state.starts_with(other));
    let is_state_taken = taken.is_some();
    if let Some((what, other)) = taken {
        let message = format!("{}: this is {}", state.display(), place(&state, what, other));
        found.error("state_dir", &message, Some("give it a directory of its own"));
    }
    let own = |name: &str| (format!("pullgate's own {name}"), resolved(&state.join(name)));
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
    let (audit, socket) = (resolved(&config.audit.file), resolved(&config.admin.socket));
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

/// Where a path is, if it is this file or below this folder.
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
    let policies = resolved(&config.policy_dir);
    let names = read.names.into_inner().into_iter();
    let named: NamedPaths =
        names.map(|(what, path)| (format!("a {what} that a policy names"), resolved(&path))).collect();
    // What the configuration names or holds is reported already.
    let known: Vec<PathBuf> = config.read.iter().map(|(_, path)| resolved(path)).collect();
    let new: NamedPaths =
        named.into_iter().filter(|(_, path)| !known.contains(path) && !path.starts_with(&policies)).collect();
    compare(found, &new, |_| false);
}

/// Materials of policies, and the files and folders that were read from them.
pub(super) struct NamedMaterials<'a> {
    from: &'a dyn Materials,
    /// The folder where relative paths begin.
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

/// The path without links and `..`, as far as it exists. A link to what does not exist is followed, too: what is created by this
/// path is created there.
pub(super) fn resolved(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let mut plain = without_dots(path);
    // As many links as Linux follows.
    for _ in 0..40 {
        let existing = plain.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above)));
        let Some((folder, below)) =
            existing.and_then(|(folder, above)| Some((folder, plain.strip_prefix(above).ok()?)))
        else {
            return plain;
        };
        let mut rest = below.components();
        // Joining nothing would append a slash.
        let Some(next) = rest.next() else { return folder };
        let Ok(link) = folder.join(next).read_link() else { return folder.join(below) };
        plain = without_dots(&folder.join(link).join(rest.as_path()));
    }
    plain
}

fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match component {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_what_does_not_exist_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let link = |name: &str, target: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        link("first", "second");
        link("second", "missing/file");
        link("circle", "circle");
        for (path, wanted) in [
            ("first", "missing/file"),
            ("first/below", "missing/file/below"),
            ("circle", "circle"),
            ("other/../plain", "plain"),
        ] {
            assert_eq!(resolved(&root.join(path)), root.join(wanted), "{path}");
        }
    }

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
