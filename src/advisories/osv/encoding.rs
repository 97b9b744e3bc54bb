//! The encoding of rows in an index: numbers as variable-length integers (LEB128), texts and lists with their length
//! first.

use jiff::Timestamp;

use super::super::{DamagedDatabase, IndexPart, OsvAffected, OsvDetail, OsvEvent, OsvRange, OsvRow, OsvSeverity};
use super::block::TextsPlace;

/// Kinds of ranges that have a number; the number of any other kind is their count, and its name follows.
const KINDS: [&str; 3] = ["SEMVER", "ECOSYSTEM", "GIT"];

/// Appends encoded values to bytes.
#[derive(Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut encode: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            encode(self, item);
        }
    }

    pub(super) fn texts(&mut self, texts: &[String]) {
        self.list(texts, |out, text| out.text(text));
    }

    fn option(&mut self, text: Option<&str>) {
        self.list(text.as_slice(), |out, text| out.text(text));
    }

    pub(super) fn part(&mut self, part: IndexPart) {
        let IndexPart { offset, length, crc } = part;
        [offset, length, crc.into()].into_iter().for_each(|number| self.number(number));
    }

    pub(super) fn affected(&mut self, affected: &[OsvAffected]) {
        self.list(affected, |out, affected| {
            out.list(&affected.ranges, Self::range);
            out.texts(&affected.versions);
            out.severities(&affected.severity);
            out.option(affected.severity_word.as_deref());
        });
    }

    fn severities(&mut self, severities: &[OsvSeverity]) {
        self.list(severities, |out, severity| {
            out.text(&severity.kind);
            out.text(&severity.score);
        });
    }

    fn range(&mut self, range: &OsvRange) {
        let kind = KINDS.iter().position(|kind| *kind == range.kind).unwrap_or(KINDS.len());
        self.number(kind as u64);
        if kind == KINDS.len() {
            self.text(&range.kind);
        }
        self.list(&range.events, |out, event| {
            for version in [&event.introduced, &event.fixed, &event.last_affected, &event.limit] {
                out.option(version.as_deref());
            }
        });
    }

    /// A record without its references, and where they are.
    pub(super) fn detail(&mut self, detail: &OsvDetail, references: Option<TextsPlace>) {
        self.text(&detail.id);
        for list in [&detail.aliases, &detail.upstream, &detail.related] {
            self.texts(list);
        }
        self.text(&detail.summary);
        self.time(detail.published);
        self.time(detail.modified);
        self.severities(&detail.severity);
        self.option(detail.severity_word.as_deref());
        self.list(references.as_slice(), |out, place| {
            out.part(place.block);
            [place.size, place.start].into_iter().for_each(|number| out.number(number));
        });
    }

    fn time(&mut self, time: Option<Timestamp>) {
        self.list(time.as_slice(), |out, time| {
            out.signed(time.as_second());
            out.signed(time.subsec_nanosecond().into());
        });
    }

    /// Small numbers of either sign are short (ZigZag).
    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }
}

