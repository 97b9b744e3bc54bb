//! Text files that state one package.

use std::io::{Read, SeekFrom};

use crate::inventory::ReadSeek;

/// Reads the whole file as text. A byte order mark at its start is removed, and bytes that are not UTF-8 are replaced,
/// as Node.js, Python and Go do.
///
/// # Errors
///
/// If the content cannot be read, or has not `size` bytes.
pub(super) fn read(content: &mut dyn ReadSeek, size: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    content.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    content.take(size).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 != size {
        return Err(format!("the file ends after {} of {size} bytes", bytes.len()));
    }
    Ok(decode(&bytes))
}

/// Decodes text; see [`read`].
pub(super) fn decode(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).into_owned()
}
