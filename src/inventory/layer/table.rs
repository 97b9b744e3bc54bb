//! The table of contents of a layer for lazy pulling, compared with the files of the layer.
//!
//! Some clients read a layer by a table at its end instead of unpacking it: stargz-snapshotter (eStargz and
//! zstd:chunked) and containers/storage (zstd:chunked, and eStargz if it is configured so). They know the table by its
//! digest, which the manifest states, so wherever they find it, it is the one that was compared. Each of them takes
//! paths, kinds, targets, permissions, owners, devices and extended attributes from the table, and the content of files
//! from anywhere, as long as it has the digests in the table. So the table is compared in all of that. What only one of
//! these readers supports, or what they read differently, counts as a difference: duplicates of a path, files beneath
//! something that is not a directory, deletions of files of the same layer, hard links to a file that follows or that
//! has other attributes.
//!
//! Times are not compared: nothing that is judged depends on them.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::LayerLimits;
use super::collect::{AUFS, OPAQUE, WHITEOUT};
use crate::inventory::paths::{CleanPath, MAX_DEPTH, file_name, parent};
use crate::inventory::tar::{ArchiveEntry, EntryKind};
use crate::inventory::tar_content::{CHUNK, ContentHashes};
use crate::inventory::tar_header::BLOCK;
use crate::oci::Digest;
use crate::oci::unpack::TableFooter;

use compare::TableComparison;

mod compare;
mod entry;
mod text;

/// The file in a layer of eStargz that is its table.
const TABLE: &str = "stargz.index.json";
/// Files for the prefetching of eStargz, which clients that read the table hide (stargz-snapshotter, fs/layer/node.go).
const LANDMARKS: [&str; 2] = [".prefetch.landmark", ".no.prefetch.landmark"];
/// The directory of its state, which stargz-snapshotter shows in place of one of the layer.
const STATE: &str = ".stargz-snapshotter";
/// The memory for each path in a set, in bytes.
const HASH_MEMORY: usize = 64;

/// The table of contents of a layer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LayerTable {
    /// The digest of its text, by which manifests name the table of eStargz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Digest>,
    /// The digest of the compressed table, by which manifests name that of zstd:chunked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Digest>,
    /// The first difference between the table and the files of the layer, or why it could not be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
    /// Why the digests of chunks could not be compared. The digests of whole files were. Only clients that know the
    /// table by `text` rely on those of chunks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<String>,
}

/// What the archive has at a path.
struct ListedFile {
    /// The SHA-256 of the path. Half of it would not do: whoever made the archive and the table chooses both paths.
    path: [u8; 32],
    kind: ListedKind,
    mode: u32,
    owner: u32,
    group: u32,
    /// The number of the entry.
    at: u32,
    /// Whether the table has the path.
    is_seen: bool,
    size: u64,
    /// The SHA-256 of a file's content, of a symbolic link's target, or of the path to which a hard link leads; the
    /// numbers of a device.
    content: [u8; 32],
    /// The hash of the extended attributes.
    extended: Option<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ListedKind {
    Block,
    Char,
    Directory,
    Fifo,
    File,
    HardLink,
    Symlink,
}

/// The files of a layer while it is read, to be compared with its table.
pub(super) struct FileListing {
    files: Vec<ListedFile>,
    /// The digests of the chunks of files larger than one, by the hash of the path.
    chunks: BTreeMap<[u8; 32], Vec<Digest>>,
    /// Hashes of all directories above files.
    above: HashSet<[u8; 32]>,
    /// Hashes of the paths that the layer deletes from those below.
    deleted: Vec<[u8; 32]>,
    /// The memory that all of this may take, in bytes.
    room: usize,
    longest_path: usize,
    entries: u32,
    /// How long the archive is if it ends with the table of eStargz that was read, counted from the header of the
    /// table.
    end_length: Option<u64>,
    table: Option<LayerTable>,
    /// Why the layer cannot be compared.
    failure: Option<String>,
}

impl FileListing {
    pub(super) fn new(limits: &LayerLimits) -> Self {
        Self {
            files: Vec::new(),
            chunks: BTreeMap::new(),
            above: HashSet::new(),
            deleted: Vec::new(),
            room: limits.names,
            longest_path: limits.path,
            entries: 0,
            end_length: None,
            table: None,
            failure: None,
        }
    }

    /// Whether an entry is the table of eStargz.
    pub(super) fn is_table(entry: &ArchiveEntry) -> bool {
        entry.kind == EntryKind::File && CleanPath::new(&entry.path).text == TABLE
    }

    /// Whether some clients that read the table do not see this file. Such a file does not hide that of a layer below.
    /// containers/storage makes no pipes and devices (pkg/chunked/storage_linux.go, `ApplyDiff`); for devices, the
    /// scanner assumes this of all clients.
    pub(super) fn is_hidden(entry: &ArchiveEntry) -> bool {
        entry.kind == EntryKind::Pipe || Self::is_small_landmark(entry)
    }

