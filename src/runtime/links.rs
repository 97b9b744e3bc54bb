//! Where paths lead by their links, also to what does not exist yet.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// As many links as Linux follows.
const MOST_LINKS: u32 = 40;

/// The path without links and `..`. A link to what does not exist is followed, too: what is created by this path is
/// created there.
pub fn resolved_path(path: &Path) -> PathBuf {
    walk(path, |_| {})
}

/// Whether a path leads to a file that a process has open, such as `/dev/stdout`: it is another file in each process.
pub fn is_descriptor(path: &Path) -> bool {
    let mut is_descriptor = false;
    walk(path, |end| {
        is_descriptor |= end.parent().is_some_and(|folder| folder.starts_with("/proc") && folder.ends_with("fd"));
    });
    is_descriptor
}

/// Follows all links of a path. `see` gets the path, and every path to which a link at its end leads, each with a
/// directory that has no links.
fn walk(path: &Path, mut see: impl FnMut(&Path)) -> PathBuf {
    let parts =
        |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<OsString>>();
    let mut open = parts(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let (mut plain, mut links) = (PathBuf::new(), 0);
    while let Some(part) = open.pop() {
        if part == ".." {
            plain.pop();
        }
        if part == ".." || part == "." {
            continue;
        }
        let next = plain.join(&part);
        if open.is_empty() {
            see(&next);
        }
        match next.read_link() {
            Ok(link) if links < MOST_LINKS => {
                links += 1;
                open.extend(parts(&link));
            }
            Ok(_) | Err(_) => plain = next,
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn dangling_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/inner")).unwrap();
        let (whole, wanted) = (root.join("real/inner"), root.join("real"));
        for (name, target) in [
            ("first", "second"),
            ("second", "missing/file"),
            ("circle", "circle"),
            ("folder", "real/inner"),
            ("whole", &*whole.to_string_lossy()),
            ("above", "real/inner/.."),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        assert_eq!(resolved_path(&root.join("above")), wanted);
        for (path, wanted) in [
            ("first", "missing/file"),
            ("first/below", "missing/file/below"),
            ("circle", "circle"),
            ("other/../plain", "plain"),
            ("folder/../file", "real/file"),
            ("./folder//file", "real/inner/file"),
            ("whole/file", "real/inner/file"),
        ] {
            assert_eq!(resolved_path(&root.join(path)), root.join(wanted), "{path}");
        }
        assert_eq!(resolved_path(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn files_that_a_process_has_open_are_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let file = at("file");
        for (name, target) in
            [("link", "/proc/self/fd/1"), ("chain", "link"), ("fds", "/proc/self/fd"), ("other", "file")]
        {
            symlink(target, at(name)).unwrap();
        }
        for path in [Path::new("/proc/self/fd/1"), &at("link"), &at("chain"), &at("fds/1")] {
            assert!(is_descriptor(path), "{}", path.display());
        }
        for path in
            [Path::new("/dev/null"), &file, &at("other"), Path::new("/absent/file"), Path::new("/proc/self/cwd/x")]
        {
            assert!(!is_descriptor(path), "{}", path.display());
        }
    }
}
