//! RPM headers: an index of tags over a data area (rpm, `lib/header.c`; "RPM V4 package format").

use std::collections::HashMap;

use super::{Rpm, RpmPackage, u32_at};
use crate::inventory::checksum::{FileChecksum, PackagedFile};

/// The maximum number of tags (`HEADER_TAGS_MAX`).
const MAX_TAGS: usize = 65_535;
/// The maximum number of texts of a tag. Packages have up to a hundred thousand files.
const MAX_TEXTS: usize = 1_000_000;
/// The maximum length of a path, and of all paths of a package that are kept, in bytes. The findings in an omitted file
/// may be reported twice, but are not missed.
const MAX_PATH: usize = 4096;
const MAX_PATHS: usize = 64 * 1024 * 1024;
/// The maximum length of a single value, in bytes. Licences of firmware have two thousand.
const MAX_VALUE: usize = 65_536;
/// The size of an index entry, in bytes.
const INDEX: usize = 16;

/// Tags with special content: they mark a region that is signed, and are not values.
const REGIONS: std::ops::RangeInclusive<u32> = 61..=63;
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const BUILD_TIME: u32 = 1006;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const FILE_DIGESTS: u32 = 1035;
const FILE_LINK_TARGETS: u32 = 1036;
const SOURCE_RPM: u32 = 1044;
const DIR_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIR_NAMES: u32 = 1118;
const MODULARITY_LABEL: u32 = 5096;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// Parses the header of an installed package.
pub(super) fn package(blob: &[u8]) -> Result<RpmPackage, String> {
    let tags = RpmTags::new(blob)?;
    let name = tags.text(NAME)?.ok_or("a package has no name")?;
    let of = |error: String| format!("the package {name}: {error}");
    let required = |tag| tags.text(tag)?.ok_or_else(|| "no version or no release".to_owned());
    let version = format!("{}-{}", required(VERSION).map_err(of)?, required(RELEASE).map_err(of)?);
    let optional = |tag| tags.text(tag).map(Option::unwrap_or_default).map_err(of);
    let package = Rpm {
        name: &name,
        version: &version,
        epoch: tags.numbers(EPOCH).map_err(of)?.first().copied().unwrap_or(0),
        architecture: &optional(ARCH)?,
        source: &optional(SOURCE_RPM)?,
        module: &optional(MODULARITY_LABEL)?,
        vendor: &optional(VENDOR)?,
        license: &optional(LICENSE)?,
        built: tags.numbers(BUILD_TIME).map_err(of)?.first().map(|seconds| i64::from(*seconds)),
    }
    .package();
    Ok(RpmPackage { package, files: tags.files().map_err(of)? })
}

/// The tags of a header. If several entries have the same tag, the last one counts: rpm adds to the signed region in
/// this way.
struct RpmTags<'a> {
    data: &'a [u8],
    /// Type, offset and count by tag.
    index: HashMap<u32, (u32, usize, usize)>,
}

impl<'a> RpmTags<'a> {
    fn new(blob: &'a [u8]) -> Result<Self, String> {
        let (tags, length) = (u32_at(blob, 0, true)? as usize, u32_at(blob, 4, true)? as usize);
        let wanted = tags.checked_mul(INDEX).and_then(|index| index.checked_add(length)?.checked_add(8));
        if tags == 0 || tags > MAX_TAGS || wanted != Some(blob.len()) {
            return Err("the header of a package has an invalid size".into());
        }
        let (entries, data) = blob[8..].split_at(tags * INDEX);
        let mut index = HashMap::with_capacity(tags);
        for entry in entries.chunks_exact(INDEX) {
            let field = |at| u32_at(entry, at, true);
            let (tag, offset) = (field(0)?, field(8)? as usize);
            if REGIONS.contains(&tag) {
                continue;
            }
            if offset > data.len() {
                return Err("a value is outside of the header".into());
            }
            index.insert(tag, (field(4)?, offset, field(12)? as usize));
        }
        Ok(Self { data, index })
    }

