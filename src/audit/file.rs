//! A line-oriented file that is rotated by size.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};

use crate::runtime::{create_private_dir, open_private, parent_folder};

/// How much a probe writes, in bytes: room for many records.
const PROBE_SIZE: usize = 64 * 1024;

pub(super) struct RotatingFile {
    path: PathBuf,
    /// The file itself, if the path is a link, perhaps to another disk: renaming the link would move the records
    /// elsewhere.
    target: PathBuf,
    file: File,
    size: u64,
    /// Whether nothing was written since it was opened. A power failure may have left it with a part of a line at its
    /// end.
    is_fresh: bool,
    max_size: u64,
    keep: u32,
    /// Why the file is larger than `max_size`.
    rotation_error: Option<io::Error>,
    /// Why lines still go to a file that was renamed or removed.
    reopen_problem: Option<String>,
}

impl RotatingFile {
    pub(super) fn open(path: PathBuf, max_size: u64, keep: u32) -> io::Result<Self> {
        let (file, size) = open(&path)?;
        // A device is not rotated: it would be renamed for everybody.
        let max_size = if file.metadata()?.is_file() { max_size } else { u64::MAX };
        let target = target(&path);
        for n in 1..=keep {
            close_to_others(&numbered(&target, n))?;
        }
        let (is_fresh, rotation_error, reopen_problem) = (true, None, None);
        Ok(Self { path, target, file, size, is_fresh, max_size, keep, rotation_error, reopen_problem })
    }

    /// Writes complete lines, with one call per file, so that rotation never splits a line. If the file cannot be
    /// rotated, it grows.
    ///
    /// # Errors
    /// The error, and the lines that were not written.
    pub(super) fn write<'a>(&mut self, mut lines: &'a [u8]) -> Result<(), (io::Error, &'a [u8])> {
        while !lines.is_empty() {
            let mut fitting = self.fitting(lines);
            if fitting == 0 {
                self.rotation_error = self.rotate().err();
                fitting = if self.rotation_error.is_some() { lines.len() } else { self.fitting(lines) };
            }
            let (these, rest) = lines.split_at(fitting);
            self.append(these).map_err(|error| (error, lines))?;
            lines = rest;
        }
        Ok(())
    }

    /// What is wrong with the file, although lines can be written: it could not be reopened or rotated.
    pub(super) fn problem(&self) -> Option<String> {
        let rotation = |error: &io::Error| format!("the audit file cannot be rotated, so it keeps growing: {error}");
        self.reopen_problem.clone().or_else(|| self.rotation_error.as_ref().map(rotation))
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
        if self.is_fresh && ends_within_line(&self.path) {
            self.file.write_all(b"\n")?;
            self.size += 1;
        }
        self.is_fresh = false;
        if let Err(error) = self.file.write_all(lines) {
            // Removes a partially written line. If that fails too, no complete record is affected.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    /// Returns once the disk has answered a write, whatever the answer. Nothing is written to a device, because others
    /// may read it.
    pub(super) fn try_disk(mut self) {
        if self.file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            // A disk that fails has answered.
            let _ = self.probe();
        }
    }

    /// Whether lines can be written again, tested without writing one: an unnamed file is written in the same
    /// directory. A device gets an empty line.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        if !self.file.metadata()?.is_file() {
            return self.file.write_all(b"\n");
        }
        let mut probe = tempfile::tempfile_in(parent_folder(&self.target))?;
        probe.write_all(&[b' '; PROBE_SIZE])?;
        // Some file systems find out about a full disk only now.
        probe.sync_data()
    }

    /// Opens the file under its name again, because it was renamed.
    ///
    /// # Errors
    /// Why it cannot be opened. Lines still go to the old one.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        match open(&self.path) {
            Ok((file, size)) => {
                (self.file, self.size, self.target, self.is_fresh) = (file, size, target(&self.path), true);
                (self.rotation_error, self.reopen_problem) = (None, None);
                Ok(())
            }
            Err(error) => {
                let path = self.path.display();
                let why = format!("cannot reopen the audit file, so records still go to the old one: {path}: {error}");
                self.reopen_problem = Some(why.clone());
                Err(why)
            }
        }
    }

    /// Renames `audit.jsonl` to `audit.jsonl.1`, that to `.2`, and so on; deletes the oldest.
    ///
    /// The new file is created before anything is renamed: without it, each attempt would delete the oldest file. Only
    /// files before the first missing number are renamed, so an attempt that failed halfway is continued by the next
    /// one.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: u32| numbered(&self.target, n);
        let next = with_suffix(&self.target, "next");
        remove_if_there(&next)?;
        let (file, size) = open(&next)?;
        let missing = (1..self.keep).find(|&n| !numbered(n).exists()).unwrap_or(self.keep);
        for n in (1..missing).rev() {
            fs::rename(numbered(n), numbered(n + 1))?;
        }
        if self.keep > 0 {
            rename_if_there(&self.target, &numbered(1))?;
        }
        fs::rename(&next, &self.target)?;
        (self.file, self.size) = (file, size);
        self.reopen_problem = None;
        Ok(())
    }
}

