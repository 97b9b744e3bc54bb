//! Why a database cannot be fetched, imported, exported or used.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::DamagedDatabase;
use crate::runtime::format_size;

/// Why a database cannot be fetched, imported, exported or used. The database in use stays in use.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The work was cancelled by its progress callback.
    #[error("cancelled; the database in use was not changed")]
    Cancelled,
    /// The content is not what its format allows.
    #[error(transparent)]
    Damaged(#[from] DamagedDatabase),
    /// It was built in the future, so its age cannot be known.
    #[error(
        "it states that it was built at {built}, which is in the future (it is {now}); check the clock of this machine"
    )]
    Future {
        /// When it was built, as it states.
        built: Timestamp,
        /// The time on this machine.
        now: Timestamp,
    },
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The import was not approved.
    #[error("{0}")]
    NotApproved(String),
    /// It is older than the one in use.
    #[error(
        "it was built at {offered}, before the one in use (built at {current}); to go back to it on purpose, use --force"
    )]
    Older {
        /// When this one was built.
        offered: Timestamp,
        /// When the one in use was built.
        current: Timestamp,
    },
    /// More data than is allowed.
    #[error("{what} is larger than {}; if that is right, raise the limit", format_size(*.limit))]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A registry or a web server did not deliver.
    #[error("{0}")]
    Transport(String),
    /// It is not a database, or not one of this kind.
    #[error("{place}: {problem}")]
    Unrecognised {
        /// The file, directory or address.
        place: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The content does not match its digest.
    #[error("{what} has the digest {found} instead of {expected}; it is damaged or was replaced: fetch it again")]
    WrongDigest {
        /// What was verified.
        what: String,
        /// The digest that it should have.
        expected: String,
        /// The digest that it has.
        found: String,
    },
}

impl DatabaseError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn unrecognised(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Unrecognised { place: place.into(), problem: problem.into() }
    }
}
