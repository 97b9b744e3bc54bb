//! Compares two indexes.

use std::collections::HashMap;

use super::super::changes::{NameComparison, merge};
use super::super::{DamagedDatabase, IndexPart, OsvDetail};
use super::encoding::Decoder;
use super::index::{OsvIndex, TableEntry, read};

/// For how many records it is kept whether they differ: those of distributions name many packages each.
const MAX_KNOWN: usize = 1 << 16;

impl OsvIndex {
    /// Adds the names of the packages for which the indexes differ. A missing index counts as empty.
    ///
    /// # Errors
    /// A part that was read is damaged, or what the comparison reports.
    pub(in super::super) fn compare(
        before: Option<&Self>,
        now: Option<&Self>,
        out: &mut NameComparison<'_>,
    ) -> Result<(), DamagedDatabase> {
        let mut details = DetailComparison { before, now, known: HashMap::new() };
        let (own, other) = (before.into_iter().flat_map(Self::entries), now.into_iter().flat_map(Self::entries));
        merge(own, other, &mut |_, own, other| {
            out.go_on()?;
            let (own, other) = (rows(before, own)?, rows(now, other)?);
            merge(packages(&own)?.into_iter().map(Ok), packages(&other)?.into_iter().map(Ok), &mut |key, own, other| {
                let is_same = match (own, other) {
                    (Some(own), Some(other)) => details.are_same(&own, &other)?,
                    _ => false,
                };
                if is_same { Ok(()) } else { out.add(key.1) }
            })
        })
    }
}

/// The encoded rows of an entry.
fn rows(index: Option<&OsvIndex>, entry: Option<TableEntry>) -> Result<Vec<u8>, DamagedDatabase> {
    index.zip(entry).map_or(Ok(Vec::new()), |(index, entry)| read(&index.file, entry.rows()))
}

/// The ecosystem and the name of a package.
type RowKey<'a> = (&'a str, &'a str);
/// A package with its encoded rows.
type EncodedPackage<'a> = (RowKey<'a>, Vec<&'a [u8]>);

/// The packages of an entry in the order of their keys, each with its encoded rows.
fn packages(mut rows: &[u8]) -> Result<Vec<EncodedPackage<'_>>, DamagedDatabase> {
    let mut packages = Vec::new();
    while !rows.is_empty() {
        let mut from = Decoder(rows);
        packages.push(((from.text()?, from.text()?), from.list(Decoder::bytes)?));
        rows = from.0;
    }
    Ok(packages)
}

/// Compares what rows are about.
struct DetailComparison<'a> {
    before: Option<&'a OsvIndex>,
    now: Option<&'a OsvIndex>,
    /// Whether records are the same, by their places.
    known: HashMap<(u64, u64), bool>,
}

impl DetailComparison<'_> {
    /// Whether all rows have the same content, wherever the rest of their records is stored.
    fn are_same(&mut self, own: &[&[u8]], other: &[&[u8]]) -> Result<bool, DamagedDatabase> {
        if own.len() != other.len() {
            return Ok(false);
        }
        for (own, other) in own.iter().zip(other) {
            let (mut own, mut other) = (Decoder(own), Decoder(other));
            let (own_id, own_detail) = (own.text()?, own.part()?);
            let (other_id, other_detail) = (other.text()?, other.part()?);
            // The rest says which versions are affected.
            if own_id != other_id || own.0 != other.0 || !self.is_same_detail(own_detail, other_detail)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether two records have the same content, except for the time of the last change and the references, which each
    /// compilation stores elsewhere.
    fn is_same_detail(&mut self, own: IndexPart, other: IndexPart) -> Result<bool, DamagedDatabase> {
        if (own.length, own.crc) == (other.length, other.crc) {
            return Ok(true);
        }
        let places = (own.offset, other.offset);
        if let Some(known) = self.known.get(&places) {
            return Ok(*known);
        }
        let is_same = detail(self.before, own)? == detail(self.now, other)?;
        if self.known.len() == MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(places, is_same);
        Ok(is_same)
    }
}

fn detail(index: Option<&OsvIndex>, part: IndexPart) -> Result<Option<OsvDetail>, DamagedDatabase> {
    let Some(index) = index else { return Ok(None) };
    let (detail, _) = Decoder(&read(&index.file, part)?).detail()?;
    Ok(Some(OsvDetail { modified: None, ..detail }))
}
