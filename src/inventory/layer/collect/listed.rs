//! Entries of layers for lazy pulling, whose table is compared.

use std::io::{self, BufRead};

use super::super::table::FileListing;
use super::Collector;
use crate::inventory::tar::{Archive, ArchiveEntry};

impl Collector<'_> {
    /// Reads an entry of a layer that some clients read by its table. What they do not see replaces nothing.
    pub(super) fn listed_entry(
        &mut self,
        entry: &ArchiveEntry,
        archive: &mut Archive<impl BufRead>,
        listing: &mut FileListing,
    ) -> io::Result<()> {
        let is_table = FileListing::is_table(entry);
        if is_table {
            listing.read_entry(archive, entry.size);
        } else if !FileListing::is_hidden(entry) {
            self.entry(entry, archive)?;
        }
        let content = archive.end_entry()?;
        if !is_table {
            listing.add(entry, content);
        }
        Ok(())
    }
}
