//! Collects what the files of a layer state, entry by entry.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read as _};

use super::names::{LayerNames, Named};
use super::observe::LayerObservations;
use super::owned::OwnedFiles;
use super::read_as::ReadAs;
use super::table::FileListing;
use super::{FileFacts, LayerLimits, LinkedNames, too_late};
use crate::hardening::{self, CheckedFile, check_mode};
use crate::inventory::ReadSeek;
use crate::inventory::checksum::FileChecksum;
use crate::inventory::language::{self, LanguageFile};
use crate::inventory::other_manager::records_of_other_manager;
use crate::inventory::paths::{CleanPath, MAX_DEPTH, beneath, file_name, parent, path_text};
use crate::inventory::spool::Spool;
use crate::inventory::symlink::is_in_alternatives;
use crate::inventory::tar::{Archive, ArchiveEntry, EntryKind};

mod content;
mod finish;
mod links;
mod listed;

/// How many bytes of a file [`ReadAs::of`] gets.
const FIRST: u64 = 4096;
/// Why a sparse file is not read.
const SPARSE: &str = "the file is stored as a sparse file";
/// Marks deletions in a layer (image-spec, layer.md, "Whiteouts").
pub(super) const WHITEOUT: &str = ".wh.";
/// Marks a directory that hides that of the layers below.
pub(super) const OPAQUE: &str = ".wh..wh..opq";
/// The beginning of names that AUFS keeps for itself.
pub(super) const AUFS: &str = ".wh..wh.";

pub(super) struct Collector<'a> {
    limits: &'a LayerLimits,
    spool: &'a Spool<'a>,
    names: LayerNames,
    files: Vec<FileFacts>,
    owned: OwnedFiles,
    /// The checksums of files that a package of the distribution may have installed, by their index in `files`.
    checksums: BTreeMap<u32, Vec<FileChecksum>>,
    observations: LayerObservations,
    packages: usize,
    /// How many of them are in files that count as databases only because of a link.
    behind_links: usize,
    /// The length of the texts in `files`, in bytes.
    facts: usize,
    whiteouts: BTreeSet<String>,
    opaque: BTreeSet<String>,
    problems: BTreeSet<String>,
    /// Files to read under the names of hard links.
    wanted: &'a LinkedNames,
    /// Those of them that the layer has had so far, as anything.
    seen: BTreeSet<String>,
    /// What these files state, by path and name.
    linked: BTreeMap<String, BTreeMap<String, Named>>,
    /// Hard links to files that were not read under these names.
    unread: LinkedNames,
}

impl<'a> Collector<'a> {
    pub(super) fn new(limits: &'a LayerLimits, spool: &'a Spool<'a>, wanted: &'a LinkedNames) -> Self {
        let [whiteouts, opaque, problems, seen] = Default::default();
        let (names, files, owned) = (LayerNames::default(), Vec::new(), OwnedFiles::default());
        let (observations, linked, unread) = (LayerObservations::default(), BTreeMap::new(), LinkedNames::new());
        let (packages, behind_links, facts, checksums) = (0, 0, 0, BTreeMap::new());
        Self {
            limits,
            spool,
            names,
            files,
            owned,
            checksums,
            observations,
            packages,
            behind_links,
            facts,
            whiteouts,
            opaque,
            problems,
            wanted,
            seen,
            linked,
            unread,
        }
    }

    /// The hard links to files that were not read under these names.
    pub(super) fn take_unread(&mut self) -> LinkedNames {
        std::mem::take(&mut self.unread)
    }

