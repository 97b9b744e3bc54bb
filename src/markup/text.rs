//! The text of a file.

/// The text of a file in UTF-8, or in UTF-16 with a byte order mark, which PowerShell's `>` writes and kubectl reads.
///
/// # Errors
/// The reason why the content is not text.
pub fn decode_text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let text = match &*bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ => String::from_utf8(bytes).map_err(|_| "not UTF-8 text, and not UTF-16 with a byte order mark")?,
    };
    match text.contains('\0') {
        true => Err("not text: it has zero bytes; UTF-16 needs a byte order mark"),
        false => Ok(text),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, &'static str> {
    let (units, []) = bytes.as_chunks::<2>() else { return Err("UTF-16 that ends within a character") };
    let characters = char::decode_utf16(units.iter().map(|pair| unit(*pair)));
    characters.collect::<Result<_, _>>().map_err(|_| "not valid UTF-16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        let text = "name: ü😀\n";
        let wide = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
        };
        for bytes in [text.into(), wide(b"\xff\xfe", u16::to_le_bytes), wide(b"\xfe\xff", u16::to_be_bytes)] {
            assert_eq!(decode_text(bytes).as_deref(), Ok(text));
        }
        assert_eq!(decode_text(Vec::new()).as_deref(), Ok(""));
        for (bytes, expected) in [
            (wide(b"", u16::to_le_bytes), "not UTF-8"),
            ("name: x".encode_utf16().flat_map(u16::to_le_bytes).collect(), "needs a byte order mark"),
            (b"\xff\xfea\0b".to_vec(), "ends within a character"),
            (b"\xff\xfe\x00\xd8a\0".to_vec(), "not valid UTF-16"),
            (b"a: \xe4".to_vec(), "not UTF-8"),
        ] {
            assert!(decode_text(bytes.clone()).unwrap_err().contains(expected), "{bytes:x?}");
        }
    }
}
