//! Meta pages: where the root is, and how much of the file is in use.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{DamagedDatabase, damaged};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The size of a page's header, in bytes.
const HEADER: usize = 16;
/// The size of a meta page's content, in bytes; its last eight are the checksum.
const CONTENT: usize = 64;
/// Page sizes that operating systems use, in bytes.
const PAGE_SIZES: [u64; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// The content of a meta page that concerns readers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    /// In bytes.
    pub(super) page_size: u64,
    /// The page at the root of the root bucket.
    pub(super) root: u64,
    /// The number of pages in use.
    pub(super) pages: u64,
    /// The transaction that wrote it.
    transaction: u64,
}

impl Meta {
    /// The valid meta page with the higher transaction number.
    pub(super) fn read(file: &File) -> Result<Self, DamagedDatabase> {
        let first = Self::at(file, 0);
        // The second meta page begins where the first one says that a page ends. If the first one is damaged, the page
        // size is unknown, so every size is tried.
        let sizes = first.as_ref().map_or(PAGE_SIZES.to_vec(), |meta| vec![meta.page_size]);
        let second = sizes.into_iter().find_map(|size| Self::at(file, size).ok().filter(|meta| meta.page_size == size));
        match (first, second) {
            (Ok(first), Some(second)) if second.transaction > first.transaction => Ok(second),
            (Ok(first), _) => Ok(first),
            (Err(_), Some(second)) => Ok(second),
            (Err(error), None) => Err(error),
        }
    }

    fn at(file: &File, offset: u64) -> Result<Self, DamagedDatabase> {
        let mut bytes = [0; HEADER + CONTENT];
        let read = file.read_exact_at(&mut bytes, offset);
        read.map_err(|error| DamagedDatabase(format!("it is not a bbolt file: {error}")))?;
        Self::parse(&bytes[HEADER..])
    }

    fn parse(content: &[u8]) -> Result<Self, DamagedDatabase> {
        let u32_at = |at: usize| content[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        let u64_at = |at: usize| u64::from(u32_at(at + 4)) << 32 | u64::from(u32_at(at));
        let (magic, version, page_size) = (u32_at(0), u32_at(4), u64::from(u32_at(8)));
        if magic == MAGIC.swap_bytes() {
            return damaged("it was written on a big-endian machine".to_owned());
        }
        if magic != MAGIC {
            return damaged("it is not a bbolt file: the magic number is missing".to_owned());
        }
        if version != VERSION {
            return damaged(format!("its bbolt format is version {version}, and only version {VERSION} is supported"));
        }
        if u64_at(CONTENT - 8) != fnv1a(&content[..CONTENT - 8]) {
            return damaged("the checksum of a meta page is wrong".to_owned());
        }
        if !PAGE_SIZES.contains(&page_size) {
            return damaged(format!("its page size is {page_size} bytes"));
        }
        Ok(Self { page_size, root: u64_at(16), pages: u64_at(40), transaction: u64_at(48) })
    }
}

/// The checksum of meta pages: FNV-1a with 64 bits.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}
