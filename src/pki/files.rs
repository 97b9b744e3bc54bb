//! The files of a CA and its server certificate.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::PkiError;

/// The largest certificate or key that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Where the files are.
pub(super) struct CertificateFiles {
    pub(super) ca: PathBuf,
    pub(super) ca_key: PathBuf,
    pub(super) server: PathBuf,
    pub(super) server_key: PathBuf,
}

impl CertificateFiles {
    pub(super) fn in_dir(dir: &Path) -> Self {
        let file = |name| dir.join(name);
        Self { ca: file("ca.crt"), ca_key: file("ca.key"), server: file("server.crt"), server_key: file("server.key") }
    }
}

pub(super) fn read(path: &Path) -> Result<String, PkiError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    read.map_err(|source| PkiError::Io { path: path.to_owned(), source })?;
    Ok(text)
}

/// Writes a new file and renames it, so that a running gate reads either the old file or the new one.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let error = |source| PkiError::Io { path: path.to_owned(), source };
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(error)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(error)?;
    fs::rename(&new, path).map_err(error)
}
