//! Reads files that the configuration names.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use tokio::io::AsyncReadExt as _;

/// Opens a regular file for reading. Anything else is refused: a pipe would wait for its writer, and a device may have
/// no end.
///
/// # Errors
/// The file cannot be opened, or is not a regular file.
pub fn open_plain_file(path: &Path) -> io::Result<File> {
    // Non-blocking, because opening a file of a kind that is then refused might otherwise block.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// The same as [`open_plain_file`]; also if the file is larger or cannot be read.
pub fn read_plain_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_plain_file(path)?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    within(limit, content)
}

/// The same without blocking the thread while the content is read.
///
/// # Errors
/// The same as [`read_plain_file`].
pub async fn load_plain_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = tokio::fs::File::from_std(open_plain_file(path)?);
    file.take(limit.saturating_add(1)).read_to_end(&mut content).await?;
    within(limit, content)
}

fn within(limit: u64, content: Vec<u8>) -> io::Result<Vec<u8>> {
    match content.len() as u64 <= limit {
        true => Ok(content),
        false => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes"))),
    }
}

/// The same for a text in UTF-8.
///
/// # Errors
/// The same as [`read_plain_file`], or the content is not UTF-8.
pub fn read_plain_text(path: &Path, limit: u64) -> io::Result<String> {
    let content = read_plain_file(path, limit)?;
    String::from_utf8(content).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("pipe"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        assert_eq!(read_plain_text(&file, 4).unwrap(), "text");
        assert_eq!(read_plain_text(&link, 4).unwrap(), "text");
        assert!(read_plain_file(&file, 3).unwrap_err().to_string().contains("larger than 3 bytes"));
        for other in [&pipe, Path::new("/dev/zero"), Path::new("/dev/null"), dir.path()] {
            let error = read_plain_file(other, 10).unwrap_err().to_string();
            assert_eq!(error, "not a regular file", "{}", other.display());
        }
    }
}
