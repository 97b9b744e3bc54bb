//! Reads SQLite databases of untrusted content, without SQLite (sqlite.org, "Database File Format"): the rows of
//! tables, a row by its number, and the entries of indexes. A journal is not applied.
//!
//! Every offset and length is checked before it is used, and the depth of trees and the size of rows are limited.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashSet;

/// The maximum depth of a tree. SQLite itself allows 20.
const MAX_DEPTH: usize = 20;
/// The maximum size of a row, in bytes (`HEADER_DATA_MAX` of rpm is 256 MiB; kernels have about 10 MiB).
const MAX_ROW: u64 = 64 * 1024 * 1024;
/// The size of the file header, before the first page's own.
const FILE_HEADER: usize = 100;
/// The types of pages.
const INDEX_BRANCH: u8 = 0x02;
const TABLE_BRANCH: u8 = 0x05;
const INDEX_LEAF: u8 = 0x0a;
const TABLE_LEAF: u8 = 0x0d;

/// A value of a row. Floating-point numbers are not needed.
#[derive(Debug, Eq, PartialEq)]
pub enum SqliteValue<'a> {
    /// A number.
    Integer(i64),
    /// A text in UTF-8, unless the database is damaged.
    Text(&'a [u8]),
    /// Bytes.
    Blob(&'a [u8]),
    /// `NULL`, or a floating-point number.
    Other,
}

/// Receives a page, the pages that are used already, and the offset of a cell in the page.
type EachCell<'a> = &'a mut dyn FnMut(&[u8], &RefCell<HashSet<u32>>, usize) -> Result<(), String>;
/// Receives the values of a row.
type EachRow<'a> = &'a mut dyn FnMut(&[SqliteValue<'_>]) -> Result<(), String>;

/// A database. `R` reads a number of bytes at an offset, and fails if they extend beyond the file.
pub struct SqliteFile<R> {
    read: R,
    size: u64,
    page_size: usize,
    /// The page size without the reserved bytes at the end of each page.
    usable: usize,
}

impl<R: Fn(u64, usize) -> Result<Vec<u8>, String>> SqliteFile<R> {
    /// Reads the header of a file of `size` bytes.
    ///
    /// # Errors
    /// The file cannot be read or is not a database.
    pub fn open(size: u64, read: R) -> Result<Self, String> {
        let header = read(0, FILE_HEADER)?;
        if !header.starts_with(b"SQLite format 3\0") {
            return Err("the file is not a database of SQLite".into());
        }
        let page_size = match u16_at(&header, 16)? {
            1 => 65_536,
            size if size.is_power_of_two() && size >= 512 => usize::from(size),
            size => return Err(format!("the database has the page size {size}")),
        };
        let usable = page_size - usize::from(header[20]);
        if usable < 480 {
            return Err("the database has pages that are too small".into());
        }
        // Read formats 1 and 2 (write-ahead log); UTF-8.
        if !matches!(header[19], 1 | 2) || u32_at(&header, 56)? > 1 {
            return Err("the database has an unknown format".into());
        }
        Ok(Self { read, size, page_size, usable })
    }

    /// The root page of a table (`kind` is `table`) or an index (`index`).
    ///
    /// # Errors
    /// The database is damaged or has none of this name.
    pub fn root(&self, kind: &str, name: &str) -> Result<u32, String> {
        let mut root = None;
        self.rows(1, &mut |row| {
            // type, name, tbl_name, rootpage, sql
            if let [SqliteValue::Text(found), SqliteValue::Text(named), _, SqliteValue::Integer(page), ..] = row
                && *found == kind.as_bytes()
                && named.eq_ignore_ascii_case(name.as_bytes())
            {
                root = u32::try_from(*page).ok();
            }
            Ok(())
        })?;
        root.ok_or_else(|| format!("the database has no {kind} {name}"))
    }

    /// Passes the rows of the table with this root page to `each`, in the order of their numbers.
    ///
    /// # Errors
    /// The database is damaged, or `each` fails.
    pub fn rows(&self, root: u32, each: EachRow<'_>) -> Result<(), String> {
        self.walk(root, (TABLE_BRANCH, TABLE_LEAF), &mut |page, seen, at| {
            let (length, at) = varint(page, at)?;
            let (_number, at) = varint(page, at)?;
            let row = self.payload(page, at, length, self.usable - 35, Some(seen))?;
            each(&values(&row)?)
        })
    }

    /// Passes the entries of the index with this root page to `each`: the indexed values, then the number of the row.
    /// They come in the order of pages, those of a branch page before those of the pages below it.
    ///
    /// # Errors
    /// The database is damaged, or `each` fails.
    pub fn entries(&self, root: u32, each: EachRow<'_>) -> Result<(), String> {
        self.walk(root, (INDEX_BRANCH, INDEX_LEAF), &mut |page, seen, at| {
            let (length, at) = varint(page, at)?;
            let entry = self.payload(page, at, length, self.most_of_entry(), Some(seen))?;
            each(&values(&entry)?)
        })
    }

    /// The number of the row that an index of one column of bytes has for `key`.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn find(&self, root: u32, key: &[u8]) -> Result<Option<i64>, String> {
        let mut number = root;
        for _ in 0..=MAX_DEPTH {
            let page = self.page(number)?;
            let Cells { start, count, right } = self.cells(&page, number, (INDEX_BRANCH, INDEX_LEAF))?;
            let entry = |cell: usize| -> Result<(Ordering, i64), String> {
                let at = usize::from(u16_at(&page, start + 2 * cell)?) + if right.is_some() { 4 } else { 0 };
                let (length, at) = varint(&page, at)?;
                let bytes = self.payload(&page, at, length, self.most_of_entry(), None)?;
                match values(&bytes)?[..] {
                    [SqliteValue::Blob(found), SqliteValue::Integer(row)] => Ok((found.cmp(key), row)),
                    // SQLite orders values of all other kinds before blobs.
                    [_, SqliteValue::Integer(row)] => Ok((Ordering::Less, row)),
                    _ => Err("an entry of an index has another form".into()),
                }
            };
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = usize::midpoint(low, high);
                match entry(middle)? {
                    (Ordering::Equal, row) => return Ok(Some(row)),
                    (Ordering::Less, _) => low = middle + 1,
                    (Ordering::Greater, _) => high = middle,
                }
            }
            number = match right {
                None => return Ok(None),
                Some(right) if low == count => right,
                Some(_) => u32_at(&page, usize::from(u16_at(&page, start + 2 * low)?))?,
            };
        }
        Err("the tree of an index is too deep".into())
    }

    /// Passes the values of one row of a table to `with`. `None` if there is no such row.
    ///
    /// # Errors
    /// The database is damaged, or `with` fails.
    pub fn row<T>(
        &self,
        root: u32,
        wanted: i64,
        with: impl FnOnce(&[SqliteValue<'_>]) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let mut number = root;
        for _ in 0..=MAX_DEPTH {
            let page = self.page(number)?;
            let Cells { start, count, right } = self.cells(&page, number, (TABLE_BRANCH, TABLE_LEAF))?;
            let key = |cell: usize| -> Result<(i64, u64, usize), String> {
                let at = usize::from(u16_at(&page, start + 2 * cell)?);
                let (length, at) = if right.is_some() { (0, at + 4) } else { varint(&page, at)? };
                let (row, at) = varint(&page, at)?;
                Ok((row.cast_signed(), length, at))
            };
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = usize::midpoint(low, high);
                if key(middle)?.0 < wanted { low = middle + 1 } else { high = middle }
            }
            number = match right {
                None if low == count => return Ok(None),
                None => {
                    let (found, length, at) = key(low)?;
                    if found != wanted {
                        return Ok(None);
                    }
                    let row = self.payload(&page, at, length, self.usable - 35, None)?;
                    return with(&values(&row)?).map(Some);
                }
                Some(right) if low == count => right,
                Some(_) => u32_at(&page, usize::from(u16_at(&page, start + 2 * low)?))?,
            };
        }
        Err("the tree of a table is too deep".into())
    }

    /// Calls `each` for each cell, with its page and its offset. Each page is used once: a damaged database may form a
    /// cycle.
    fn walk(&self, root: u32, kinds: (u8, u8), each: EachCell<'_>) -> Result<(), String> {
        let seen = RefCell::new(HashSet::new());
        let mut pending = vec![(root, 0)];
        while let Some((number, depth)) = pending.pop() {
            if depth > MAX_DEPTH {
                return Err("the tree of a table is too deep".into());
            }
            see(&seen, number)?;
            let page = self.page(number)?;
            let Cells { start, count, right } = self.cells(&page, number, kinds)?;
            if let Some(right) = right {
                pending.push((right, depth + 1));
            }
            for cell in (0..count).rev().filter(|_| right.is_some()) {
                let at = usize::from(u16_at(&page, start + 2 * cell)?);
                pending.push((u32_at(&page, at)?, depth + 1));
            }
            // Branches of a table have no rows, those of an index have entries.
            if right.is_none() || kinds.0 == INDEX_BRANCH {
                let skip = if right.is_some() { 4 } else { 0 };
                for cell in 0..count {
                    each(&page, &seen, usize::from(u16_at(&page, start + 2 * cell)?) + skip)?;
                }
            }
        }
        Ok(())
    }

    /// Where the cells of a page are.
    fn cells(&self, page: &[u8], number: u32, (branch, leaf): (u8, u8)) -> Result<Cells, String> {
        let start = if number == 1 { FILE_HEADER } else { 0 };
        let count = usize::from(u16_at(page, start + 3)?);
        match page.get(start) {
            Some(kind) if *kind == branch => {
                Ok(Cells { start: start + 12, count, right: Some(u32_at(page, start + 8)?) })
            }
            Some(kind) if *kind == leaf => Ok(Cells { start: start + 8, count, right: None }),
            kind => Err(format!("page {number} has the type {kind:?}")),
        }
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, String> {
        let index = number.checked_sub(1).ok_or("a page has the number 0")?;
        let mut page = (self.read)(u64::from(index) * self.page_size as u64, self.page_size)?;
        page.truncate(self.usable);
        Ok(page)
    }

    /// The maximum number of bytes of an index entry that are in its page: the rest is in overflow pages.
    fn most_of_entry(&self) -> usize {
        (self.usable - 12) * 64 / 255 - 23
    }

    /// The content of a cell: its part in the page, and the overflow pages. `most` is how much of it a page may have.
    fn payload(
        &self,
        page: &[u8],
        at: usize,
        length: u64,
        most: usize,
        seen: Option<&RefCell<HashSet<u32>>>,
    ) -> Result<Vec<u8>, String> {
        if length > MAX_ROW.min(self.size) {
            return Err(format!("a row has {length} bytes"));
        }
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let local = self.local_length(length, most);
        let part = at.checked_add(local).and_then(|end| page.get(at..end)).ok_or("a row extends beyond its page")?;
        let mut row = part.to_vec();
        if local < length {
            let mut next = u32_at(page, at + local)?;
            while row.len() < length {
                if let Some(seen) = seen {
                    see(seen, next)?;
                }
                let overflow = self.page(next)?;
                next = u32_at(&overflow, 0)?;
                let rest = (length - row.len()).min(self.usable - 4);
                row.extend_from_slice(&overflow[4..4 + rest]);
            }
        }
        Ok(row)
    }

    /// The number of bytes of a row in the page itself ("Cell Payload Overflow Pages").
    fn local_length(&self, length: usize, most: usize) -> usize {
        let least = (self.usable - 12) * 32 / 255 - 23;
        if length <= most {
            return length;
        }
        let local = least + (length - least) % (self.usable - 4);
        if local <= most { local } else { least }
    }
}

/// The cells of a page.
struct Cells {
    /// Where their offsets are.
    start: usize,
    count: usize,
    /// The last page below a branch page.
    right: Option<u32>,
}

/// Marks a page as used. A damaged database may use one twice, or lead in a circle.
fn see(seen: &RefCell<HashSet<u32>>, page: u32) -> Result<(), String> {
    if seen.borrow_mut().insert(page) { Ok(()) } else { Err(format!("page {page} is used twice")) }
}

/// A number of up to nine bytes, and the position after it.
fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize), String> {
    let mut value = 0_u64;
    for index in 0..9 {
        let byte = *at.checked_add(index).and_then(|at| bytes.get(at)).ok_or("a number extends beyond its page")?;
        if index == 8 {
            return Ok((value << 8 | u64::from(byte), at + 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((value, at + index + 1));
        }
    }
    Err("a number has too many bytes".into())
}

/// The values of a row ("Record Format").
fn values(row: &[u8]) -> Result<Vec<SqliteValue<'_>>, String> {
    let (header_length, mut at) = varint(row, 0)?;
    let header_length = usize::try_from(header_length).map_err(|error| error.to_string())?;
    let outside = || "a value is outside of its row".to_owned();
    let mut body = row.get(header_length..).ok_or_else(outside)?;
    let mut values = Vec::new();
    while at < header_length {
        let (kind, next) = varint(row, at)?;
        at = next;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err("a value has a reserved type".into()),
            kind => (kind - 12) / 2,
        };
        let length = usize::try_from(length).map_err(|_| outside())?;
        let (value, rest) = body.split_at_checked(length).ok_or_else(outside)?;
        body = rest;
        values.push(match kind {
            1..=6 => SqliteValue::Integer(integer(value)),
            8 | 9 => SqliteValue::Integer(i64::from(kind == 9)),
            12.. if kind % 2 == 0 => SqliteValue::Blob(value),
            13.. => SqliteValue::Text(value),
            _ => SqliteValue::Other,
        });
    }
    Ok(values)
}

/// A big-endian number in two's complement, of up to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let first = bytes.first().map_or(0, |first| i64::from(first.cast_signed()));
    bytes.iter().skip(1).fold(first, |value, byte| value << 8 | i64::from(*byte))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    let two = at.checked_add(2).and_then(|end| bytes.get(at..end)).and_then(|two| two.first_chunk());
    Ok(u16::from_be_bytes(*two.ok_or("a number extends beyond its page")?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let four = at.checked_add(4).and_then(|end| bytes.get(at..end)).and_then(|four| four.first_chunk());
    Ok(u32::from_be_bytes(*four.ok_or("a number extends beyond its page")?))
}

#[cfg(test)]
mod tests;
