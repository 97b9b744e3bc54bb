//! The tar archive of a bundle: written so that an interrupted export can be resumed, and read without trusting its
//! content.
//!
//! Only regular files with the names of an OCI image layout are accepted, each once, with plain ustar headers.
//! Everything else is refused: links, devices, extended headers, other paths.

mod mistakes;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Archive, EntryType, Header};

pub(super) use self::mistakes::refuse_stream;
use self::mistakes::{begins_as_tar, compression};
use crate::oci::{Algorithm, Digest, Hasher};

/// The size of a header, and the unit of sizes in an archive.
const BLOCK: u64 = 512;
/// The maximum number of files of an archive.
const MAX_ENTRIES: usize = 200_000;
/// The files of a layout that are not blobs.
const OTHER_FILES: [&str; 2] = ["oci-layout", "index.json"];
/// What is wrong with a file of another kind.
const NO_ARCHIVE: &str = "it is not a tar archive";
/// The directories of a layout.
const FOLDERS: [&str; 3] = ["blobs", "blobs/sha256", "blobs/sha512"];

/// The place of a file in an archive, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FilePlace {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// An archive whose table of contents was read.
#[derive(Debug)]
pub(super) struct BundleArchive {
    path: PathBuf,
    files: BTreeMap<String, FilePlace>,
}

impl BundleArchive {
    /// Opens an archive and reads the names and sizes of its files.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        refuse_stream(path)?;
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        let metadata = file.metadata().map_err(|error| failed(&error))?;
        if metadata.is_dir() {
            return Err(failed(&"it is a directory, but a bundle is a tar archive"));
        }
        if let Some((format, command)) = compression(&mut file).map_err(|error| failed(&error))? {
            return Err(failed(&format_args!(
                "it is compressed with {format}; decompress it first: {command} {}",
                path.display()
            )));
        }
        let length = metadata.len();
        let files = contents(&file, length).map_err(|error| failed(&error))?;
        if files.is_empty() {
            return Err(failed(&NO_ARCHIVE));
        }
        Ok(Self { path: path.to_owned(), files })
    }

    /// Reads a small file, of at most `limit` bytes.
    pub(super) fn small(&self, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        let place = self.files.get(name).ok_or_else(|| self.wrong(format!("it has no {name}")))?;
        if place.size > limit {
            return Err(self.wrong(format!("{name} has {} bytes; at most {limit} are read", place.size)));
        }
        let mut bytes = Vec::new();
        self.read(*place).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| self.wrong(error))?;
        Ok(bytes)
    }

    /// Reads a blob of at most `limit` bytes, and verifies it.
    pub(super) fn small_blob(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, String> {
        let bytes = self.small(&digest.layout_name(), limit)?;
        match Digest::of(digest.algorithm(), &bytes) == digest {
            true => Ok(bytes),
            false => Err(self.wrong(format!("{} does not match the digest in its name", digest.layout_name()))),
        }
    }

    /// A blob of this size, from its beginning. It is not verified here.
    pub(super) fn blob(&self, digest: Digest, size: u64) -> Result<impl Read + Send + use<>, String> {
        let name = digest.layout_name();
        match self.files.get(&name) {
            Some(place) if place.size == size => self.read(*place).map_err(|error| self.wrong(error)),
            Some(place) => Err(self.wrong(format!("{name} has {} bytes instead of {size}", place.size))),
            None => Err(self.wrong(format!("it has no {name}"))),
        }
    }

    /// Reads a file with a handle of its own, so that several can be read.
    fn read(&self, place: FilePlace) -> io::Result<io::Take<BufReader<File>>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(place.offset))?;
        Ok(BufReader::with_capacity(256 * 1024, file).take(place.size))
    }

    /// A message about this archive.
    pub(super) fn wrong(&self, what: impl std::fmt::Display) -> String {
        format!("{}: {what}", self.path.display())
    }
}

/// Reads all headers of an archive of this length, without the content.
fn contents(file: &File, length: u64) -> Result<BTreeMap<String, FilePlace>, String> {
    let mut archive = Archive::new(file);
    let entries = archive.entries_with_seek().map_err(|error| error.to_string())?;
    let mut files = BTreeMap::new();
    for (number, entry) in entries.raw(true).enumerate() {
        if number == MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} files"));
        }
        // The error has what is there instead of a header, which may be anything.
        let entry = entry.map_err(|_| match number {
            0 if !begins_as_tar(file) => NO_ARCHIVE.to_owned(),
            _ => format!("it is damaged: what follows file {number} is no header of a file"),
        })?;
        let place = FilePlace { offset: entry.raw_file_position(), size: entry.size() };
        let name = layout_name(entry.header())?;
        if place.offset.checked_add(place.size).is_none_or(|end| end > length) {
            return Err(format!("it is truncated: {} is incomplete", name.unwrap_or_default()));
        }
        if let Some(name) = name
            && files.insert(name.clone(), place).is_some()
        {
            return Err(format!("it has two files {name}"));
        }
    }
    Ok(files)
}