    fn is_small_landmark(entry: &ArchiveEntry) -> bool {
        entry.kind == EntryKind::File
            && entry.size <= 1
            && LANDMARKS.contains(&CleanPath::new(&entry.path).text.as_str())
    }

    /// Notes an entry of the archive that was read to its end.
    pub(super) fn add(&mut self, entry: &ArchiveEntry, content: ContentHashes) {
        self.entries = self.entries.saturating_add(1);
        if self.failure.is_some() || entry.kind == EntryKind::Global {
            return;
        }
        if let Err(why) = self.note(entry, content) {
            self.fail(why);
        }
    }

    fn note(&mut self, entry: &ArchiveEntry, content: ContentHashes) -> Result<(), String> {
        if self.table.is_some() {
            return Err("files follow its table".into());
        }
        let CleanPath { text: path, escapes } = CleanPath::new(&entry.path);
        if escapes || entry.path.len() > self.longest_path || path.split('/').count() > MAX_DEPTH {
            return Err("a path is too long, too deep or leads out of the root".into());
        }
        let file = ListedFile::new(entry, &path, self.entries, &content)?;
        let hash = file.path;
        self.note_name(&path, entry)?;
        for above in ancestors(&path) {
            if !self.above.insert(path_hash(above)) {
                break;
            }
        }
        self.files.push(file);
        if !content.chunks.is_empty() {
            self.chunks.insert(hash, content.chunks);
        }
        let chunk_digests = usize::try_from(entry.size / CHUNK).unwrap_or(usize::MAX);
        self.room = self.room.saturating_sub(chunk_digests.saturating_mul(size_of::<Digest>()));
        let taken = self.files.len() * size_of::<ListedFile>() + (self.above.len() + self.deleted.len()) * HASH_MEMORY;
        if taken > self.room { Err("it has too many files".into()) } else { Ok(()) }
    }

    /// Notes a deletion, and refuses names that readers of tables treat specially.
    fn note_name(&mut self, path: &str, entry: &ArchiveEntry) -> Result<(), String> {
        let (directory, name) = (parent(path), file_name(path));
        let special = |path: &str| Err(format!("{path:?} is special to clients that read the table"));
        let is_state = |path: &str| path.split('/').next() == Some(STATE);
        let is_landmark = LANDMARKS.contains(&path) && !Self::is_small_landmark(entry);
        if is_landmark || path == TABLE || is_state(path) {
            return special(path);
        }
        let is_empty_file = entry.kind == EntryKind::File && entry.size == 0;
        let is_in_mark = directory.split('/').any(|part| part.starts_with(WHITEOUT));
        let is_unusual = name.starts_with(WHITEOUT) && !is_empty_file;
        if is_in_mark || is_unusual || (name.starts_with(AUFS) && name != OPAQUE) {
            return Err(format!("{path:?} is an unusual mark of a deletion"));
        }
        if let Some(deleted) = name.strip_prefix(WHITEOUT).filter(|_| name != OPAQUE) {
            let deleted = format!("{directory}/{deleted}");
            let deleted = deleted.trim_start_matches('/');
            // These clients delete neither what they hide nor what they replace by something of their own.
            if LANDMARKS.contains(&deleted) || is_state(deleted) {
                return special(path);
            }
            self.deleted.push(path_hash(deleted));
        }
        Ok(())
    }

    /// Compares the files with the table that the archive has as an entry. `size` is that of its content.
    pub(super) fn read_entry(&mut self, table: &mut dyn Read, size: u64) {
        let block = BLOCK as u64;
        // Its header, its content, and the end of the archive.
        self.end_length = size.checked_next_multiple_of(block).and_then(|size| size.checked_add(3 * block));
        self.compare(table);
    }

    /// Compares the files with a table. All files must have been noted.
    pub(super) fn compare(&mut self, table: &mut dyn Read) {
        if self.failure.is_some() {
            return;
        }
        if self.table.is_some() {
            return self.fail("it has several tables");
        }
        match self.check_files() {
            Ok(()) => {
                let comparison = TableComparison::new(&mut self.files, &self.chunks, self.longest_path);
                self.table = Some(comparison.read(table));
            }
            Err(why) => self.fail(why),
        }
    }

    /// Notes that not all entries were read, or that the archive could not be: its files are not known.
    pub(super) fn end_early(&mut self) {
        if self.failure.is_none() {
            self.fail("it was not read to its end");
        }
    }

    /// The result for a layer that was read to its end. `footer` is what follows its content.
    pub(super) fn finish(self, footer: Option<&TableFooter>) -> LayerTable {
        let mut table = self.table.unwrap_or_default();
        table.packed = footer.and_then(|footer| footer.packed);
        let is_in_place = footer.is_some_and(|footer| {
            let is_whole = match self.end_length {
                Some(length) => footer.packed.is_none() && footer.length == length,
                None => footer.named_length == Some(footer.length) && !footer.has_more,
            };
            is_whole && footer.named_at == footer.begins_at
        });
        let found = table.difference.take();
        table.difference = match self.failure {
            Some(failure) => Some(failure),
            None if table.text.is_none() && found.is_none() => Some("it has no table".into()),
            None => found.or_else(|| (!is_in_place).then(|| "its end points to another table".into())),
        };
        table
    }

