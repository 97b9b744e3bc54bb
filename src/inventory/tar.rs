//! Reads the entries of a tar exactly as Go's `archive/tar` does, because containerd, docker, podman and CRI-O unpack
//! layers with it. What Go rejects is an error here. What other readers (GNU tar, libarchive, Python) read differently
//! carries a doubt, and the caller must not trust that it has seen everything.

use std::io::{self, BufRead, Read};

use super::tar_content::{ContentHash, ContentHashes};
use super::tar_header::{BLOCK, TarFormat, TarHeader, until_nul};
use super::tar_pax::PaxRecords;
use crate::oci::{Algorithm, Hasher};

/// The maximum size of an extended header, in bytes (`maxSpecialFileSize` in Go).
const MAX_SPECIAL: u64 = 1024 * 1024;

/// A tar that is read from its start to its end.
pub(super) struct Archive<R> {
    source: R,
    /// How much of the current entry's content is unread.
    left: u64,
    /// How much padding follows the content.
    padding: u64,
    /// Whether the content of files is hashed.
    is_hashing: bool,
    /// The hash of the current entry's content, as far as it was read.
    hash: Option<ContentHash>,
}

/// An entry of a tar: a file, or a meta entry that runtimes ignore.
pub(super) struct ArchiveEntry {
    /// The path as written.
    pub(super) path: Vec<u8>,
    pub(super) kind: EntryKind,
    /// The target of a link as written.
    pub(super) link: Vec<u8>,
    /// The size of the content that [`Archive`] yields, in bytes.
    pub(super) size: u64,
    /// The permissions, as chmod(2) takes them.
    pub(super) mode: u32,
    pub(super) attributes: TarAttributes,
    /// Whether the content is only the data of a sparse file, without its holes.
    pub(super) is_sparse: bool,
    /// Why some reader may see another entry.
    pub(super) doubt: Option<&'static str>,
}

/// What an entry states that does not decide what is installed, but that tables of contents repeat.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TarAttributes {
    /// Whether the device is a block device.
    pub(super) is_block: bool,
    /// The mode as written.
    pub(super) mode: u64,
    pub(super) owner: i64,
    pub(super) group: i64,
    /// The major and the minor number of a device.
    pub(super) device: [i64; 2],
    /// The hash of the extended attributes; `None` if there are none. See [`hash_attributes`].
    pub(super) extended: Option<[u8; 32]>,
}

/// A hash of extended attributes, in the order of their names.
pub(super) fn hash_attributes<'a>(attributes: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<[u8; 32]> {
    let mut attributes = attributes.peekable();
    attributes.peek()?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for text in attributes.flat_map(|(name, value)| [name, value]) {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.finish().as_bytes().first_chunk().copied()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A character or block device.
    Device,
    Pipe,
    /// A global PAX header, which Go does not apply.
    Global,
}

/// What precedes an entry and changes it.
#[derive(Default)]
struct Extensions {
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    doubt: Option<&'static str>,
}