    /// A single string.
    fn text(&self, tag: u32) -> Result<Option<String>, String> {
        match self.index.get(&tag) {
            None => Ok(None),
            Some((STRING | I18N_STRING, offset, _)) => {
                let start = &self.data[*offset..self.data.len().min(offset + MAX_VALUE)];
                let end = start.iter().position(|byte| *byte == 0).ok_or("a text of the header is too long")?;
                Ok(Some(String::from_utf8_lossy(&start[..end]).into_owned()))
            }
            Some((kind, ..)) => Err(format!("tag {tag} has the type {kind}")),
        }
    }

    fn texts(&self, tag: u32) -> Result<Vec<String>, String> {
        match self.index.get(&tag) {
            None => Ok(Vec::new()),
            Some((STRING_ARRAY | STRING, offset, count)) => self.strings_at(*offset, *count),
            Some((kind, ..)) => Err(format!("tag {tag} has the type {kind}")),
        }
    }

    fn numbers(&self, tag: u32) -> Result<Vec<u32>, String> {
        match self.index.get(&tag) {
            None => Ok(Vec::new()),
            Some((INT32, offset, count)) => {
                let end = count.checked_mul(4).and_then(|length| length.checked_add(*offset));
                let bytes =
                    end.and_then(|end| self.data.get(*offset..end)).ok_or("a value is outside of the header")?;
                Ok(bytes.as_chunks().0.iter().map(|four| u32::from_be_bytes(*four)).collect())
            }
            Some((kind, ..)) => Err(format!("tag {tag} has the type {kind}")),
        }
    }

    /// `count` strings, each ended by a NUL.
    fn strings_at(&self, offset: usize, count: usize) -> Result<Vec<String>, String> {
        if count > MAX_TEXTS {
            return Err("a tag has too many texts".into());
        }
        let mut rest = &self.data[offset..];
        let mut texts = Vec::new();
        for _ in 0..count {
            let end = rest.iter().position(|byte| *byte == 0).ok_or("a text of the header has no end")?;
            texts.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            rest = &rest[end + 1..];
        }
        Ok(texts)
    }

    /// The texts of a tag as bytes: none if it is missing or has another type, and fewer than stated if it is damaged.
    fn raw_texts(&self, tag: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let texts = self.index.get(&tag).filter(|(kind, ..)| *kind == STRING_ARRAY);
        let (offset, count) = texts.map_or((self.data.len(), 0), |(_, offset, count)| (*offset, *count));
        let data: &'a [u8] = self.data;
        data[offset..].split(|byte| *byte == 0).take(count)
    }

    /// The package's files, as far as the limits allow. The findings in an omitted file may be reported twice, but are
    /// not missed.
    fn files(&self) -> Result<Vec<PackagedFile>, String> {
        let (directories, names, indexes) =
            (self.texts(DIR_NAMES)?, self.texts(BASE_NAMES)?, self.numbers(DIR_INDEXES)?);
        if names.len() != indexes.len() {
            return Err("the list of files is damaged".into());
        }
        let (mut files, mut left) = (Vec::new(), MAX_PATHS);
        let (mut digests, mut targets) = (self.raw_texts(FILE_DIGESTS), self.raw_texts(FILE_LINK_TARGETS));
        for (name, index) in names.iter().zip(&indexes) {
            let (digest, target) = (digests.next().unwrap_or_default(), targets.next().unwrap_or_default());
            let directory = directories.get(*index as usize).ok_or("the list of files is damaged")?;
            let length = directory.len() + name.len();
            if length > MAX_PATH || length > left {
                continue;
            }
            left -= length;
            let path = format!("{}/{name}", directory.trim_matches('/')).trim_start_matches('/').to_owned();
            files.push(PackagedFile { path, checksum: FileChecksum::from_rpm(digest, target) });
        }
        Ok(files)
    }
}
