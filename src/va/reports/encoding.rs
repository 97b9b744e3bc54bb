//! Decodes a report file to JSON text from the common encodings.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::document::InvalidReport;

/// The largest text in a compressed file, in bytes; the same as for an uncompressed file.
const MAX_TEXT: u64 = 64 << 20;
const HIGH_SURROGATES: std::ops::RangeInclusive<u16> = 0xD800..=0xDBFF;
const LOW_SURROGATES: std::ops::RangeInclusive<u16> = 0xDC00..=0xDFFF;

/// Reads gzip, UTF-16 (written by `>` in PowerShell) and UTF-8, with or without a byte-order mark. Invalid sequences
/// become U+FFFD, as in the scanners' own parsers: they occur in titles, and a report must not be lost because of a
/// title.
///
/// # Errors
/// If compressed content is broken or too large, or UTF-16 ends within a character.
pub(super) fn text(bytes: &[u8]) -> Result<String, InvalidReport> {
    let bytes = if bytes.starts_with(b"\x1f\x8b") { Cow::Owned(inflate(bytes)?) } else { Cow::Borrowed(bytes) };
    let text = match &*bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        // JSON starts with an ASCII character, so the position of the zero byte shows the byte order.
        rest @ [1..=0xFF, 0, ..] => utf16(rest, u16::from_le_bytes)?,
        rest @ [0, 1..=0xFF, ..] => utf16(rest, u16::from_be_bytes)?,
        rest => String::from_utf8_lossy(rest.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rest)).into_owned(),
    };
    Ok(without_lone_surrogates(text))
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, InvalidReport> {
    let mut text = Vec::new();
    let inflated = MultiGzDecoder::new(bytes).take(MAX_TEXT + 1).read_to_end(&mut text);
    inflated.map_err(|e| InvalidReport::new(format!("broken gzip: {e}")))?;
    if text.len() as u64 > MAX_TEXT {
        return Err(InvalidReport::new(format!("gzip of more than {} MiB", MAX_TEXT >> 20)));
    }
    Ok(text)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, InvalidReport> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(InvalidReport::new("UTF-16 that ends within a character"));
    }
    let characters = char::decode_utf16(units.iter().map(|pair| unit(*pair)));
    Ok(characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

/// JSON may escape half of a surrogate pair (RFC 8259 §8.2), which a Rust string cannot hold.
fn without_lone_surrogates(text: String) -> String {
    if !text.contains(r"\ud") && !text.contains(r"\uD") {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('\\') {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let (escape, length) = match (escaped(rest), escaped(rest.get(6..).unwrap_or_default())) {
            (Some(high), Some(low)) if HIGH_SURROGATES.contains(&high) && LOW_SURROGATES.contains(&low) => {
                (&rest[..12], 12)
            }
            (Some(unit), _) if HIGH_SURROGATES.contains(&unit) || LOW_SURROGATES.contains(&unit) => (r"\ufffd", 6),
            (Some(_), _) => (&rest[..6], 6),
            // Another escape: the escaped character must not start a new one.
            (None, _) => {
                let length = rest.chars().take(2).map(char::len_utf8).sum();
                (&rest[..length], length)
            }
        };
        kept.push_str(escape);
        rest = &rest[length..];
    }
    kept + rest
}

/// The code unit of a `\uXXXX` at the start of the text.
fn escaped(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(r"\u")?.get(..4)?;
    // A number may have a sign, but an escape may not.
    let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::image::Layer;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        Layer::gzip_of(bytes).bytes.to_vec()
    }

    #[test]
    fn encodings() {
        let json = r#"{"a": "ü😀"}"#;
        let wide = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.iter().copied().chain(json.encode_utf16().flat_map(bytes)).collect()
        };
        for bytes in [
            json.as_bytes().to_vec(),
            format!("\u{feff}{json}").into_bytes(),
            wide(b"\xff\xfe", u16::to_le_bytes),
            wide(b"\xfe\xff", u16::to_be_bytes),
            wide(b"", u16::to_le_bytes),
            wide(b"", u16::to_be_bytes),
            gzip(json.as_bytes()),
            gzip(&wide(b"\xff\xfe", u16::to_le_bytes)),
            [gzip(&json.as_bytes()[..5]), gzip(&json.as_bytes()[5..])].concat(),
        ] {
            assert_eq!(text(&bytes).as_deref(), Ok(json), "{bytes:x?}");
        }
        assert_eq!(text(b"{\"a\": \"\xe4\"}").unwrap(), "{\"a\": \"\u{fffd}\"}");
        assert_eq!(text(b"").unwrap(), "");
    }

    #[test]
    fn broken_encodings() {
        let whole = gzip(br#"{"a": 1}"#);
        for (bytes, part) in [
            (whole[..whole.len() - 1].to_vec(), "gzip"),
            ([&whole[..], b"x"].concat(), "gzip"),
            (gzip(&vec![b' '; usize::try_from(MAX_TEXT).unwrap() + 1]), "more than 64 MiB"),
            (b"\xff\xfe{".to_vec(), "UTF-16"),
        ] {
            assert!(text(&bytes).unwrap_err().to_string().contains(part), "{part}");
        }
    }

    #[test]
    fn lone_surrogates() {
        for (json, read) in [
            (r#""bad \ud83d""#, r#""bad \ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d \ud7ff""#, r#""\\ud83d \ud7ff""#),
            (r#""\\\ud83dx""#, r#""\\\ufffdx""#),
            (r#""\ud83d\n\ude""#, r#""\ufffd\n\ude""#),
            (r#""\ud8+1 \ü"#, r#""\ud8+1 \ü"#),
        ] {
            assert_eq!(text(json.as_bytes()).as_deref(), Ok(read));
        }
    }
}