    /// Orders the files by path, and refuses what readers of the table and of the archive see differently.
    fn check_files(&mut self) -> Result<(), String> {
        self.files.sort_unstable_by_key(|file| (file.path, file.at));
        for pair in self.files.windows(2) {
            if let [one, two] = pair
                && one.path == two.path
            {
                return Err(format!("its entries {} and {} have the same path", one.at, two.at));
            }
        }
        let is_file = |file: &&ListedFile| file.kind != ListedKind::Directory;
        if let Some(file) = self.files.iter().filter(is_file).find(|file| self.above.contains(&file.path)) {
            return Err(format!("its entry {} has files beneath it and is not a directory", file.at));
        }
        if let Some(file) = self.deleted.iter().find_map(|deleted| self.find(*deleted)) {
            return Err(format!("its entry {} is also deleted", file.at));
        }
        // stargz-snapshotter does not delete it then, so what the layers below have there can be seen.
        if self.deleted.iter().any(|deleted| self.above.contains(deleted)) {
            return Err("it deletes a directory in which it has files".into());
        }
        self.files.iter().filter(|file| file.kind == ListedKind::HardLink).try_for_each(|link| self.check_link(link))
    }

    /// Readers of the table give all names of a file the attributes of one of them, and may find a target that follows.
    fn check_link(&self, link: &ListedFile) -> Result<(), String> {
        let target = self.find(link.content);
        let target = target.filter(|target| target.at < link.at && target.kind != ListedKind::Directory);
        let Some(target) = target else {
            return Err(format!("its entry {} is a hard link to nothing that precedes it", link.at));
        };
        let is_same = (target.mode, target.owner, target.group) == (link.mode, link.owner, link.group)
            && link.extended.is_none_or(|own| target.extended == Some(own));
        if is_same { Ok(()) } else { Err(format!("its entry {} differs from the file to which it is a link", link.at)) }
    }

    fn find(&self, path: [u8; 32]) -> Option<&ListedFile> {
        let place = self.files.binary_search_by_key(&path, |file| file.path).ok()?;
        self.files.get(place)
    }

    fn fail(&mut self, why: impl Into<String>) {
        self.failure = Some(why.into());
        (self.files, self.chunks) = (Vec::new(), BTreeMap::new());
        (self.above, self.deleted) = (HashSet::new(), Vec::new());
    }
}

impl ListedFile {
    fn new(entry: &ArchiveEntry, path: &str, at: u32, content: &ContentHashes) -> Result<Self, String> {
        if entry.is_sparse {
            return Err(format!("{path:?} is stored as a sparse file"));
        }
        let attributes = entry.attributes;
        let kind = match entry.kind {
            EntryKind::Directory | EntryKind::Global => ListedKind::Directory,
            EntryKind::Device if attributes.is_block => ListedKind::Block,
            EntryKind::Device => ListedKind::Char,
            EntryKind::File => ListedKind::File,
            EntryKind::HardLink => ListedKind::HardLink,
            EntryKind::Pipe => ListedKind::Fifo,
            EntryKind::Symlink => ListedKind::Symlink,
        };
        let content = match kind {
            ListedKind::File => sha256(content.whole),
            ListedKind::Symlink => sha256(Digest::sha256(&entry.link)),
            ListedKind::HardLink => link_content(&entry.link),
            ListedKind::Char | ListedKind::Block => device_content(attributes.device),
            ListedKind::Directory | ListedKind::Fifo => [0; 32],
        };
        let mode = u32::try_from(attributes.mode);
        let (owner, group) = (u32::try_from(attributes.owner), u32::try_from(attributes.group));
        let (Ok(mode), Ok(owner), Ok(group)) = (mode, owner, group) else {
            return Err(format!("{path:?} has an unusual mode or owner"));
        };
        let (path, size, extended) = (path_hash(path), entry.size, attributes.extended);
        Ok(Self { path, kind, mode, owner, group, at, is_seen: false, size, content, extended })
    }
}

/// The directories above a path, from below, with the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let above = (!path.is_empty()).then(|| parent(path));
    std::iter::successors(above, |above| (!above.is_empty()).then(|| parent(above)))
}

fn path_hash(path: &str) -> [u8; 32] {
    sha256(Digest::sha256(path.as_bytes()))
}

/// The hash of the path to which a hard link leads.
fn link_content(target: &[u8]) -> [u8; 32] {
    path_hash(&CleanPath::new(target).text)
}

fn device_content(device: [i64; 2]) -> [u8; 32] {
    let mut content = [0; 32];
    for (place, number) in content.chunks_exact_mut(8).zip(device) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    content
}

fn sha256(digest: Digest) -> [u8; 32] {
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}