/// The name of a file of a layout; `None` for one of its directories.
fn layout_name(header: &Header) -> Result<Option<String>, String> {
    let bytes = header.path_bytes();
    let name = std::str::from_utf8(&bytes).map_err(|_| "it has a file whose name is not UTF-8".to_owned())?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let foreign = || format!("it has {name:?}, which is not a file of an OCI image layout");
    match header.entry_type() {
        EntryType::Directory => {
            let folder = name.trim_end_matches('/');
            (folder.is_empty() || FOLDERS.contains(&folder)).then_some(None).ok_or_else(foreign)
        }
        EntryType::Regular => {
            let is_blob = || {
                let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
                format!("{algorithm}:{hex}").parse::<Digest>().ok()
            };
            (OTHER_FILES.contains(&name) || is_blob().is_some()).then(|| Some(name.to_owned())).ok_or_else(foreign)
        }
        other => Err(format!("it has {name:?}, which is not a regular file ({other:?})")),
    }
}

/// An archive that is being written, under the name FILE.partial.
pub(super) struct BundleWriter {
    file: File,
    path: PathBuf,
    target: PathBuf,
    files: BTreeMap<String, FilePlace>,
}

impl BundleWriter {
    /// Opens the partial archive, which may have files already. They are verified, and what follows the last whole one
    /// is cut off.
    ///
    /// # Errors
    /// The file cannot be written, or is a link or something else than a partial bundle; or the archive exists.
    pub(super) fn open(target: &Path) -> Result<Self, String> {
        if target.exists() {
            return Err(format!("{} exists already", target.display()));
        }
        let mut path = target.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        // In a shared directory, another user could have put a link or a pipe there.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Its images may be private.
            .mode(0o600)
            .custom_flags(i32::try_from(flags).unwrap_or_default());
        let mut file = options.open(&path).map_err(failed)?;
        // Until it is closed. Not every file system has locks.
        let is_locked = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        // Another export may have finished since, and given this very file its name.
        if is_locked || target.exists() {
            return Err(format!("{}: another export writes this file, or has just written it", path.display()));
        }
        let (files, end) = whole_files(&file).map_err(failed)?;
        if !is_partial(&file, &files).map_err(failed)? {
            return Err(format!("{}: this is not a partial bundle; remove it, or choose another name", path.display()));
        }
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        Ok(Self { file, path, target: target.to_owned(), files })
    }

    /// Whether nothing was written yet.
    pub(super) fn is_new(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn has(&self, digest: Digest) -> bool {
        self.files.contains_key(&digest.layout_name())
    }

    /// The name of the partial archive.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file.
    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.append(name, bytes.len() as u64, &mut |write| write(bytes).map_err(|error| error.to_string()))
    }

    /// Writes a blob that `fill` provides in pieces. A blob with another digest or size is not kept.
    pub(super) fn put_blob(&mut self, digest: Digest, size: u64, fill: FillPieces<'_>) -> Result<(), String> {
        if digest.algorithm() != Algorithm::Sha256 {
            return Err(format!("{digest}: only content with sha256 digests can be exported"));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut checked = |write: TakePiece<'_>| {
            fill(&mut |piece| {
                hasher.update(piece);
                write(piece)
            })
        };
        let start = self.append_unnamed(&digest.layout_name(), size, &mut checked)?;
        if hasher.finish() != digest {
            self.cut(start);
            return Err(format!("the content of {digest} does not match its digest"));
        }
        self.files.insert(digest.layout_name(), FilePlace { offset: start + BLOCK, size });
        Ok(())
    }

    fn append(&mut self, name: &str, size: u64, fill: FillPieces<'_>) -> Result<(), String> {
        let start = self.append_unnamed(name, size, fill)?;
        self.files.insert(name.to_owned(), FilePlace { offset: start + BLOCK, size });
        Ok(())
    }

