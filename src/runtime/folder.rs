//! Directories: the names in a directory, and the directory of a file.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The names in a directory, sorted, without hidden names, under which a mounted ConfigMap keeps its versions
/// (`..data`).
///
/// # Errors
/// The directory cannot be read, or has more than `most` names.
pub fn folder_names(folder: &Path, most: usize) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in folder.read_dir()? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
        if names.len() > most {
            return Err(io::Error::other(format!("more than {most} files")));
        }
    }
    names.sort();
    Ok(names)
}

/// The directory of a file: `.` for a name without one.
///
/// ```
/// # use std::path::Path;
/// assert_eq!(pullgate::runtime::parent_folder(Path::new("audit.jsonl")), Path::new("."));
/// assert_eq!(pullgate::runtime::parent_folder(Path::new("logs/audit.jsonl")), Path::new("logs"));
/// ```
pub fn parent_folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
