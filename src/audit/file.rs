//! A line-oriented file that is rotated by size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::runtime::{create_private_dir, open_private};

pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    max_size: u64,
    keep: u32,
}

impl RotatingFile {
    pub(super) fn open(path: PathBuf, max_size: u64, keep: u32) -> io::Result<Self> {
        let (file, size) = open(&path)?;
        // A device is not rotated: it would be renamed for everybody.
        let max_size = if file.metadata()?.is_file() { max_size } else { u64::MAX };
        for n in 1..=keep {
            close_to_others(&numbered(&path, n))?;
        }
        Ok(Self { path, file, size, max_size, keep })
    }

    /// Writes complete lines, with one call per file, so that rotation never splits a line.
    ///
    /// # Errors
    /// The error, and the lines that were not written.
    pub(super) fn write<'a>(&mut self, mut lines: &'a [u8]) -> Result<(), (io::Error, &'a [u8])> {
        while !lines.is_empty() {
            let (these, rest) = lines.split_at(self.fitting(lines));
            let written = if these.is_empty() { self.rotate() } else { self.append(these) };
            written.map_err(|error| (error, lines))?;
            lines = rest;
        }
        Ok(())
    }

    /// How many bytes of complete lines fit into the current file; at least one line if the file is empty.
    fn fitting(&self, lines: &[u8]) -> usize {
        let room = usize::try_from(self.max_size.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if lines.len() <= room {
            return lines.len();
        }
        let end_of_line = |at: usize| at + 1;
        match lines[..room].iter().rposition(|&byte| byte == b'\n').map(end_of_line) {
            Some(end) => end,
            None if self.size > 0 => 0,
            None => lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), end_of_line),
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // Removes a partially written line. If that fails too, no complete record is affected.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    /// Renames `audit.jsonl` to `audit.jsonl.1`, that to `.2`, and so on; deletes the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: u32| numbered(&self.path, n);
        for n in (1..self.keep).rev() {
            rename_if_there(&numbered(n), &numbered(n + 1))?;
        }
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            rename_if_there(&self.path, &numbered(1))?;
        }
        self.reopen()
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// Earlier versions created files with permissions that depended on the umask.
fn close_to_others(path: &Path) -> io::Result<()> {
    match open_private(File::options().append(true), path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        create_private_dir(folder)?;
    }
    // Opening a pipe would wait for its reader.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.file_type().is_char_device()) {
        return Err(io::Error::other("neither a regular file nor a character device"));
    }
    let file = open_private(File::options().create(true).append(true), path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_not_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let mut file = RotatingFile::open(path.clone(), 4, 1).unwrap();
        for _ in 0..3 {
            file.write(b"12345\n").unwrap();
        }
        assert!(path.is_symlink() && !numbered(&path, 1).exists());
    }
}
