//! Reads `Packages.db` in rpm's own format, ndb (rpm, `lib/backend/ndb/rpmpkg.c`): slots that point to blobs. All
//! numbers are little-endian.

use super::{RpmFile, u32_at};

/// The size of a page of slots, in bytes.
const PAGE: usize = 4096;
/// The size of a slot, of a blob's header, and of the blocks that slots count in, in bytes.
const SLOT: usize = 16;
/// The number of slots that the file header takes.
const HEADER_SLOTS: usize = 2;
/// The maximum number of pages of slots: half a million packages.
const MAX_PAGES: usize = 2048;

const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";

/// Passes the header of each package to `each`.
pub(super) fn blobs(file: &mut RpmFile<'_>, each: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let header = file.read(0, 16)?;
    let (version, pages) = (u32_at(&header, 4, false)?, u32_at(&header, 12, false)? as usize);
    if version != 0 || pages == 0 || pages > MAX_PAGES {
        return Err(format!("the database has version {version} and {pages} pages of slots"));
    }
    let slots = file.read(0, pages * PAGE)?;
    // Packages do not overlap, so together they are not larger than the file.
    let mut left = file.size;
    for slot in slots.chunks_exact(SLOT).skip(HEADER_SLOTS) {
        if !slot.starts_with(SLOT_MAGIC) {
            return Err("a slot is damaged".into());
        }
        let (package, block) = (u32_at(slot, 4, false)?, u32_at(slot, 8, false)?);
        if package == 0 {
            continue;
        }
        let at = u64::from(block) * SLOT as u64;
        let header = file.read(at, SLOT)?;
        if !header.starts_with(BLOB_MAGIC) || u32_at(&header, 4, false)? != package {
            return Err(format!("package {package} is damaged"));
        }
        let length = u32_at(&header, 12, false)?;
        left = left.checked_sub(u64::from(length)).ok_or("packages overlap")?;
        let blob = file.read(at + SLOT as u64, usize::try_from(length).map_err(|error| error.to_string())?)?;
        each(&blob)?;
    }
    Ok(())
}
