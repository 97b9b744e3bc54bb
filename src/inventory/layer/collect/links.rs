//! Hard links and symbolic links: other names of files.

use std::io::{self, BufRead};

use super::super::FileFacts;
use super::super::names::Named;
use super::super::read_as::ReadAs;
use super::Collector;
use crate::hardening::enabled_file;
use crate::inventory::checksum::FileChecksum;
use crate::inventory::language::LanguageFile;
use crate::inventory::other_manager::is_link_to_store;
use crate::inventory::paths::{CleanPath, GOES_BACK, beneath, goes_back, path_text, target_of};
use crate::inventory::symlink::{is_alternative, is_no_name, is_read_alike};
use crate::inventory::system_file::{is_directory_of_databases, leads_to_system_file};
use crate::inventory::tar::{Archive, ArchiveEntry};

/// The maximum number of names under which one file is read. Hard links beyond that are gaps.
const MAX_NAMES: usize = 64;

impl Collector<'_> {
    /// Reads a file under its own name and those that hard links give it, if the layer is read for them.
    pub(super) fn linked_file(
        &mut self,
        path: &str,
        entry: &ArchiveEntry,
        first: &[u8],
        archive: &mut Archive<impl BufRead>,
    ) -> io::Result<Option<Named>> {
        let (wanted, spool) = (self.wanted, self.spool);
        let Some(names) = wanted.get(path) else { return Ok(None) };
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for name in names.iter().map(String::as_str).chain([path]) {
            let Some(interest) = ReadAs::of(name, first) else { continue };
            match Self::facts_without_content(interest, entry) {
                Some(facts) => read.push((name, self.named(interest, facts))),
                None => unread.push((name, interest)),
            }
        }
        if !unread.is_empty() {
            let by_content = LanguageFile::by_content(first);
            let found = spool.with(first.to_vec(), archive, entry.size, |content| {
                let mut found = Vec::new();
                for (name, interest) in unread {
                    content.rewind()?;
                    found.push((name, self.read_named(name, interest, by_content, content, entry.size)));
                }
                io::Result::Ok(found)
            })?;
            read.extend(found?);
        }
        let mut own = Named::Other;
        for (name, named) in read {
            match name == path {
                true => own = named,
                false => drop(self.linked.entry(path.to_owned()).or_default().insert(name.to_owned(), named)),
            }
        }
        Ok(Some(own))
    }

    /// Forgets what was read for hard links to files that an entry replaces.
    pub(super) fn forget_linked(&mut self, path: &str) {
        self.linked.remove(path);
        let beneath: Vec<String> = self.linked.range(beneath(path)).map(|(path, _)| path.clone()).collect();
        beneath.iter().for_each(|path| drop(self.linked.remove(path)));
    }

    /// Another name of what precedes it in the layer. A file that was not read may be one to read under this name: then
    /// it is read when the layer is read again.
    pub(super) fn hard_link(&mut self, path: &str, entry: &ArchiveEntry) -> Option<Named> {
        if goes_back(&path_text(&entry.link)) {
            return Some(self.add(FileFacts::Unreadable(GOES_BACK.into())));
        }
        let target = self.resolve(CleanPath::new(&entry.link).text);
        self.observations.add_name(path, &target);
        let is_of_interest = |path: &str| ReadAs::of(path, &[]).is_some_and(|read| !read.is_optional());
        // The result for the target also applies to this name unless the name requires another kind of reading.
        let kind = |path: &str| ReadAs::of(path, &[]).filter(|read| !read.is_optional());
        let is_read_alike = kind(path).is_none_or(|own| kind(&target) == Some(own));
        let linked = self.linked.get(&target).and_then(|names| names.get(path)).cloned();
        match self.names.get(&target).cloned() {
            Some(Named::Link(target)) => Some(self.symlink(path, target)),
            Some(named) if is_read_alike => Some(named),
            _ if linked.is_some() => linked,
            _ if is_of_interest(path) || entry.is_executable() || leads_to_system_file(path) => {
                let unread = self.unread.entry(target.clone()).or_default();
                if unread.len() < MAX_NAMES {
                    unread.insert(path.to_owned());
                }
                // The first reading does not know which paths the layer has that state nothing.
                let is_below = self.wanted.contains_key(&target) && !self.seen.contains(&target);
                let problem = format!("the file is a hard link to {target}, which was not read");
                Some(self.add(if is_below { FileFacts::HardLink(target) } else { FileFacts::Unreadable(problem) }))
            }
            named => named.map(|_| Named::Other),
        }
    }

    /// A symbolic link. One at a path where something is read must lead to something that is read under its own name.
    /// Links that decide which release file or database is read are followed when all layers are known.
    pub(super) fn symlink(&mut self, path: &str, target: String) -> Named {
        let leads_to = target_of(path, &target);
        self.observations.add(path, enabled_file(path, &leads_to).into_iter().collect());
        if goes_back(&target) && (leads_to_system_file(path) || !is_no_name(path)) {
            return self.add(FileFacts::Unreadable(GOES_BACK.into()));
        }
        if is_link_to_store(path) {
            let problem = format!("packages of an unsupported package manager may be in {leads_to}; they are not read");
            return self.add(FileFacts::Unreadable(problem));
        }
        let is_read = leads_to_system_file(path) || is_no_name(path) || is_read_alike(path, &leads_to);
        if is_read && (!is_directory_of_databases(&leads_to) || leads_to_system_file(path)) {
            return Named::Link(target);
        }
        if is_alternative(&leads_to) {
            return self.add(FileFacts::Alternative(leads_to));
        }
        let problem = format!("it is a link to {leads_to}, which is not read under this name");
        self.add_owned(FileFacts::Unreadable(problem), FileChecksum::of_link(&target))
    }
}
