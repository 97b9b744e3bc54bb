//! Compares the entries of a table with the files of a layer, one by one.

use std::collections::BTreeMap;
use std::io::Read;

use super::entry::{TableKind, TocEntry, each_entry};
use super::text::{EntryRoom, TableText};
use super::{LayerTable, ListedFile, ListedKind, device_content, link_content, path_hash, sha256};
use crate::inventory::paths::CleanPath;
use crate::inventory::tar::hash_attributes;
use crate::inventory::tar_content::CHUNK;
use crate::oci::{Algorithm, Digest};

pub(super) struct TableComparison<'a> {
    /// In the order of the hashes of their paths.
    files: &'a mut [ListedFile],
    chunks: &'a BTreeMap<[u8; 32], Vec<Digest>>,
    longest_path: usize,
    /// How many of the files the table has so far.
    seen: usize,
    /// The file whose chunks follow.
    current: Option<FileInChunks>,
    /// Why the digests of chunks could not be compared.
    unsure: Option<String>,
}

/// A file while its chunks are compared.
struct FileInChunks {
    path: [u8; 32],
    name: String,
    size: u64,
    whole: [u8; 32],
    /// Where the next chunk begins.
    next: u64,
}

impl<'a> TableComparison<'a> {
    pub(super) fn new(
        files: &'a mut [ListedFile],
        chunks: &'a BTreeMap<[u8; 32], Vec<Digest>>,
        longest_path: usize,
    ) -> Self {
        Self { files, chunks, longest_path, seen: 0, current: None, unsure: None }
    }

    /// Compares the files with the whole table.
    pub(super) fn read(mut self, table: &mut dyn Read) -> LayerTable {
        let (room, mut found) = (EntryRoom::new(), None);
        let mut text = TableText::new(table, &room);
        let read = each_entry(&mut text, &room, &mut |entry: &TocEntry| {
            found = self.entry(entry).err();
            found.is_none()
        });
        self.end_file();
        let missing = || self.files.iter().filter(|file| !file.is_seen).map(|file| file.at).min();
        let difference = match (found, read) {
            (Some(difference), _) => Some(difference),
            (None, Err(error)) => Some(format!("its table cannot be read: {error}")),
            (None, Ok(())) if self.seen == self.files.len() => None,
            (None, Ok(())) => missing().map(|at| format!("its table lacks its entry {at}")),
        };
        let text = difference.is_none().then(|| text.digest());
        LayerTable { text, packed: None, difference, chunks: self.unsure }
    }

    fn entry(&mut self, entry: &TocEntry) -> Result<(), String> {
        if entry.kind == TableKind::Chunk {
            return self.chunk(entry);
        }
        self.end_file();
        let CleanPath { text: path, escapes } = CleanPath::new(entry.name.as_bytes());
        if escapes || entry.name.len() > self.longest_path {
            return Err("its table has a path that is too long or leads out of the root".into());
        }
        let hash = path_hash(&path);
        let place = self.files.binary_search_by_key(&hash, |file| file.path).ok();
        let Some(file) = place.and_then(|place| self.files.get_mut(place)) else {
            return Err(format!("its table has {path:?}, which its archive does not have"));
        };
        if std::mem::replace(&mut file.is_seen, true) {
            return Err(format!("its table has {path:?} twice"));
        }
        self.seen += 1;
        if let Some(what) = difference(file, entry) {
            return Err(format!("its table states another {what} of {path:?}"));
        }
        if file.kind != ListedKind::File {
            return Ok(());
        }
        if file.size > 0 {
            let (size, whole) = (file.size, file.content);
            self.current = Some(FileInChunks { path: hash, name: path, size, whole, next: 0 });
            return self.chunk(entry);
        }
        // With the passthrough of FUSE, stargz-snapshotter gives a file the size of its chunks.
        if (entry.chunk_size, entry.chunk_offset) != (0, 0) {
            self.unsure.get_or_insert_with(|| format!("its table has chunks of {path:?}, which is empty"));
        }
        Ok(())
    }