impl ArchiveEntry {
    /// Whether anybody may execute the file.
    pub(super) fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

impl<R: BufRead> Archive<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0, is_hashing: false, hash: None }
    }

    /// The same, with hashes of the files' contents: see [`Archive::end_entry`].
    pub(super) fn hashing(self, is_hashing: bool) -> Self {
        Self { is_hashing, ..self }
    }

    /// Reads what is left of the current entry. Returns the hashes of its content.
    pub(super) fn end_entry(&mut self) -> io::Result<ContentHashes> {
        self.skip_content()?;
        Ok(self.hash.take().map(ContentHash::finish).unwrap_or_default())
    }

    pub(super) fn into_inner(self) -> R {
        self.source
    }

    /// The next entry; `None` at the end of the archive. The unread rest of the current entry is skipped.
    pub(super) fn next(&mut self) -> io::Result<Option<ArchiveEntry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_content()?;
            self.hash = None;
            let Some(block) = self.next_block()? else { return Ok(None) };
            let header = TarHeader::parse(&block).ok_or_else(|| damaged("a header of the archive is damaged"))?;
            self.begin_content(if header.has_no_content() { 0 } else { header.size })?;
            match header.kind {
                b'x' => {
                    let records = self.pax_records()?;
                    extensions.set(|known| known.pax.replace(records).is_some());
                }
                b'g' => {
                    let records = self.pax_records()?;
                    return Ok(Some(extensions.global(&header, &records)));
                }
                b'L' => {
                    let name = self.special()?;
                    extensions.set(|known| known.long_name.replace(until_nul(&name).to_vec()).is_some());
                }
                b'K' => {
                    let name = self.special()?;
                    extensions.set(|known| known.long_link.replace(until_nul(&name).to_vec()).is_some());
                }
                _ => {
                    let entry = extensions.apply(header)?;
                    self.begin_content(entry.size)?;
                    self.hash = self.is_hashing.then(|| ContentHash::new(entry.size));
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads what follows the end of the archive. Returns whether it contains headers: no reader of layers sees them,
    /// but GNU tar does with `--ignore-zeros`.
    pub(super) fn has_more(&mut self) -> io::Result<bool> {
        let mut found = false;
        let mut block = [0; BLOCK];
        while fill(&mut self.source, &mut block)? == BLOCK {
            found |= block != [0; BLOCK] && TarFormat::of(&block).is_some();
        }
        Ok(found)
    }

    fn begin_content(&mut self, size: u64) -> io::Result<()> {
        if i64::try_from(size).is_err() {
            return Err(damaged("a size in the archive is negative"));
        }
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn skip_content(&mut self) -> io::Result<()> {
        let hash = &mut self.hash;
        if skip(&mut self.source, self.left, |bytes| hash.iter_mut().for_each(|hash| hash.update(bytes)))? > 0 {
            return Err(ends_early("the archive ends within a file"));
        }
        // A missing padding is not an error: the next header is missing, too.
        skip(&mut self.source, self.padding, |_| {})?;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The next block that is not the end of the archive, which is the end of the data, or two zero blocks, or one at
    /// the end of the data.
    fn next_block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        match fill(&mut self.source, &mut block)? {
            0 => return Ok(None),
            BLOCK if block != [0; BLOCK] => return Ok(Some(block)),
            BLOCK => {}
            _ => return Err(ends_early("the archive ends within a header")),
        }
        match fill(&mut self.source, &mut block)? {
            0 => Ok(None),
            BLOCK if block == [0; BLOCK] => Ok(None),
            BLOCK => Err(damaged("the archive has a lone zero block")),
            _ => Err(ends_early("the archive ends within a header")),
        }
    }

    /// The content of an extended header.
    fn special(&mut self) -> io::Result<Vec<u8>> {
        if self.left > MAX_SPECIAL {
            return Err(damaged("an extended header is too long"));
        }
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn pax_records(&mut self) -> io::Result<PaxRecords> {
        let content = self.special()?;
        PaxRecords::parse(&content).ok_or_else(|| damaged("an extended header of the archive is damaged"))
    }
}

/// Reads the content of the current entry.
impl<R: BufRead> Read for Archive<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || out.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let read = self.source.read(&mut out[..most])?;
        if read == 0 {
            return Err(ends_early("the archive ends within a file"));
        }
        self.left -= read as u64;
        self.hash.iter_mut().for_each(|hash| hash.update(&out[..read]));
        Ok(read)
    }
}

impl Extensions {
    /// Notes that an extension was given. One that is given twice counts once to Go, which takes the last.
    fn set(&mut self, note: impl FnOnce(&mut Self) -> bool) {
        if note(self) {
            self.doubt = Some("an entry has several extended headers of the same kind");
        }
    }

    /// Go returns a global header as an entry, which ends what precedes it. Other readers apply it to all entries.
    fn global(self, header: &TarHeader, records: &PaxRecords) -> ArchiveEntry {
        let is_pending = self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some();
        let doubt = match (is_pending, records.changes_files()) {
            (true, _) => Some("a global header separates an extended header from its file"),
            (_, true) => Some("a global header changes names or sizes"),
            _ => self.doubt,
        };
        let kind = EntryKind::Global;
        let path = header.path.clone();
        let (link, attributes) = (Vec::new(), TarAttributes::default());
        ArchiveEntry { path, kind, link, size: 0, mode: 0, attributes, is_sparse: false, doubt }
    }

    /// The entry that the header describes, with the extensions applied in Go's order.
    fn apply(self, header: TarHeader) -> io::Result<ArchiveEntry> {
        let Self { pax, long_name, long_link, mut doubt } = self;
        let TarHeader { kind, mut path, mut link, mut size, mode, owner, group, device } = header;
        let pax = pax.unwrap_or_default();
        let changes = pax.changes().ok_or_else(|| damaged("an extended header has an invalid number"))?;
        if changes.path.is_some() && long_name.is_some() || changes.link.is_some() && long_link.is_some() {
            doubt = Some("an entry has a long name in two forms");
        }
        if pax.changes_overlay() {
            doubt = Some("an extended attribute changes what the overlay file system shows");
        }
        path = changes.path.map_or(path, <[u8]>::to_vec);
        link = changes.link.map_or(link, <[u8]>::to_vec);
        size = changes.size.unwrap_or(size);
        let (owner, group) = (changes.owner.unwrap_or(owner), changes.group.unwrap_or(group));
        let (is_block, extended) = (kind == b'4', hash_attributes(pax.attributes()));
        let attributes = TarAttributes { is_block, mode, owner, group, device, extended };
        path = long_name.filter(|name| !name.is_empty()).unwrap_or(path);
        link = long_link.filter(|name| !name.is_empty()).unwrap_or(link);
        let kind = match kind {
            0 if path.ends_with(b"/") => EntryKind::Directory,
            0 => EntryKind::File,
            b'0' => {
                if path.ends_with(b"/") {
                    doubt = Some("a file is named like a directory");
                }
                EntryKind::File
            }
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' | b'4' => EntryKind::Device,
            b'6' => EntryKind::Pipe,
            b'5' => EntryKind::Directory,
            b'S' => return Err(damaged("a sparse file in GNU tar's old format, which runtimes do not unpack")),
            _ => return Err(damaged("the archive contains a kind of file that runtimes do not unpack")),
        };
        let sparse_name = pax.sparse_name();
        path = sparse_name.map_or(path, <[u8]>::to_vec);
        let size = if kind == EntryKind::File { size } else { 0 };
        let mode = u32::try_from(mode & 0o7777).unwrap_or_default();
        Ok(ArchiveEntry { path, kind, link, size, mode, attributes, is_sparse: pax.is_sparse(), doubt })
    }
}

/// Reads until `out` is full or the data ends, and returns how much was read.
fn fill(source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match source.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Skips bytes, which `see` gets, and returns how many were missing.
fn skip(source: &mut impl BufRead, mut bytes: u64, mut see: impl FnMut(&[u8])) -> io::Result<u64> {
    while bytes > 0 {
        let available = match source.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            break;
        }
        let step = usize::try_from(bytes).unwrap_or(usize::MAX).min(available.len());
        see(&available[..step]);
        source.consume(step);
        bytes -= step as u64;
    }
    Ok(bytes)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn ends_early(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

#[cfg(test)]
mod tests;
