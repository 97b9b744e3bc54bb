//! The encoding of rows in an index: numbers as variable-length integers (LEB128), texts and lists with their length first.

use super::super::{DamagedDatabase, OsvAffected, OsvEvent, OsvRange, OsvRow, OsvSeverity};

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

    fn option(&mut self, text: Option<&str>) {
        self.list(text.as_slice(), |out, text| out.text(text));
    }

    pub(super) fn affected(&mut self, affected: &[OsvAffected]) {
        self.list(affected, |out, affected| {
            out.list(&affected.ranges, Self::range);
            out.list(&affected.versions, |out, version| out.text(version));
            out.list(&affected.severity, |out, severity| {
                out.text(&severity.kind);
                out.text(&severity.score);
            });
            out.option(affected.severity_word.as_deref());
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
        std::str::from_utf8(self.bytes()?).map_err(|_| DamagedDatabase("a text in the index is not UTF-8".to_owned()))
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

    fn owned(&mut self) -> Result<String, DamagedDatabase> {
        self.text().map(str::to_owned)
    }

    fn option(&mut self) -> Result<Option<String>, DamagedDatabase> {
        let mut texts = self.list(Self::owned)?;
        if texts.len() > 1 {
            Err(DamagedDatabase("an optional text is there twice".to_owned()))
        } else {
            Ok(texts.pop())
        }
    }

    /// A row, as its identifier and the encoded list of `affected`.
    pub(super) fn row(&mut self) -> Result<OsvRow, DamagedDatabase> {
        Ok(OsvRow { id: self.owned()?, affected: self.list(Self::affected)? })
    }

    fn affected(&mut self) -> Result<OsvAffected, DamagedDatabase> {
        Ok(OsvAffected {
            ranges: self.list(Self::range)?,
            versions: self.list(Self::owned)?,
            severity: self.list(|from| Ok(OsvSeverity { kind: from.owned()?, score: from.owned()? }))?,
            severity_word: self.option()?,
        })
    }

    fn range(&mut self) -> Result<OsvRange, DamagedDatabase> {
        let kind = usize::try_from(self.number()?).ok().and_then(|kind| KINDS.get(kind).copied());
        let kind = kind.map_or_else(|| self.owned(), |kind| Ok(kind.to_owned()))?;
        let events = self.list(|from| {
            Ok(OsvEvent {
                introduced: from.option()?,
                fixed: from.option()?,
                last_affected: from.option()?,
                limit: from.option()?,
            })
        })?;
        Ok(OsvRange { kind, events })
    }
}

fn ends() -> DamagedDatabase {
    DamagedDatabase("a row of the index ends too early".to_owned())
}
