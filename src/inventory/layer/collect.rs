//! Collects what the files of a layer state, entry by entry.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read as _};

use super::names::{LayerNames, Named};
use super::observe::LayerObservations;
use super::owned::OwnedFiles;
use super::read_as::ReadAs;
use super::{FileFacts, LayerInventory, LayerLimits, too_late};
use crate::hardening::{self, CheckedFile, check_mode, enabled_file};
use crate::inventory::distribution::is_ubuntu_pro;
use crate::inventory::language::{PackageLimits, kind_of_link};
use crate::inventory::paths::{CleanPath, MAX_DEPTH, beneath, file_name, parent, path_text, target_of};
use crate::inventory::spool::Spool;
use crate::inventory::system_file::{SystemFile, is_directory_of_databases, leads_to_system_file};
use crate::inventory::tar::{Archive, ArchiveEntry, EntryKind};
use crate::inventory::{InstalledPackage, ReadSeek, apk, copyright, dpkg, red_hat, rpm};

/// How many bytes of a file [`ReadAs::of`] gets.
const FIRST: u64 = 4096;
/// Why a sparse file is not read.
const SPARSE: &str = "the file is stored as a sparse file";
/// Marks deletions in a layer (image-spec, layer.md, "Whiteouts").
const WHITEOUT: &str = ".wh.";
/// Marks a directory that hides that of the layers below.
const OPAQUE: &str = ".wh..wh..opq";
/// The beginning of names that AUFS keeps for itself.
const AUFS: &str = ".wh..wh.";

