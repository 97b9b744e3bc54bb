//! Reads the table `Packages` of an SQLite database. A journal is not applied; the caller reports its presence.

use std::cell::RefCell;

use super::RpmFile;
use crate::sqlite::{SqliteFile, SqliteValue};

/// Passes the header of each package to `each`.
pub(super) fn blobs(file: &mut RpmFile<'_>, each: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let size = file.size;
    let file = RefCell::new(file);
    let database = SqliteFile::open(size, |at, length| file.borrow_mut().read(at, length))?;
    let root = database.root("table", "Packages")?;
    // hnum, blob
    database.rows(root, &mut |row| match row {
        [_, SqliteValue::Blob(blob)] => each(blob),
        _ => Err("a row of the table of packages is malformed".into()),
    })
}