/// Takes encoded values off the front of bytes.
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) fn number(&mut self) -> Result<u64, DamagedDatabase> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or_else(ends)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DamagedDatabase("a number in the index has too many bytes".to_owned()))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DamagedDatabase> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(ends)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DamagedDatabase> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DamagedDatabase("a string in the index is not UTF-8".to_owned()))
    }

    pub(super) fn list<T>(
        &mut self,
        mut decode: impl FnMut(&mut Self) -> Result<T, DamagedDatabase>,
    ) -> Result<Vec<T>, DamagedDatabase> {
        let count = self.number()?;
        // Each item has at least one byte, so a wrong count ends with an error before it uses much memory.
        let mut items = Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(self.0.len()).min(64));
        for _ in 0..count {
            items.push(decode(self)?);
        }
        Ok(items)
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, DamagedDatabase> {
        self.list(|from| from.text().map(str::to_owned))
    }

    fn option<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, DamagedDatabase>,
    ) -> Result<Option<T>, DamagedDatabase> {
        match self.number()? {
            0 => Ok(None),
            1 => decode(self).map(Some),
            _ => Err(DamagedDatabase("an optional value occurs twice".to_owned())),
        }
    }

    pub(super) fn part(&mut self) -> Result<IndexPart, DamagedDatabase> {
        let (offset, length, crc) = (self.number()?, self.number()?, self.number()?);
        let crc = u32::try_from(crc).map_err(|_| DamagedDatabase("a checksum has too many bits".to_owned()))?;
        Ok(IndexPart { offset, length, crc })
    }

    /// A row, in place of another one, whose lists are used again: most rows are looked at once. Its texts are parts of
    /// the encoded bytes.
    pub(super) fn row(&mut self, row: &mut OsvRow<&'a str>) -> Result<(), DamagedDatabase> {
        (row.id, row.detail) = (self.text()?, self.part()?);
        self.refill(&mut row.affected, Self::affected)
    }

    fn affected(&mut self, affected: &mut OsvAffected<&'a str>) -> Result<(), DamagedDatabase> {
        self.refill(&mut affected.ranges, Self::range)?;
        self.refill(&mut affected.versions, |from, version| from.text().map(|text| *version = text))?;
        self.refill(&mut affected.severity, |from, severity| {
            *severity = OsvSeverity { kind: from.text()?, score: from.text()? };
            Ok(())
        })?;
        affected.severity_word = self.option(Self::text)?;
        Ok(())
    }

    fn range(&mut self, range: &mut OsvRange<&'a str>) -> Result<(), DamagedDatabase> {
        let kind = usize::try_from(self.number()?).ok().and_then(|kind| KINDS.get(kind).copied());
        range.kind = kind.map_or_else(|| self.text(), Ok)?;
        self.refill(&mut range.events, |from, event| {
            *event = OsvEvent {
                introduced: from.option(Self::text)?,
                fixed: from.option(Self::text)?,
                last_affected: from.option(Self::text)?,
                limit: from.option(Self::text)?,
            };
            Ok(())
        })
    }

    /// A list, in place of what is in `items`.
    fn refill<T: Default>(
        &mut self,
        items: &mut Vec<T>,
        mut decode: impl FnMut(&mut Self, &mut T) -> Result<(), DamagedDatabase>,
    ) -> Result<(), DamagedDatabase> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        items.truncate(count);
        // Each item has at least one byte, so a wrong count ends with an error before it uses much memory.
        for index in 0..count {
            if index == items.len() {
                items.push(T::default());
            }
            decode(self, &mut items[index])?;
        }
        Ok(())
    }

    /// A record without its references, and where they are.
    pub(super) fn detail(&mut self) -> Result<(OsvDetail, Option<TextsPlace>), DamagedDatabase> {
        let detail = OsvDetail {
            id: self.text()?.to_owned(),
            aliases: self.texts()?,
            upstream: self.texts()?,
            related: self.texts()?,
            summary: self.text()?.to_owned(),
            published: self.option(Self::time)?,
            modified: self.option(Self::time)?,
            severity: self
                .list(|from| Ok(OsvSeverity { kind: from.text()?.to_owned(), score: from.text()?.to_owned() }))?,
            severity_word: self.option(Self::text)?.map(str::to_owned),
            ..OsvDetail::default()
        };
        let references =
            self.option(|from| Ok(TextsPlace { block: from.part()?, size: from.number()?, start: from.number()? }))?;
        Ok((detail, references))
    }

    fn time(&mut self) -> Result<Timestamp, DamagedDatabase> {
        let (second, nanosecond) = (self.signed()?, self.signed()?);
        let nanosecond = i32::try_from(nanosecond).unwrap_or(i32::MAX);
        Timestamp::new(second, nanosecond).map_err(|error| DamagedDatabase(error.to_string()))
    }

    fn signed(&mut self) -> Result<i64, DamagedDatabase> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }
}

fn ends() -> DamagedDatabase {
    DamagedDatabase("a row of the index ends too early".to_owned())
}