pub(super) struct Collector<'a> {
    limits: &'a LayerLimits,
    spool: &'a Spool<'a>,
    names: LayerNames,
    files: Vec<FileFacts>,
    owned: OwnedFiles,
    observations: LayerObservations,
    packages: usize,
    /// The length of the texts in `files`, in bytes.
    facts: usize,
    whiteouts: BTreeSet<String>,
    opaque: BTreeSet<String>,
    problems: BTreeSet<String>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(limits: &'a LayerLimits, spool: &'a Spool<'a>) -> Self {
        let [whiteouts, opaque, problems] = Default::default();
        let (names, files, owned) = (LayerNames::default(), Vec::new(), OwnedFiles::default());
        let observations = LayerObservations::default();
        Self { limits, spool, names, files, owned, observations, packages: 0, facts: 0, whiteouts, opaque, problems }
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
    pub(super) fn walk(&mut self, archive: &mut Archive<impl BufRead>) -> io::Result<()> {
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
            self.entry(&entry, archive)?;
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
            self.problem("the archive goes on after its end");
        }
        Ok(())
    }

    fn entry(&mut self, entry: &ArchiveEntry, archive: &mut Archive<impl BufRead>) -> io::Result<()> {
        if let Some(doubt) = entry.doubt {
            self.problem(doubt);
        }
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
        if entry.kind == EntryKind::Device {
            // Runtimes without root rights cannot create it and leave it out, with what it would replace or, as the mark of
            // a deletion, delete (containerd: pkg/archive/tar_unix.go, `skipFile`; containers/storage likewise).
            self.forget_marks(&path);
            return Ok(());
        }
        if path.is_empty() || self.is_whiteout(&path, path == clean.text) {
            return Ok(());
        }
        if entry.kind == EntryKind::Directory {
            // A directory that replaces the mark of a deletion shows what the layers below have there.
            self.whiteouts.remove(&path);
            self.names.directory(&path);
            self.observations.replace_file(&path);
            return Ok(());
        }
        self.forget_marks(&path);
        self.names.remove_tree(&path);
        self.observations.replace_tree(&path);
        self.names.note_undeclared(&path);
        let named = match entry.kind {
            EntryKind::File => self.file(&path, entry, archive)?,
            EntryKind::HardLink => self.hard_link(&path, entry),
            EntryKind::Symlink => Some(self.symlink(&path, path_text(&entry.link))),
            EntryKind::Pipe | EntryKind::Device | EntryKind::Directory | EntryKind::Global => Some(Named::Other),
        };
        if let Some(named) = named {
            self.names.insert(path, named);
        }
        Ok(())
    }

    /// The path with the links of the layer followed in its directories. A path that cannot be followed is kept.
    fn resolve(&mut self, path: String) -> String {
        let (path, problem) = self.names.resolve(path);
        problem.into_iter().for_each(|problem| self.problem(problem));
        path
    }

    /// Forgets the deletions beneath a directory that is replaced by something else: runtimes that mark deletions in the
    /// unpacked layer lose them.
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
    /// path. `is_direct` says whether no link leads to the path.
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
        let Some(interest) = ReadAs::of(path, &first) else {
            if entry.is_sparse {
                // Only the content says whether this is a program.
                return Ok(Some(self.add(FileFacts::Unreadable(SPARSE.into()))));
            }
            return self.checked_file(path, entry, first, archive);
        };
        let facts = if interest.is_journal() {
            (entry.size > 0).then_some(FileFacts::Journal)
        } else if interest.is_update() {
            Some(FileFacts::Unreadable("dpkg has not applied these changes to its database yet".into()))
        } else if interest.is_optional() && (entry.is_sparse || entry.size > interest.max_bytes()) {
            None
        } else if entry.is_sparse {
            Some(FileFacts::Unreadable(SPARSE.into()))
        } else if entry.size > interest.max_bytes() {
            Some(FileFacts::Unreadable(format!("the file has more than {} bytes", interest.max_bytes())))
        } else {
            let spool = self.spool;
            spool.with(first, archive, entry.size, |content| self.facts(path, interest, content, entry.size))?
        };
        Ok(Some(facts.map_or(Named::Other, |facts| self.add(facts))))
    }

    /// Examines a file that states nothing but may be unsafe. It is named even if nothing was found, because it may replace
    /// an unsafe file of the layers below; as long as there is room for its name.
    fn checked_file(
        &mut self,
        path: &str,
        entry: &ArchiveEntry,
        first: Vec<u8>,
        archive: &mut Archive<impl BufRead>,
    ) -> io::Result<Option<Named>> {
        let Some(checked) = CheckedFile::at(path) else {
            return Ok(entry.is_executable().then_some(Named::Other));
        };
        if checked.is_read(entry.size, &first) {
            let mut content = first;
            archive.by_ref().take(hardening::MAX_FILE).read_to_end(&mut content)?;
            self.observations.add(path, checked.examine(path, &content));
        } else {
            self.observations.add(path, checked.unread(entry.size).into_iter().collect());
        }
        let has_room = self.names.length() < self.limits.names / 2;
        Ok((entry.is_executable() || has_room).then_some(Named::Other))
    }

    /// Another name of what precedes it in the layer. A file that was not read may be one to read under this name.
    fn hard_link(&mut self, path: &str, entry: &ArchiveEntry) -> Option<Named> {
        let target = self.resolve(CleanPath::new(&entry.link).text);
        self.observations.add_name(path, &target);
        let is_of_interest = |path: &str| ReadAs::of(path, &[]).is_some_and(|read| !read.is_optional());
        let is_same_kind = SystemFile::at(path) == SystemFile::at(&target);
        match self.names.get(&target).cloned() {
            Some(Named::Link(target)) => Some(self.symlink(path, target)),
            Some(named) if is_same_kind && (is_of_interest(&target) || !is_of_interest(path)) => Some(named),
            _ if is_of_interest(path) || entry.is_executable() || leads_to_system_file(path) => {
                let problem = format!("the file is a hard link to {target}, which was not read");
                Some(self.add(FileFacts::Unreadable(problem)))
            }
            named => named.map(|_| Named::Other),
        }
    }

    /// A symbolic link. One at a path where something is read must lead to something that is read under its own name. Links
    /// that decide which release file or database is read are followed when all layers are known.
    fn symlink(&mut self, path: &str, target: String) -> Named {
        let leads_to = target_of(path, &target);
        self.observations.add(path, enabled_file(path, &leads_to).into_iter().collect());
        let kinds = |path: &str| {
            let system = SystemFile::at(path).filter(|kind| kind.is_essential());
            (system, kind_of_link(path))
        };
        let is_read = leads_to_system_file(path) || kinds(path) == (None, None) || kinds(path) == kinds(&leads_to);
        if is_read && (!is_directory_of_databases(&leads_to) || leads_to_system_file(path)) {
            return Named::Link(target);
        }
        self.add(FileFacts::Unreadable(format!("it is a link to {leads_to}, which is not read under this name")))
    }

    fn add(&mut self, facts: FileFacts) -> Named {
        if let FileFacts::Packages { packages, .. } = &facts {
            self.packages += packages.len();
        }
        self.facts += facts.text_bytes();
        self.files.push(facts);
        Named::File(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX))
    }

    /// What the file states, if anything.
    fn facts(&mut self, path: &str, interest: ReadAs, content: &mut dyn ReadSeek, size: u64) -> Option<FileFacts> {
        let system = match interest {
            ReadAs::Language(file) => {
                let bytes = self.limits.facts.saturating_sub(self.facts);
                // One more than is left, so that the limit of the layer is hit.
                let packages = self.packages_left().saturating_add(1);
                let limits = PackageLimits { packages, bytes };
                let found = file.read(path, content, size, limits, self.spool);
                let (mut packages, problems) = (found.packages, found.problems);
                // The file may be known by another name in the end.
                packages.iter_mut().for_each(|package| package.path = package.path.take().filter(|own| own != path));
                let is_empty = packages.is_empty() && problems.is_empty();
                return (!is_empty).then_some(FileFacts::Packages { packages, problems });
            }
            ReadAs::System(system) => system,
        };
        let found = match system {
            SystemFile::Rpm => {
                self.rpm_packages(content, size).map(|packages| SmallFile::Packages(packages, BTreeSet::new()))
            }
            _ => {
                let mut bytes = Vec::new();
                let read = content.read_to_end(&mut bytes).map_err(|error| error.to_string());
                read.and_then(|_| self.small_file(path, system, &bytes))
            }
        };
        match found {
            Ok(SmallFile::Packages(packages, problems)) => {
                Some(FileFacts::Packages { packages, problems: problems.into_iter().collect() })
            }
            Ok(SmallFile::Other(facts)) => facts,
            Err(problem) => Some(FileFacts::Unreadable(problem)),
        }
    }

    fn packages_left(&self) -> usize {
        self.limits.packages.saturating_sub(self.packages)
    }

    fn rpm_packages(&mut self, content: &mut dyn ReadSeek, size: u64) -> Result<Vec<InstalledPackage>, String> {
        let (mut packages, left) = (Vec::new(), self.packages_left());
        let mut bytes = self.limits.facts.saturating_sub(self.facts);
        rpm::read_database(content, size, &mut |found| {
            let rest = bytes.checked_sub(found.package.text_bytes()).filter(|_| packages.len() < left);
            bytes = rest.ok_or("the database has too many packages")?;
            if !found.package.is_third_party() {
                self.owned.add(&found.files);
            }
            packages.push(found.package);
            Ok(())
        })?;
        Ok(packages)
    }

    fn small_file(&mut self, path: &str, system: SystemFile, content: &[u8]) -> Result<SmallFile, String> {
        Ok(match system {
            SystemFile::Release => {
                SmallFile::Other(Some(FileFacts::Release(String::from_utf8_lossy(content).into_owned())))
            }
            SystemFile::UbuntuPro => SmallFile::Other(is_ubuntu_pro(content).then_some(FileFacts::UbuntuPro)),
            SystemFile::ContentManifest => SmallFile::Other(red_hat::content_sets(content)?.map(FileFacts::Build)),
            SystemFile::BuildDockerfile => SmallFile::Other(red_hat::dockerfile(path, content).map(FileFacts::Build)),
            SystemFile::DpkgFiles => {
                self.owned.add_list(path, &dpkg::files(content));
                SmallFile::Other(None)
            }
            SystemFile::DpkgCopyright => {
                let licenses = copyright::licenses(content);
                SmallFile::Other((!licenses.is_empty()).then_some(FileFacts::Licenses(licenses)))
            }
            SystemFile::DpkgStatus => {
                let database = dpkg::database(content, self.packages_left())?;
                self.owned.add_packages(&database.packages);
                SmallFile::Packages(database.packages, database.problems)
            }
            SystemFile::Apk => {
                let database = apk::database(content, self.packages_left())?;
                self.owned.add(&database.files);
                SmallFile::Packages(database.packages, database.problems)
            }
            SystemFile::RpmManifest => {
                SmallFile::Packages(rpm::manifest(content, self.packages_left())?, BTreeSet::new())
            }
            SystemFile::DpkgUpdate | SystemFile::Rpm | SystemFile::RpmJournal => SmallFile::Other(None),
        })
    }

    /// Leaves out what the distribution's packages own.
    pub(super) fn finish(self) -> LayerInventory {
        let Self { names, files, owned, observations, whiteouts, opaque, problems, .. } = self;
        let mut layer = LayerInventory { files, whiteouts, opaque, problems, ..LayerInventory::default() };
        names.finish(&mut layer);
        let (files, owned) = (&mut layer.files, owned.finish());
        layer.observations = observations.finish(|path| {
            // Lists of packages name `bin/su` where the archive has `usr/bin/su`.
            owned.contains(path) || path.strip_prefix("usr/").is_some_and(|path| owned.contains(path))
        });
        for (path, index) in layer.names.iter().filter(|(path, _)| SystemFile::at(path).is_none()) {
            let Some(facts) = files.get_mut(*index as usize) else { continue };
            if owned.contains(path) {
                *facts = FileFacts::Packages { packages: Vec::new(), problems: Vec::new() };
            } else if let FileFacts::Packages { packages, .. } = facts {
                packages.retain(|package| package.path.as_deref().is_none_or(|path| !owned.contains(path)));
            }
        }
        layer
    }
}

/// What a file that is read into memory states.
enum SmallFile {
    /// Packages, and why there may be more.
    Packages(Vec<InstalledPackage>, BTreeSet<String>),
    Other(Option<FileFacts>),
}
