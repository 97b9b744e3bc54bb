//! Parses PAX extended headers as Go's `archive/tar` does (reader.go, `parsePAX`, `mergePAX`; strconv.go).

use std::collections::BTreeMap;

/// The records of an extended header. If several records have the same key, the last one counts.
#[derive(Default)]
pub(super) struct PaxRecords(BTreeMap<Vec<u8>, Vec<u8>>);

/// What the records change in an entry.
pub(super) struct PaxChanges<'a> {
    pub(super) path: Option<&'a [u8]>,
    pub(super) link: Option<&'a [u8]>,
    /// In bytes; a negative size becomes one above `i64::MAX`.
    pub(super) size: Option<u64>,
    pub(super) owner: Option<i64>,
    pub(super) group: Option<i64>,
}

const SPARSE: &[u8] = b"GNU.sparse.";
const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
const SPARSE_LENGTH: &[u8] = b"GNU.sparse.numbytes";

impl PaxRecords {
    /// `None` if Go rejects the records.
    pub(super) fn parse(mut content: &[u8]) -> Option<Self> {
        let mut records = BTreeMap::new();
        let mut sparse_fields = 0_u64;
        while !content.is_empty() {
            let (key, value, rest) = record(content)?;
            content = rest;
            match key {
                SPARSE_OFFSET | SPARSE_LENGTH => {
                    let is_offset = sparse_fields.is_multiple_of(2);
                    if is_offset != (key == SPARSE_OFFSET) || value.contains(&b',') {
                        return None;
                    }
                    sparse_fields += 1;
                }
                _ => {}
            }
            records.insert(key.to_vec(), value.to_vec());
        }
        Some(Self(records))
    }

    /// `None` if a number is invalid, for which Go rejects the entry.
    pub(super) fn changes(&self) -> Option<PaxChanges<'_>> {
        let number = |key: &[u8]| match self.get(key) {
            Some(value) => integer(value).map(Some),
            None => Some(None),
        };
        let (owner, group) = (number(b"uid")?, number(b"gid")?);
        for key in [&b"atime"[..], b"mtime", b"ctime"] {
            self.get(key).map_or(Some(()), time)?;
        }
        let size = number(b"size")?.map(i64::cast_unsigned);
        Some(PaxChanges { path: self.get(b"path"), link: self.get(b"linkpath"), size, owner, group })
    }

    /// Whether the records describe a sparse file in one of GNU's forms.
    pub(super) fn is_sparse(&self) -> bool {
        self.0.keys().any(|key| key.starts_with(SPARSE))
    }

    /// The name of a sparse file, which replaces the entry's name in the forms that Go knows.
    pub(super) fn sparse_name(&self) -> Option<&[u8]> {
        let is = |key: &[u8], value: &[u8]| self.get(key) == Some(value);
        let has_version = self.get(b"GNU.sparse.major").is_some() || self.get(b"GNU.sparse.minor").is_some();
        let is_known = match has_version {
            true if is(b"GNU.sparse.major", b"0") => is(b"GNU.sparse.minor", b"0") || is(b"GNU.sparse.minor", b"1"),
            true => is(b"GNU.sparse.major", b"1") && is(b"GNU.sparse.minor", b"0"),
            false => self.get(b"GNU.sparse.map").is_some() || self.get(SPARSE_OFFSET).is_some(),
        };
        self.get(b"GNU.sparse.name").filter(|_| is_known)
    }

    /// Whether a reader that applies the records to all files sees different files.
    pub(super) fn changes_files(&self) -> bool {
        [&b"path"[..], b"linkpath", b"size"].iter().any(|key| self.0.contains_key(*key)) || self.is_sparse()
    }

    /// Whether an extended attribute tells the overlay file system to show other files: docker and podman set
    /// `trusted.overlay.redirect` of a directory, and Linux follows it.
    pub(super) fn changes_overlay(&self) -> bool {
        let is_overlay = |name: &[u8]| name.windows(7).any(|part| part.eq_ignore_ascii_case(b"overlay"));
        self.attributes().any(|(name, _)| is_overlay(name))
    }

    /// The extended attributes, in the order of their names.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?, value.as_slice())))
    }

    /// An empty value counts as none.
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice).filter(|value| !value.is_empty())
    }
}

/// `LENGTH KEY=VALUE\n`, with the length of the whole record in decimal.
fn record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(integer(&content[..space])?).ok()?;
    if length < 5 || length > content.len() || length <= space + 1 {
        return None;
    }
    let (record, rest) = content.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    let text = match key {
        b"path" | b"linkpath" | b"uname" | b"gname" => value,
        _ => key,
    };
    (!key.is_empty() && !text.contains(&0)).then_some((key, value, rest))
}

/// A decimal number with an optional sign.
fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds, with an optional fraction.
fn time(text: &[u8]) -> Option<()> {
    let (seconds, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    integer(seconds)?;
    fraction.iter().all(u8::is_ascii_digit).then_some(())
}
