//! Branch and leaf pages.
//!
//! A page is a header of 16 bytes (number, flags, count of items, number of overflow pages), one element of 16 bytes
//! for each item, and the keys and values that the elements point to, by their distance from the element.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{DamagedDatabase, damaged};

/// The size of the header, and of each element, in bytes.
const UNIT: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// The flag of a leaf's element whose value is a bucket.
const BUCKET: u32 = 1;

/// A branch or leaf page, with its overflow pages.
#[derive(Clone, Debug)]
pub(in super::super) struct BoltPage {
    bytes: Bytes,
    is_branch: bool,
    len: usize,
}

/// An item of a leaf.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) is_bucket: bool,
}

/// The size of a page with its overflow pages in bytes, from its first page, which must have this number.
pub(super) fn size(first: &[u8], number: u64, page_size: u64) -> Result<u64, DamagedDatabase> {
    let found = u64_at(first, 0)?;
    if found != number {
        return damaged(format!("page {number} is labelled as page {found}"));
    }
    // At most 2^32 pages of 2^16 bytes.
    Ok((u64::from(u32_at(first, 12)?) + 1) * page_size)
}

/// The page at the root of a bucket, from the value of its element. 0 for an inline bucket.
pub(super) fn bucket_root(value: &[u8]) -> Result<u64, DamagedDatabase> {
    u64_at(value, 0)
}

/// The only page of an inline bucket: it follows the bucket's header.
pub(super) fn inline(value: &Bytes) -> Result<BoltPage, DamagedDatabase> {
    let page = BoltPage::new(value.slice(UNIT.min(value.len())..), &|| "an inline bucket".to_owned())?;
    if page.is_branch { damaged("an inline bucket is not a leaf".to_owned()) } else { Ok(page) }
}

impl BoltPage {
    /// Checks the header and that there is room for the elements. `place` names the page in errors.
    pub(super) fn new(bytes: Bytes, place: &dyn Fn() -> String) -> Result<Self, DamagedDatabase> {
        let flags = u16_at(&bytes, 8)?;
        if flags != BRANCH && flags != LEAF {
            return damaged(format!("{} is neither a branch nor a leaf: its flags are {flags:#x}", place()));
        }
        let len = usize::from(u16_at(&bytes, 10)?);
        if (len + 1) * UNIT > bytes.len() {
            return damaged(format!("{} has no room for its {len} items", place()));
        }
        if flags == BRANCH && len == 0 {
            return damaged(format!("{} is a branch without items", place()));
        }
        Ok(Self { bytes, is_branch: flags == BRANCH, len })
    }

    /// Whether its items are pages.
    pub(super) fn is_branch(&self) -> bool {
        self.is_branch
    }

    /// The size in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The number of items.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of the page that an item of a branch leads to. `None` for a leaf.
    pub(super) fn child(&self, index: usize) -> Result<Option<u64>, DamagedDatabase> {
        if !self.is_branch {
            return Ok(None);
        }
        self.check(index)?;
        u64_at(&self.bytes, (index + 1) * UNIT + 8).map(Some)
    }

    /// The index of a key, or that of the first key after it.
    pub(super) fn search(&self, key: &[u8]) -> Result<Result<usize, usize>, DamagedDatabase> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle)?.cmp(key) {
                Ordering::Equal => return Ok(Ok(middle)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low))
    }

    /// The key of an item.
    pub(super) fn key(&self, index: usize) -> Result<&[u8], DamagedDatabase> {
        let (start, end) = self.key_range(index)?;
        Ok(&self.bytes[start..end])
    }

    /// An item of a leaf.
    pub(super) fn item(&self, index: usize) -> Result<Item, DamagedDatabase> {
        let (start, end) = self.key_range(index)?;
        let element = (index + 1) * UNIT;
        let value_end = self.end(end, u32_at(&self.bytes, element + 12)?)?;
        Ok(Item {
            key: self.bytes.slice(start..end),
            value: self.bytes.slice(end..value_end),
            is_bucket: u32_at(&self.bytes, element)? & BUCKET != 0,
        })
    }

    fn key_range(&self, index: usize) -> Result<(usize, usize), DamagedDatabase> {
        self.check(index)?;
        let element = (index + 1) * UNIT;
        let (position, length) = if self.is_branch { (0, 4) } else { (4, 8) };
        let start = self.end(element, u32_at(&self.bytes, element + position)?)?;
        Ok((start, self.end(start, u32_at(&self.bytes, element + length)?)?))
    }

    /// `start + length`, if that is inside of the page.
    fn end(&self, start: usize, length: u32) -> Result<usize, DamagedDatabase> {
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        match end.filter(|end| *end <= self.bytes.len()) {
            Some(end) => Ok(end),
            None => damaged("an item reaches beyond the end of its page".to_owned()),
        }
    }

    fn check(&self, index: usize) -> Result<(), DamagedDatabase> {
        if index < self.len { Ok(()) } else { damaged(format!("a page has no item {index}")) }
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], DamagedDatabase> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or_else(|| DamagedDatabase("a page ends within its header".to_owned()))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, DamagedDatabase> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, DamagedDatabase> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, DamagedDatabase> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}
