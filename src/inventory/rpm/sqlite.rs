//! Reads the table `Packages` of an SQLite database (sqlite.org, "Database File Format"). Only what is needed: the pages
//! of tables, without indexes, and without a journal, whose presence the caller reports.

use super::{PagesSeen, RpmFile, u16_at, u32_at};

/// The maximum depth of a table's tree. SQLite itself allows 20.
const MAX_DEPTH: usize = 20;
/// The maximum size of a row, in bytes (`HEADER_DATA_MAX` of rpm is 256 MiB; kernels have about 10 MiB).
const MAX_ROW: u64 = 64 * 1024 * 1024;
/// The size of the file header, before the first page's own.
const FILE_HEADER: usize = 100;

type EachRow<'a> = &'a mut dyn FnMut(&[SqliteValue<'_>]) -> Result<(), String>;

/// A value of a row. Numbers are kept only where they are needed: page numbers.
enum SqliteValue<'a> {
    Integer(i64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
    Other,
}

/// Passes the header of each package to `each`.
pub(super) fn blobs(file: &mut RpmFile<'_>, each: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut database = Sqlite::open(file)?;
    let mut root = None;
    database.rows(1, &mut |row| {
        // type, name, tbl_name, rootpage, sql
        if let [SqliteValue::Text(b"table"), SqliteValue::Text(name), _, SqliteValue::Integer(page), ..] = row
            && name.eq_ignore_ascii_case(b"Packages")
        {
            root = u32::try_from(*page).ok();
        }
        Ok(())
    })?;
    let root = root.ok_or("the database has no table of packages")?;
    // hnum, blob
    database.rows(root, &mut |row| match row {
        [_, SqliteValue::Blob(blob)] => each(blob),
        _ => Err("a row of the table of packages has another form".into()),
    })
}

struct Sqlite<'a, 'b> {
    file: &'a mut RpmFile<'b>,
    page_size: usize,
    /// The page size without the reserved bytes at the end of each page.
    usable: usize,
    seen: PagesSeen,
}

impl<'a, 'b> Sqlite<'a, 'b> {
    fn open(file: &'a mut RpmFile<'b>) -> Result<Self, String> {
        let header = file.read(0, FILE_HEADER)?;
        let page_size = match u16_at(&header, 16, true)? {
            1 => 65_536,
            size if size.is_power_of_two() && size >= 512 => usize::from(size),
            size => return Err(format!("the database has the page size {size}")),
        };
        let usable = page_size - usize::from(header[20]);
        if usable < 480 {
            return Err("the database has pages that are too small".into());
        }
        // Read formats 1 and 2 (write-ahead log); UTF-8.
        if !matches!(header[19], 1 | 2) || u32_at(&header, 56, true)? > 1 {
            return Err("the database has an unknown format".into());
        }
        Ok(Self { file, page_size, usable, seen: PagesSeen::default() })
    }

    fn page(&mut self, number: u32) -> Result<Vec<u8>, String> {
        let index = number.checked_sub(1).ok_or("a page has the number 0")?;
        self.seen.add(number)?;
        let mut page = self.file.read(u64::from(index) * self.page_size as u64, self.page_size)?;
        page.truncate(self.usable);
        Ok(page)
    }

    /// Passes the rows of the table with this root page to `each`.
    fn rows(&mut self, root: u32, each: EachRow<'_>) -> Result<(), String> {
        let mut pending = vec![(root, 0)];
        while let Some((number, depth)) = pending.pop() {
            if depth > MAX_DEPTH {
                return Err("the tree of a table is too deep".into());
            }
            let page = self.page(number)?;
            let start = if number == 1 { FILE_HEADER } else { 0 };
            let cells = usize::from(u16_at(&page, start + 3, true)?);
            match page.get(start) {
                Some(0x05) => {
                    pending.push((u32_at(&page, start + 8, true)?, depth + 1));
                    for cell in (0..cells).rev() {
                        let at = usize::from(u16_at(&page, start + 12 + 2 * cell, true)?);
                        pending.push((u32_at(&page, at, true)?, depth + 1));
                    }
                }
                Some(0x0d) => {
                    for cell in 0..cells {
                        let at = usize::from(u16_at(&page, start + 8 + 2 * cell, true)?);
                        let row = self.payload(&page, at)?;
                        each(&values(&row)?)?;
                    }
                }
                kind => return Err(format!("page {number} has the type {kind:?}")),
            }
        }
        Ok(())
    }

    /// The content of a cell of a table's leaf: its part in the page, and the overflow pages.
    fn payload(&mut self, page: &[u8], at: usize) -> Result<Vec<u8>, String> {
        let (length, at) = varint(page, at)?;
        let (_row_id, at) = varint(page, at)?;
        if length > MAX_ROW.min(self.file.size) {
            return Err(format!("a row has {length} bytes"));
        }
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let local = local_length(length, self.usable);
        let part = at.checked_add(local).and_then(|end| page.get(at..end)).ok_or("a row is outside of its page")?;
        let mut row = part.to_vec();
        if local < length {
            let mut next = u32_at(page, at + local, true)?;
            while row.len() < length {
                let overflow = self.page(next)?;
                next = u32_at(&overflow, 0, true)?;
                let most = (length - row.len()).min(self.usable - 4);
                row.extend_from_slice(&overflow[4..4 + most]);
            }
        }
        Ok(row)
    }
}

/// How much of a row is in the page itself ("Cell Payload Overflow Pages").
fn local_length(length: usize, usable: usize) -> usize {
    let (most, least) = (usable - 35, (usable - 12) * 32 / 255 - 23);
    if length <= most {
        return length;
    }
    let local = least + (length - least) % (usable - 4);
    if local <= most { local } else { least }
}

/// A number of up to nine bytes, and the position after it.
fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize), String> {
    let mut value = 0_u64;
    for index in 0..9 {
        let byte = *at.checked_add(index).and_then(|at| bytes.get(at)).ok_or("a number is outside of its page")?;
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
