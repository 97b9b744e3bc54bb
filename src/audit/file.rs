//! A file of lines that is rotated by size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Record;

pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Whole lines that are to be written in one call.
    lines: Vec<u8>,
    size: u64,
    max_size: u64,
    keep: u32,
}

impl RotatingFile {
    pub(super) fn open(path: PathBuf, max_size: u64, keep: u32) -> io::Result<Self> {
        let (file, size) = open(&path)?;
        Ok(Self { path, file, lines: Vec::new(), size, max_size, keep })
    }

    /// Adds one line to what is written next. A full file is written and rotated before it.
    pub(super) fn add(&mut self, record: &Record) -> io::Result<()> {
        let before = self.lines.len();
        if let Err(error) = serde_json::to_writer(&mut self.lines, record) {
            self.lines.truncate(before);
            return Err(error.into());
        }
        self.lines.push(b'\n');
        let line = (self.lines.len() - before) as u64;
        let filled = self.size + before as u64;
        if filled > 0 && filled + line > self.max_size {
            let line = self.lines.split_off(before);
            self.flush()?;
            self.rotate()?;
            self.lines = line;
        }
        Ok(())
    }

    /// Writes what was added, in one call, so that lines are never torn between rotations.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.lines);
        if let Err(error) = self.file.write_all(&lines) {
            // Half a line must not become the beginning of the next one. Where that fails too, nothing is lost by it.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.size += lines.len() as u64;
        self.lines = lines;
        self.lines.clear();
        Ok(())
    }

    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    /// `audit.jsonl` becomes `audit.jsonl.1`, which became `.2` before; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
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

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
