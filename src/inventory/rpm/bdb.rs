//! Reads `Packages` in the hash format of Berkeley DB (libdb, `src/dbinc/db_page.h`), as rpm up to 4.15 wrote it. All
//! pages are scanned: buckets are not needed.

use super::{PagesSeen, RpmFile, u16_at, u32_at};

/// The magic number of hash databases.
const MAGIC: u32 = 0x0006_1561;
/// The size of a page's header, in bytes.
const HEADER: usize = 26;

/// Page types: a hash page of old and new databases, a page of a large value, the meta page.
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
const META: u8 = 8;

/// Item types: a value in the page, and one in overflow pages.
const IN_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;

/// The record with key 0 is not a package but the last used number.
const COUNTER: usize = 4;

/// Passes the header of each package to `each`.
pub(super) fn blobs(file: &mut RpmFile<'_>, each: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut database = BerkeleyDb::open(file)?;
    for number in 1..=database.last_page {
        let page = database.page(number)?;
        if !matches!(page[25], HASH_UNSORTED | HASH) {
            continue;
        }
        let big = database.big;
        let entries = usize::from(u16_at(&page, 20, big)?);
        if entries % 2 != 0 {
            return Err(format!("page {number} has a key without a value"));
        }
        for value in (1..entries).step_by(2) {
            let offset = |entry: usize| u16_at(&page, HEADER + 2 * entry, big).map(usize::from);
            // Items are laid out from the end of the page, in the order of the entries.
            // They do not overlap, so together they are not larger than the page.
            let end = if value == 1 { page.len() } else { offset(value - 2)? };
            let item = page.get(offset(value)?..offset(value - 1)?).filter(|item| !item.is_empty());
            let item = item.filter(|_| offset(value - 1).is_ok_and(|key| key <= end));
            let item = item.ok_or_else(|| format!("an item of page {number} extends beyond its page"))?;
            match item[0] {
                IN_PAGE if item.len() - 1 <= COUNTER => {}
                IN_PAGE => each(&item[1..])?,
                OFF_PAGE => each(&database.value(item)?)?,
                kind => return Err(format!("an item of page {number} has the type {kind}")),
            }
        }
    }
    Ok(())
}

struct BerkeleyDb<'a, 'b> {
    file: &'a mut RpmFile<'b>,
    page_size: usize,
    last_page: u32,
    /// Whether numbers are big-endian.
    big: bool,
    seen: PagesSeen,
}

impl<'a, 'b> BerkeleyDb<'a, 'b> {
    fn open(file: &'a mut RpmFile<'b>) -> Result<Self, String> {
        let meta = file.read(0, 512)?;
        let big = match u32_at(&meta, 12, false)? {
            MAGIC => false,
            magic if magic.swap_bytes() == MAGIC => true,
            _ => return Err("the database has an unknown format".into()),
        };
        let page_size = u32_at(&meta, 20, big)? as usize;
        if !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
            return Err(format!("the database has the page size {page_size}"));
        }
        if meta[24] != 0 || meta[25] != META {
            return Err("the database is encrypted or damaged".into());
        }
        let last_page = u32_at(&meta, 32, big)?;
        Ok(Self { file, page_size, last_page, big, seen: PagesSeen::default() })
    }

    fn page(&mut self, number: u32) -> Result<Vec<u8>, String> {
        self.file.read(u64::from(number) * self.page_size as u64, self.page_size)
    }

    /// The value in overflow pages that an item points to: type, three unused bytes, page, length.
    fn value(&mut self, item: &[u8]) -> Result<Vec<u8>, String> {
        let (mut next, length) = (u32_at(item, 4, self.big)?, u32_at(item, 8, self.big)? as usize);
        let mut value = Vec::new();
        while next != 0 {
            self.seen.add(next)?;
            let page = self.page(next)?;
            if page[25] != OVERFLOW {
                return Err(format!("page {next} is not part of a value"));
            }
            // On overflow pages this field counts the bytes of the value.
            let used = usize::from(u16_at(&page, 22, self.big)?);
            let part = page.get(HEADER..HEADER + used).ok_or_else(|| format!("page {next} is damaged"))?;
            value.extend_from_slice(part);
            next = u32_at(&page, 16, self.big)?;
        }
        if value.len() == length { Ok(value) } else { Err("a value is shorter or longer than stated".into()) }
    }
}
