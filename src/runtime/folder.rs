//! The names in a folder.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The names in a folder, sorted, without hidden ones, in which a mounted ConfigMap keeps its versions (`..data`).
///
/// # Errors
/// The folder cannot be read, or has more than `most` names.
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
