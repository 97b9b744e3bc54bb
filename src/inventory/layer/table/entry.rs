//! Parses a table of contents, strictly: readers of tables differ in what they make of duplicate and unknown keys.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::text::EntryRoom;

/// An entry of a table (stargz-snapshotter, estargz/types.go, `TOCEntry`; containers/storage,
/// pkg/chunked/internal/minimal, `FileMetadata`). Where content is in the layer does not matter, because it is known by
/// its digest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TocEntry {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: TableKind,
    #[serde(default)]
    pub(super) link_name: String,
    #[serde(default)]
    pub(super) mode: u64,
    #[serde(default)]
    pub(super) uid: u64,
    #[serde(default)]
    pub(super) gid: u64,
    #[serde(default)]
    pub(super) dev_major: i64,
    #[serde(default)]
    pub(super) dev_minor: i64,
    #[serde(default)]
    pub(super) xattrs: TableAttributes,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) digest: String,
    #[serde(default)]
    pub(super) chunk_offset: u64,
    /// Zero: to the end of the file.
    #[serde(default)]
    pub(super) chunk_size: u64,
    #[serde(default)]
    pub(super) chunk_digest: String,
    #[serde(default, rename = "chunkType")]
    _chunk_type: IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
    #[serde(default, rename = "endOffset")]
    _end_offset: IgnoredAny,
    #[serde(default, rename = "innerOffset")]
    _inner_offset: IgnoredAny,
    #[serde(default, rename = "modtime")]
    _modified: IgnoredAny,
    #[serde(default, rename = "accesstime")]
    _accessed: IgnoredAny,
    #[serde(default, rename = "changetime")]
    _changed: IgnoredAny,
    #[serde(default, rename = "userName")]
    _user: IgnoredAny,
    #[serde(default, rename = "groupName")]
    _group: IgnoredAny,
    /// Older versions of stargz-snapshotter write it.
    #[serde(default, rename = "NumLink")]
    _links: IgnoredAny,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum TableKind {
    Block,
    Char,
    Chunk,
    Dir,
    Fifo,
    HardLink,
    Reg,
    Symlink,
}

/// Extended attributes. The values are in base 64.
#[derive(Default)]
pub(super) struct TableAttributes(pub(super) BTreeMap<String, Vec<u8>>);

/// Calls `see` with all entries of a table, until it returns false.
///
/// # Errors
/// The text is not exactly one table, or it cannot be read, or `see` returned false.
pub(super) fn each_entry(
    text: impl Read,
    room: &EntryRoom,
    see: &mut dyn FnMut(&TocEntry) -> bool,
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(text);
    deserializer.deserialize_map(TableVisitor { room, see })?;
    deserializer.end()
}

struct TableVisitor<'a> {
    room: &'a EntryRoom,
    see: &'a mut dyn FnMut(&TocEntry) -> bool,
}

impl<'de> Visitor<'de> for TableVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of contents")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { room, see } = self;
        let (mut version, mut has_entries, mut has_split) = (None, false, false);
        while let Some(key) = map.next_key::<String>()? {
            let is_double = match key.as_str() {
                "version" => version.replace(map.next_value::<u64>()?).is_some(),
                "entries" => {
                    room.renew();
                    map.next_value_seed(EntriesVisitor { room, see: &mut *see })?;
                    std::mem::replace(&mut has_entries, true)
                }
                "tarSplitDigest" => {
                    map.next_value::<IgnoredAny>()?;
                    std::mem::replace(&mut has_split, true)
                }
                _ => return Err(A::Error::custom(format_args!("unknown key {key:?}"))),
            };
            if is_double {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
        }
        match version == Some(1) && has_entries {
            true => Ok(()),
            false => Err(A::Error::custom("it is not a table of version 1")),
        }
    }
}

struct EntriesVisitor<'a> {
    room: &'a EntryRoom,
    see: &'a mut dyn FnMut(&TocEntry) -> bool,
}

impl<'de> DeserializeSeed<'de> for EntriesVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EntriesVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { room, see } = self;
        while let Some(entry) = entries.next_element()? {
            if !see(&entry) {
                return Err(A::Error::custom("the rest is not compared"));
            }
            room.renew();
        }
        Ok(())
    }

    /// Go writes an empty list as `null`.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'de> Deserialize<'de> for TableAttributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AttributesVisitor)
    }
}

struct AttributesVisitor;

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = TableAttributes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("extended attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TableAttributes, A::Error> {
        let mut found = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            let value = BASE64_STANDARD.decode(value).map_err(A::Error::custom)?;
            if name.is_empty() || found.insert(name, value).is_some() {
                return Err(A::Error::custom("an extended attribute without a name, or a duplicate"));
            }
        }
        Ok(TableAttributes(found))
    }
}