/// Whether a file ends with a part of a line, as far as it can be read.
fn ends_within_line(path: &Path) -> bool {
    let last = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut last = [b'\n'];
        if metadata.is_file() && metadata.len() > 0 {
            file.read_exact_at(&mut last, metadata.len() - 1)?;
        }
        io::Result::Ok(last)
    };
    last().is_ok_and(|last| last != [b'\n'])
}

/// The file that a path leads to.
fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn with_suffix(path: &Path, suffix: impl Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    with_suffix(path, n)
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
    ignore_missing(fs::rename(from, to))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_file(path))
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
impl RotatingFile {
    /// A file that is open already, such as a pipe.
    pub(super) fn of(file: File) -> Self {
        let (size, is_fresh, max_size, keep) = (0, false, u64::MAX, 0);
        Self {
            path: PathBuf::new(),
            target: PathBuf::new(),
            file,
            size,
            is_fresh,
            max_size,
            keep,
            rotation_error: None,
            reopen_problem: None,
        }
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

    /// As a power failure leaves it, or a program that renames the file.
    #[test]
    fn a_partial_line_is_ended_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        for (before, wanted) in [("", "1\n2\n"), ("0\n", "0\n1\n2\n"), ("0\n{\"time\":", "0\n{\"time\":\n1\n2\n")] {
            fs::write(&path, before).unwrap();
            let mut file = RotatingFile::open(path.clone(), 100, 1).unwrap();
            file.write(b"1\n").unwrap();
            file.write(b"2\n").unwrap();
            assert_eq!((fs::read_to_string(&path).unwrap(), file.size), (wanted.to_owned(), wanted.len() as u64));
            fs::write(&path, before).unwrap();
            file.reopen().unwrap();
            file.write(b"1\n2\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), wanted);
        }
    }

    #[test]
    fn a_link_stays_and_its_target_is_rotated() {
        let (folder, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, audit) = (folder.path().join("audit"), disk.path().join("records"));
        fs::write(&audit, "").unwrap();
        std::os::unix::fs::symlink(&audit, &link).unwrap();
        let mut file = RotatingFile::open(link.clone(), 4, 2).unwrap();
        for n in 1..=3 {
            file.write(format!("old {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_link(&link).unwrap(), audit);
        let texts =
            [audit.clone(), numbered(&audit, 1), numbered(&audit, 2)].map(|path| fs::read_to_string(path).unwrap());
        assert_eq!(texts, ["old 3\n", "old 2\n", "old 1\n"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is beside the link");
    }

    /// A directory with the name of the new file stands in for a disk without room for it.
    #[test]
    fn failed_rotation_loses_no_record_and_no_file() {
        for keep in [0, 1, 3] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("audit.jsonl");
            let mut file = RotatingFile::open(path.clone(), 4, keep).unwrap();
            let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
            let rotated = || (1..=keep).map(|n| text(&numbered(&path, n))).collect::<Vec<_>>();
            for n in 1..=4 {
                file.write(format!("old {n}\n").as_bytes()).unwrap();
            }
            let before = rotated();
            let next = with_suffix(&path, "next");
            fs::create_dir(&next).unwrap();
            for n in 1..=5 {
                file.write(format!("new {n}\n").as_bytes()).unwrap();
                assert!(file.rotation_error.is_some());
            }
            assert_eq!(text(&path), "old 4\nnew 1\nnew 2\nnew 3\nnew 4\nnew 5\n", "keep {keep}");
            assert_eq!(rotated(), before, "keep {keep}");
            fs::remove_dir(&next).unwrap();
            file.write(b"last\n").unwrap();
            assert!(file.rotation_error.is_none());
            assert_eq!(text(&path), "last\n", "keep {keep}");
            assert_eq!(rotated().len(), keep as usize);
        }
    }

    #[test]
    fn interrupted_rotation_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut file = RotatingFile::open(path.clone(), 4, 3).unwrap();
        file.write(b"now\n").unwrap();
        // `.1` was renamed to `.2`, and then the process ended.
        for (name, text) in [("2", "before"), ("3", "oldest"), ("next", "")] {
            fs::write(with_suffix(&path, name), text).unwrap();
        }
        file.write(b"next\n").unwrap();
        let texts = ["1", "2", "3"].map(|name| fs::read_to_string(with_suffix(&path, name)).unwrap());
        assert_eq!(texts, ["now\n", "before", "oldest"]);
    }
}
