//! One file: whether it is examined, and what was observed.

use super::places::{KnownFile, file_name, is_enabled_folder, is_searched, is_system_file, known_file};
use super::{
    FileObservation, HardeningCheck, MAX_FILE, MAX_OBSERVATIONS, accounts, apache, credentials, mysql, nginx, secrets,
    sshd,
};

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const WORLD_WRITABLE: u32 = 0o0002;

/// A file that is examined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckedFile {
    known: Option<KnownFile>,
    is_searched: bool,
}

impl CheckedFile {
    /// Whether and how the file at a path is examined.
    pub fn at(path: &str) -> Option<Self> {
        let (known, is_searched) = (known_file(path), is_searched(path));
        (known.is_some() || is_searched).then_some(Self { known, is_searched })
    }

    /// Whether the content must be read, by the size of the file and its first bytes. Programs and other binary files
    /// are not searched for secrets.
    pub fn is_read(self, size: u64, first: &[u8]) -> bool {
        size > 0 && size <= MAX_FILE && (self.known.is_some() || !first.contains(&0))
    }

    /// What is said about a file that is not read.
    pub fn unread(self, size: u64) -> Option<FileObservation> {
        let detail = format!("the file has {size} bytes; at most {MAX_FILE} are read");
        let is_unread = self.known.is_some() && size > MAX_FILE;
        is_unread.then(|| FileObservation::unsafe_file(HardeningCheck::FilesUnchecked, detail))
    }

    /// What is observed in the content.
    pub fn examine(self, path: &str, content: &[u8]) -> Vec<FileObservation> {
        let text = || String::from_utf8_lossy(content);
        let mut found = match self.known {
            Some(KnownFile::Apache) => apache::read(path, &text()),
            Some(KnownFile::Mysql) => mysql::read(&text()),
            Some(KnownFile::Nginx) => nginx::read(path, &text()),
            Some(KnownFile::Passwd) => accounts::passwd(&text()),
            Some(KnownFile::Shadow) => accounts::shadow(&text()),
            Some(KnownFile::SshdConfig) => sshd::config(&text()),
            Some(KnownFile::AuthorizedKeys) => sshd::authorized_keys(&text()),
            Some(known) => credentials::read(known, &text()),
            None => Vec::new(),
        };
        let is_new = |one: &FileObservation, known: &[FileObservation]| {
            let line = |observed: &FileObservation| match observed {
                FileObservation::Unsafe { line, check, .. } if check.is_secret() => Some(*line),
                _ => None,
            };
            line(one).is_none_or(|at| known.iter().all(|other| line(other) != Some(at)))
        };
        if self.is_searched || self.known.is_some() {
            let secrets = secrets::search(path, content);
            let (specific, known) = (secrets.into_iter(), found.clone());
            found.extend(specific.filter(|secret| is_new(secret, &known)));
        }
        found.truncate(MAX_OBSERVATIONS);
        found
    }
}

/// Observations about the permissions of a regular file, given as for chmod(2).
pub fn check_mode(path: &str, mode: u32) -> Vec<FileObservation> {
    let mut found = Vec::new();
    let permissions = format!("mode {:04o}", mode & 0o7777);
    let is_privileged = (mode & SET_USER != 0 && mode & 0o111 != 0) || (mode & SET_GROUP != 0 && mode & 0o010 != 0);
    if is_privileged {
        found.push(FileObservation::unsafe_file(HardeningCheck::FilesSetuid, permissions.clone()));
    }
    if mode & WORLD_WRITABLE != 0 && is_system_file(path, mode) {
        found.push(FileObservation::unsafe_file(HardeningCheck::FilesWorldWritable, permissions));
    }
    found
}

/// The observation about configuration files that follows from a symbolic link at `path` to `target`, both in the
/// image.
pub fn enabled_file(path: &str, target: &str) -> Option<FileObservation> {
    let is_enabled = is_enabled_folder(path) && !file_name(target).is_empty();
    is_enabled.then(|| FileObservation::Enables(target.to_owned()))
}