    /// Compares a chunk of the current file, the first of which is the entry of the file itself.
    fn chunk(&mut self, entry: &TocEntry) -> Result<(), String> {
        let Some(file) = &mut self.current else { return Err("its table has a chunk that follows no file".into()) };
        let offset = entry.chunk_offset;
        let is_first = entry.kind != TableKind::Chunk;
        let size = match entry.chunk_size {
            0 => file.size.saturating_sub(offset),
            // Of a file with one chunk, any larger size may be stated.
            size if is_first => size.min(file.size),
            size => size,
        };
        let Some(end) = offset.checked_add(size).filter(|end| offset == file.next && size > 0 && *end <= file.size)
        else {
            let why = || format!("its table has chunks of {:?} that do not follow each other", file.name);
            self.unsure.get_or_insert_with(why);
            return Ok(());
        };
        file.next = end;
        let is_whole = offset == 0 && end == file.size;
        let is_usual = offset.is_multiple_of(CHUNK) && (size == CHUNK || (size < CHUNK && end == file.size));
        let in_list = || {
            let place = usize::try_from(offset / CHUNK).ok().filter(|_| is_usual)?;
            self.chunks.get(&file.path)?.get(place).copied().map(sha256)
        };
        let expected = if is_whole { Some(file.whole) } else { in_list() };
        // Without a digest of the only chunk, readers use that of the file, which was compared.
        let is_known = expected.is_some() && (is_whole || !entry.chunk_digest.is_empty());
        if !is_known {
            let why =
                || format!("its table has chunks of {:?} of another size than 4 MiB, or without a digest", file.name);
            self.unsure.get_or_insert_with(why);
        } else if !entry.chunk_digest.is_empty() && stated(&entry.chunk_digest) != expected {
            return Err(format!("its table states another content of {:?}", file.name));
        }
        Ok(())
    }

    /// Ends the current file.
    fn end_file(&mut self) {
        if let Some(file) = self.current.take()
            && file.next != file.size
        {
            self.unsure.get_or_insert_with(|| format!("its table lacks chunks of {:?}", file.name));
        }
    }
}

/// What differs between a file and its entry in the table.
fn difference(file: &ListedFile, entry: &TocEntry) -> Option<&'static str> {
    let target = entry.link_name.as_bytes();
    let (kind, content, name) = match entry.kind {
        TableKind::Block => (ListedKind::Block, Some(device_content([entry.dev_major, entry.dev_minor])), "number"),
        TableKind::Char => (ListedKind::Char, Some(device_content([entry.dev_major, entry.dev_minor])), "number"),
        TableKind::Dir => (ListedKind::Directory, Some(file.content), "content"),
        TableKind::Fifo => (ListedKind::Fifo, Some(file.content), "content"),
        TableKind::HardLink => (ListedKind::HardLink, Some(link_content(target)), "target"),
        TableKind::Symlink => (ListedKind::Symlink, Some(sha256(Digest::sha256(target))), "target"),
        // Nothing needs to be known of an empty file.
        TableKind::Reg if entry.size == 0 && entry.digest.is_empty() => {
            (ListedKind::File, Some(file.content), "content")
        }
        TableKind::Reg => (ListedKind::File, stated(&entry.digest), "content"),
        TableKind::Chunk => return Some("kind"),
    };
    let is_link = matches!(kind, ListedKind::HardLink | ListedKind::Symlink);
    let attributes = entry.xattrs.0.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
    let owner = (u64::from(file.owner), u64::from(file.group));
    let checks = [
        (kind == file.kind, "kind"),
        (entry.mode == u64::from(file.mode), "mode"),
        ((entry.uid, entry.gid) == owner, "owner"),
        (kind != ListedKind::File || entry.size == file.size, "size"),
        (hash_attributes(attributes) == file.extended, "list of extended attributes"),
        (content == Some(file.content), name),
        // With composefs, containers/storage takes the content of any file from where its target or digest says
        // (pkg/chunked/dump/dump.go, `dumpNode`).
        (is_link || target.is_empty(), "target"),
        (kind == ListedKind::File || entry.digest.is_empty(), "content"),
    ];
    checks.into_iter().find_map(|(is_same, what)| (!is_same).then_some(what))
}

/// The digest that the text of a table states.
fn stated(digest: &str) -> Option<[u8; 32]> {
    digest.parse().ok().filter(|digest: &Digest| digest.algorithm() == Algorithm::Sha256).map(sha256)
}
