//! Programs of PHP in one file: `*.phar` (php.net/phar, "Phar file format"). They contain the list of packages that
//! Composer has installed.

use std::io::Read as _;

use flate2::read::DeflateDecoder;
use memchr::memmem;

use crate::inventory::ReadSeek;

use super::window::{read_at, read_up_to};
use super::{LanguagePackages, MAX_JSON_BYTES, composer, text};

/// The end of the program, before the archive. PHP searches for exactly this string.
const HALT: &[u8] = b"__HALT_COMPILER();";
/// The longest program before an archive, in bytes. PHPUnit's has 100 KB.
const MAX_STUB: u64 = 4 << 20;
/// The longest list of files, in bytes.
const MAX_MANIFEST: u64 = 64 << 20;
/// How a file is compressed.
const COMPRESSION: u32 = 0xf000;
const DEFLATE: u32 = 0x1000;

/// Whether the file is a program in one file, by its extension or because its first bytes contain the end of the
/// program.
pub(super) fn is_phar(path: &str, first_bytes: &[u8]) -> bool {
    let has_extension = path.rsplit_once('.').is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("phar"));
    has_extension || (first_bytes.starts_with(b"<?php") && find(first_bytes).is_some())
}

/// Whether a script is one of PHP, in which an archive may follow.
pub(super) fn is_script(first_bytes: &[u8]) -> bool {
    let line = first_bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.starts_with(b"#!") && line.windows(3).any(|part| part.eq_ignore_ascii_case(b"php"))
}

/// Reads the packages in the list of Composer. Libraries without a list are a problem, and so is a file that has the
/// extension but is not such an archive. An archive without libraries, such as PHP's own tool `phar.phar`, has only its
/// own code.
pub(super) fn read(path: &str, content: &mut dyn ReadSeek, found: &mut LanguagePackages) {
    let start = read_up_to(content, 0, MAX_STUB).unwrap_or_default();
    let Some(at) = find(&start) else {
        if path.to_ascii_lowercase().ends_with(".phar") {
            found.problem("a PHP program in an unsupported format".to_owned());
        }
        return;
    };
    match files(&start[at..], at as u64, content) {
        Some(files) => read_lists(path, files, content, found),
        None => found.problem("the file list of the PHP program is damaged".to_owned()),
    }
}

fn read_lists(path: &str, files: PharFiles, content: &mut dyn ReadSeek, found: &mut LanguagePackages) {
    if files.lists.is_empty() && files.has_libraries {
        found.problem("a PHP program that does not state its packages".to_owned());
    }
    for list in files.lists {
        match list.read(content) {
            Some(bytes) => composer::read(&format!("{path}/{}", list.name), &text::decode(&bytes), found),
            None => found.problem(format!("{} cannot be read", list.name)),
        }
    }
}

/// Where the program ends.
fn find(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, HALT).map(|at| at + HALT.len())
}

/// What an archive has.
#[derive(Default)]
struct PharFiles {
    /// The lists of Composer.
    lists: Vec<PharFile>,
    /// Whether there are files in the directory of libraries.
    has_libraries: bool,
}

/// A file in the archive.
struct PharFile {
    name: String,
    start: u64,
    compressed: u64,
    size: u64,
    flags: u32,
}

impl PharFile {
    fn read(&self, content: &mut dyn ReadSeek) -> Option<Vec<u8>> {
        if self.size > MAX_JSON_BYTES || self.compressed > MAX_JSON_BYTES {
            return None;
        }
        let bytes = read_at(content, self.start, self.compressed)?;
        let bytes = match self.flags & COMPRESSION {
            0 => bytes,
            DEFLATE => {
                let mut inflated = Vec::new();
                DeflateDecoder::new(&*bytes).take(self.size + 1).read_to_end(&mut inflated).ok()?;
                inflated
            }
            _ => return None,
        };
        (bytes.len() as u64 == self.size).then_some(bytes)
    }
}

/// The files of an archive, whose program ends at `at`. `rest` is what was read behind it.
fn files(rest: &[u8], at: u64, content: &mut dyn ReadSeek) -> Option<PharFiles> {
    let mut start = at;
    if let Some([b' ' | b'\n', b'?', b'>']) = rest.get(..3) {
        start += match rest.get(3..) {
            Some([b'\r', b'\n', ..]) => 5,
            Some([b'\n', ..]) => 4,
            _ => 3,
        };
    }
    let length = u64::from(u32::from_le_bytes(read_at(content, start, 4)?.try_into().ok()?));
    let manifest = read_at(content, start + 4, Some(length).filter(|length| *length <= MAX_MANIFEST)?)?;
    let mut fields = PharFields(&manifest);
    let count = fields.number()?;
    // The version of the format, and flags.
    fields.bytes(6)?;
    // The alias, and what the author adds.
    fields.text()?;
    fields.text()?;
    let (mut files, mut next) = (PharFiles::default(), start + 4 + length);
    for _ in 0..count {
        let name = String::from_utf8_lossy(fields.text()?).into_owned();
        let size = fields.number()?.into();
        fields.number()?;
        let compressed = u64::from(fields.number()?);
        fields.number()?;
        let flags = fields.number()?;
        fields.text()?;
        files.has_libraries |= name.split('/').any(|folder| folder == "vendor");
        if name.ends_with("composer/installed.json") && composer::is_list(&name) {
            files.lists.push(PharFile { name, start: next, compressed, size, flags });
        }
        next = next.checked_add(compressed)?;
    }
    Some(files)
}

/// The rest of a list of files.
struct PharFields<'a>(&'a [u8]);

impl<'a> PharFields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// A text after its length.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).ok()?)
    }
}