    /// Writes a file, and returns where its header begins.
    fn append_unnamed(&mut self, name: &str, size: u64, fill: FillPieces<'_>) -> Result<u64, String> {
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        let start = self.file.stream_position().map_err(failed)?;
        let header = header(name, size).map_err(failed)?;
        self.file.write_all(header.as_bytes()).map_err(failed)?;
        let (mut written, file) = (0, &mut self.file);
        let filled = fill(&mut |piece| {
            written += piece.len() as u64;
            if written > size {
                Err(io::Error::other("more bytes arrive than announced"))
            } else {
                file.write_all(piece)
            }
        });
        let complete = filled.and_then(|()| match written == size {
            true => Ok(()),
            false => Err(format!("{name}: {written} of {size} bytes arrived")),
        });
        let rest = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or_default();
        let padded = complete.and_then(|()| self.file.write_all(&vec![0; rest]).map_err(|error| error.to_string()));
        match padded {
            Ok(()) => Ok(start),
            Err(error) => {
                self.cut(start);
                Err(error)
            }
        }
    }

    /// Removes what was written since. If that fails, the next export does it.
    fn cut(&mut self, start: u64) {
        let _ = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
    }

    /// The files so far, for reading.
    pub(super) fn so_far(&self) -> BundleArchive {
        BundleArchive { path: self.path.clone(), files: self.files.clone() }
    }

    /// Removes everything that was written.
    pub(super) fn restart(&mut self) {
        self.files.clear();
        self.cut(0);
    }

    /// Ends the archive and gives it its name.
    pub(super) fn finish(mut self) -> Result<u64, String> {
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        self.file.write_all(&[0; 2 * BLOCK as usize]).and_then(|()| self.file.sync_all()).map_err(failed)?;
        let size = self.file.stream_position().map_err(failed)?;
        std::fs::rename(&self.path, &self.target).map_err(failed)?;
        Ok(size)
    }
}

/// Takes a piece of a file.
type TakePiece<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Provides the pieces of a file to the function that it is given.
type FillPieces<'a> = &'a mut dyn FnMut(TakePiece<'_>) -> Result<(), String>;

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_path(name)?;
    header.set_cksum();
    Ok(header)
}

/// The whole files at the beginning of a partial archive, and where they end. Blobs are verified.
fn whole_files(mut file: &File) -> io::Result<(BTreeMap<String, FilePlace>, u64)> {
    let length = file.metadata()?.len();
    let (mut files, mut end) = (BTreeMap::new(), 0);
    loop {
        let mut block = [0; BLOCK as usize];
        file.seek(SeekFrom::Start(end))?;
        if file.read_exact(&mut block).is_err() {
            break;
        }
        let header = Header::from_byte_slice(&block);
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        let (Ok(size), Ok(stated), Ok(Some(name))) = (header.entry_size(), header.cksum(), layout_name(header)) else {
            break;
        };
        let place = FilePlace { offset: end + BLOCK, size };
        let next = size.checked_next_multiple_of(BLOCK).and_then(|padded| padded.checked_add(place.offset));
        let Some(next) = next.filter(|next| *next <= length && sum == stated) else { break };
        if !is_intact(file, &name, place)? {
            break;
        }
        files.insert(name, place);
        end = next;
    }
    Ok((files, end))
}

/// Whether a file with these whole files was begun by an export: it is empty, or begins with the first file of a
/// bundle, of which the header may be all that was written.
fn is_partial(mut file: &File, files: &BTreeMap<String, FilePlace>) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let (name, mut start) = (format!("{}\0", OTHER_FILES[0]), Vec::new());
    file.seek(SeekFrom::Start(0))?;
    file.take(name.len() as u64).read_to_end(&mut start)?;
    Ok(files.contains_key(OTHER_FILES[0]) || name.as_bytes().starts_with(&start))
}

/// Whether a blob has the digest of its name. Other files are verified by those who read them.
fn is_intact(mut file: &File, name: &str, place: FilePlace) -> io::Result<bool> {
    let Some((algorithm, hex)) = name.strip_prefix("blobs/").and_then(|rest| rest.split_once('/')) else {
        return Ok(true);
    };
    let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>() else { return Ok(false) };
    file.seek(SeekFrom::Start(place.offset))?;
    let (mut hasher, mut rest, mut piece) =
        (Hasher::new(digest.algorithm()), file.take(place.size), vec![0; 256 * 1024]);
    loop {
        match rest.read(&mut piece)? {
            0 => return Ok(hasher.finish() == digest),
            read => hasher.update(&piece[..read]),
        }
    }
}

#[cfg(test)]
mod tests;
