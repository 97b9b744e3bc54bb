//! Parses a tar header as Go's `archive/tar` does (reader.go, `readHeader`; strconv.go; format.go).

/// The size of a tar block, in bytes (POSIX.1-1988, ustar).
pub(super) const BLOCK: usize = 512;

/// The fields of a header that matter here. All other numbers are checked, because Go rejects invalid ones.
pub(super) struct TarHeader {
    /// The type flag.
    pub(super) kind: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// A negative size becomes one above `i64::MAX`.
    pub(super) size: u64,
    /// The permissions, and bits that some writers add. A negative number becomes one above `i64::MAX`.
    pub(super) mode: u64,
    pub(super) owner: i64,
    pub(super) group: i64,
    /// The major and the minor number of a device.
    pub(super) device: [i64; 2],
}

/// The format of a header, by its magic bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TarFormat {
    V7,
    Ustar,
    Gnu,
    Star,
}

impl TarFormat {
    /// `None` if the block is not a header: its checksum is wrong.
    pub(super) fn of(block: &[u8; BLOCK]) -> Option<Self> {
        let expected = octal(&block[148..156])?.cast_signed();
        let outside = || block[..148].iter().chain(&block[156..]);
        let spaces = 8 * i64::from(b' ');
        let unsigned: i64 = outside().map(|byte| i64::from(*byte)).sum();
        let signed: i64 = outside().map(|byte| i64::from(byte.cast_signed())).sum();
        if expected != unsigned + spaces && expected != signed + spaces {
            return None;
        }
        Some(match (&block[257..263], &block[263..265], &block[508..512]) {
            (b"ustar\0", _, b"tar\0") => Self::Star,
            (b"ustar\0", ..) => Self::Ustar,
            (b"ustar ", b" \0", _) => Self::Gnu,
            _ => Self::V7,
        })
    }
}

impl TarHeader {
    /// `None` if Go rejects the header.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let format = TarFormat::of(block)?;
        let mut path = until_nul(&block[..100]).to_vec();
        let mode = numeric(&block[100..108])?;
        let (owner, group) = (numeric(&block[108..116])?, numeric(&block[116..124])?);
        // The time of change.
        numeric(&block[136..148])?;
        let size = numeric(&block[124..136])?;
        let device = match format {
            TarFormat::V7 => [0; 2],
            _ => [numeric(&block[329..337])?, numeric(&block[337..345])?],
        };
        let prefix = match format {
            TarFormat::V7 => &[][..],
            TarFormat::Ustar => until_nul(&block[345..500]),
            TarFormat::Star => {
                numeric(&block[476..488])?;
                numeric(&block[488..500])?;
                until_nul(&block[345..476])
            }
            TarFormat::Gnu => gnu_prefix(block),
        };
        if !prefix.is_empty() {
            path = [prefix, b"/", &path].concat();
        }
        let link = until_nul(&block[157..257]).to_vec();
        let (kind, size, mode) = (block[156], size.cast_unsigned(), mode.cast_unsigned());
        Some(Self { kind, path, link, size, mode, owner, group, device })
    }

    /// Links, devices, directories and pipes have no content, whatever their size says.
    pub(super) fn has_no_content(&self) -> bool {
        matches!(self.kind, b'1'..=b'6')
    }
}

/// GNU's format has no prefix, but old versions of Go wrote one over the times of access and change. Go recognises it
/// by times that are not numbers.
fn gnu_prefix(block: &[u8; BLOCK]) -> &[u8] {
    let is_time = |field: &[u8]| field[0] == 0 || numeric(field).is_some();
    if is_time(&block[345..357]) && is_time(&block[357..369]) {
        return &[];
    }
    let prefix = until_nul(&block[345..500]);
    if prefix.is_ascii() { prefix } else { &[] }
}

/// A string that ends at a NUL or at the end of its field.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal or, marked by the first bit, in base 256 (two's complement).
fn numeric(field: &[u8]) -> Option<i64> {
    if field.first().is_none_or(|first| first & 0x80 == 0) {
        return Some(octal(field)?.cast_signed());
    }
    let invert = if field[0] & 0x40 != 0 { 0xff } else { 0 };
    let mut value = 0_u64;
    for (index, byte) in field.iter().enumerate() {
        let byte = byte ^ invert;
        let byte = if index == 0 { byte & 0x7f } else { byte };
        if value >> 56 > 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if invert == 0 { value } else { !value })
}

/// Octal digits between spaces and NULs; what follows a NUL is ignored. No digits are 0.
fn octal(field: &[u8]) -> Option<u64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !is_padding(byte)) else { return Some(0) };
    let end = field.iter().rposition(|byte| !is_padding(byte))? + 1;
    let digits = until_nul(&field[start..end]);
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}
