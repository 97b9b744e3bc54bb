//! Which files of a layer are read, and how.

use crate::inventory::language::{LanguageFile, language_file};
use crate::inventory::system_file::SystemFile;

/// How a file is read.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum ReadAs {
    System(SystemFile),
    /// As the former, where only a link in the usual place makes it one.
    BehindLink(SystemFile),
    Language(LanguageFile),
}

impl ReadAs {
    /// The size of the largest file that is read, in bytes.
    pub(super) fn max_bytes(self) -> u64 {
        match self {
            Self::System(file) | Self::BehindLink(file) => file.max_bytes(),
            Self::Language(file) => file.max_bytes(),
        }
    }

    /// Whether the file holds changes that are not in the database yet.
    pub(super) fn is_journal(self) -> bool {
        matches!(self, Self::System(SystemFile::RpmJournal) | Self::BehindLink(SystemFile::RpmJournal))
    }

    /// Whether nothing is missed if the file is not read.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::System(file) if !file.is_essential())
    }

    /// Whether the file holds changes that dpkg has not finished.
    pub(super) fn is_update(self) -> bool {
        matches!(self, Self::System(SystemFile::DpkgUpdate) | Self::BehindLink(SystemFile::DpkgUpdate))
    }

    /// How the file at a path is read; `None` if it states nothing. A program or an archive at the path of a
    /// non-essential list is not read as that list.
    pub(super) fn of(path: &str, first_bytes: &[u8]) -> Option<Self> {
        let is_list = |file: &SystemFile| file.is_essential() || LanguageFile::by_content(first_bytes).is_none();
        let system = SystemFile::at(path).filter(is_list).map(Self::System);
        let language = || language_file(path, first_bytes).map(Self::Language);
        // A program is one whatever its name.
        system.or_else(language).or_else(|| SystemFile::behind_link(path).map(Self::BehindLink))
    }
}