    /// Notes a problem with the layer as a whole.
    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        const MAX_PROBLEMS: usize = 16;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.insert(problem.into());
        }
    }

    /// Reads all entries.
    ///
    /// # Errors
    /// The archive is damaged, a limit is hit, the time is over, or a temporary file cannot be used.
    pub(super) fn walk(
        &mut self,
        archive: &mut Archive<impl BufRead>,
        listing: &mut Option<FileListing>,
    ) -> io::Result<()> {
        let limit = |what: &str| Err(io::Error::other(format!("the layer has too many {what}")));
        let mut entries = 0;
        while let Some(entry) = archive.next()? {
            entries += 1;
            if self.spool.must_end() {
                return Err(too_late());
            }
            if entries > self.limits.entries {
                return limit("entries");
            }
            if let Some(doubt) = entry.doubt {
                self.problem(doubt);
            }
            match listing {
                Some(listing) => self.listed_entry(&entry, archive, listing)?,
                None => self.entry(&entry, archive)?,
            }
            if self.packages > self.limits.packages {
                return limit("packages");
            }
            if self.facts > self.limits.facts {
                return limit("texts");
            }
            if self.names.length() > self.limits.names {
                return limit("paths");
            }
        }
        if archive.has_more()? {
            self.problem("the archive continues after its end");
        }
        Ok(())
    }

    /// Reads an entry if the archive creates it and it has a usable path.
    fn entry(&mut self, entry: &ArchiveEntry, archive: &mut Archive<impl BufRead>) -> io::Result<()> {
        if entry.kind == EntryKind::Global {
            return Ok(());
        }
        if entry.path.len() > self.limits.path || entry.link.len() > self.limits.path {
            self.problem("a path is too long");
            return Ok(());
        }
        let clean = CleanPath::new(&entry.path);
        if clean.escapes {
            self.problem("a path leads out of the root");
        }
        if clean.text.split('/').count() > MAX_DEPTH {
            self.problem("a path is too deep");
            return Ok(());
        }
        let path = self.resolve(clean.text.clone());
        if self.wanted.contains_key(&path) {
            self.seen.insert(path.clone());
        }
        if entry.kind == EntryKind::Device {
            // Runtimes without root rights cannot create it and leave it out, with what it would replace or, as the
            // mark of a deletion, delete (containerd: pkg/archive/tar_unix.go, `skipFile`; containers/storage
            // likewise).
            self.forget_marks(&path);
            return Ok(());
        }
        if path.is_empty() || self.is_whiteout(&path, path == clean.text) {
            return Ok(());
        }
        if entry.kind == EntryKind::Directory {
            self.directory(&path);
            return Ok(());
        }
        self.replace(path, entry, archive)
    }

    fn directory(&mut self, path: &str) {
        // A directory that replaces the mark of a deletion shows what the layers below have there.
        self.whiteouts.remove(path);
        self.names.directory(path);
        self.linked.remove(path);
        self.observations.replace_file(path);
    }

    /// Reads an entry that replaces everything that the layer had at its path so far: a file or a link.
    fn replace(&mut self, path: String, entry: &ArchiveEntry, archive: &mut Archive<impl BufRead>) -> io::Result<()> {
        self.forget_marks(&path);
        self.names.remove_tree(&path);
        self.forget_linked(&path);
        self.observations.replace_tree(&path);
        self.names.note_undeclared(&path);
        self.note_other_manager(&path);
        let named = match entry.kind {
            EntryKind::File => self.file(&path, entry, archive)?,
            EntryKind::HardLink => self.hard_link(&path, entry),
            EntryKind::Symlink => Some(self.symlink(&path, path_text(&entry.link))),
            EntryKind::Pipe | EntryKind::Device | EntryKind::Directory | EntryKind::Global => Some(Named::Other),
        };
        let named = match named {
            None | Some(Named::Other) if is_in_alternatives(&path) => Some(self.add(FileFacts::Chosen)),
            named => named,
        };
        if let Some(named) = named {
            self.names.insert(path, named);
        }
        Ok(())
    }

    /// Notes the directory of another package manager under a name that no file has, so that the note disappears only
    /// with the directory, and each directory is noted once.
    fn note_other_manager(&mut self, path: &str) {
        let Some(name) = records_of_other_manager(path).map(|folder| format!("{folder}/.")) else { return };
        if self.names.get(&name).is_none() {
            let named = self.add(FileFacts::OtherPackages);
            self.names.insert(name, named);
        }
    }

    /// The path with the links of the layer followed in its directories. A path that cannot be followed is kept.
    fn resolve(&mut self, path: String) -> String {
        let (path, problem) = self.names.resolve(path);
        problem.into_iter().for_each(|problem| self.problem(problem));
        path
    }

    /// Forgets the deletions beneath a directory that is replaced by something else: runtimes that mark deletions in
    /// the unpacked layer lose them.
    fn forget_marks(&mut self, path: &str) {
        self.opaque.remove(path);
        for marks in [&mut self.whiteouts, &mut self.opaque] {
            let beneath: Vec<String> = marks.range(beneath(path)).cloned().collect();
            for mark in &beneath {
                marks.remove(mark);
            }
        }
    }

    /// Notes a deletion. Deletions apply to the layers below only, and to all of them before the next entry of the same
    /// path. `is_direct` is true if no link is on the path.
    fn is_whiteout(&mut self, path: &str, is_direct: bool) -> bool {
        let (directory, name) = (parent(path), file_name(path));
        if name == OPAQUE {
            // Not every runtime can hide the whole root, or a directory through a link.
            if !directory.is_empty() && is_direct {
                self.opaque.insert(directory.to_owned());
            }
        } else if name.starts_with(AUFS) {
            // Runtimes ignore it, or delete a file of this strange name.
        } else if let Some(deleted) = name.strip_prefix(WHITEOUT) {
            if matches!(deleted, "" | "." | "..") {
                self.problem("a deletion names no file");
            } else {
                let deleted = format!("{directory}/{deleted}").trim_start_matches('/').to_owned();
                self.forget_marks(&deleted);
                self.names.note_deleted(&deleted);
                self.whiteouts.insert(deleted);
            }
        } else {
            return false;
        }
        true
    }

    /// Reads a file if it may state something.
    fn file(
        &mut self,
        path: &str,
        entry: &ArchiveEntry,
        archive: &mut Archive<impl BufRead>,
    ) -> io::Result<Option<Named>> {
        let mut first = Vec::new();
        if !entry.is_sparse {
            archive.by_ref().take(FIRST).read_to_end(&mut first)?;
        }
        self.observations.add(path, check_mode(path, entry.mode));
        if let Some(named) = self.linked_file(path, entry, &first, archive)? {
            return Ok(Some(named));
        }
        let Some(interest) = ReadAs::of(path, &first) else {
            if entry.is_sparse {
                // Only the content shows whether this is a program.
                return Ok(Some(self.add(FileFacts::Unreadable(SPARSE.into()))));
            }
            return self.checked_file(path, entry, first, archive);
        };
        if let Some(facts) = Self::facts_without_content(interest, entry) {
            return Ok(Some(self.named(interest, facts)));
        }
        let (spool, by_content) = (self.spool, LanguageFile::by_content(&first));
        let read = |content: &mut dyn ReadSeek| self.read_named(path, interest, by_content, content, entry.size);
        spool.with(first, archive, entry.size, read).map(Some)
    }

    /// The result for a file of interest from its entry alone; `None` if its content is needed.
    fn facts_without_content(interest: ReadAs, entry: &ArchiveEntry) -> Option<Option<FileFacts>> {
        let is_too_large = entry.size > interest.max_bytes();
        if interest.is_journal() {
            Some((entry.size > 0).then_some(FileFacts::Journal))
        } else if interest.is_update() {
            Some(Some(FileFacts::Unreadable("dpkg has not applied these changes to its database yet".into())))
        } else if interest.is_optional() && (entry.is_sparse || is_too_large) {
            Some(None)
        } else if entry.is_sparse {
            Some(Some(FileFacts::Unreadable(SPARSE.into())))
        } else {
            let problem = || format!("the file has more than {} bytes", interest.max_bytes());
            is_too_large.then(|| Some(FileFacts::Unreadable(problem())))
        }
    }

    /// Examines a file that states nothing but may be unsafe. It is listed even if nothing was found, because it may
    /// replace an unsafe file of the layers below, as long as there is room for its name.
    fn checked_file(
        &mut self,
        path: &str,
        entry: &ArchiveEntry,
        first: Vec<u8>,
        archive: &mut Archive<impl BufRead>,
    ) -> io::Result<Option<Named>> {
        let checked = CheckedFile::at(path);
        let is_archive = if let Some(checked) = checked.filter(|checked| checked.is_read(entry.size, &first)) {
            let mut content = first;
            archive.by_ref().take(hardening::MAX_FILE).read_to_end(&mut content)?;
            self.observations.add(path, checked.examine(path, &content));
            language::ends_as_archive(&content, &content, entry.size)
        } else {
            let unread = checked.and_then(|checked| checked.unread(entry.size));
            self.observations.add(path, unread.into_iter().collect());
            language::ends_as_archive(&first, &last_bytes(&first, entry.size, archive)?, entry.size)
        };
        if is_archive {
            let problems = vec!["an archive after other bytes, which Java can load, is not read".to_owned()];
            let facts = FileFacts::Packages { packages: Vec::new(), unnamed: Vec::new(), problems };
            return Ok(Some(self.add(facts)));
        }
        let has_room = checked.is_some() && self.names.length() < self.limits.names / 2;
        Ok((entry.is_executable() || has_room).then_some(Named::Other))
    }

    /// What a file of interest is.
    fn named(&mut self, interest: ReadAs, facts: Option<FileFacts>) -> Named {
        let is_database = matches!(interest, ReadAs::BehindLink(_));
        let facts = facts.map(|facts| if is_database { FileFacts::Database(Box::new(facts)) } else { facts });
        facts.map_or(Named::Other, |facts| self.add(facts))
    }

    fn add(&mut self, facts: FileFacts) -> Named {
        let stated = if let FileFacts::Database(facts) = &facts { &**facts } else { &facts };
        if let FileFacts::Packages { packages, unnamed, .. } = stated {
            self.packages += packages.len() + unnamed.len();
        }
        self.facts += facts.text_bytes();
        self.files.push(facts);
        Named::File(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }
}

/// The last bytes of an entry, of which only the first ones were read.
fn last_bytes(first: &[u8], size: u64, entry: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let rest = size.saturating_sub(first.len() as u64);
    let skipped = rest.saturating_sub(language::MAX_END);
    io::copy(&mut entry.by_ref().take(skipped), &mut io::sink())?;
    let mut last = if skipped == 0 { first.to_vec() } else { Vec::new() };
    entry.by_ref().take(rest - skipped).read_to_end(&mut last)?;
    Ok(last)
}
