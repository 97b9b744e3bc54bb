//! Archives in every form that a reader may accept, and near-archives. The same on every run.

use std::io::Write as _;

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;

const BLOCK: usize = 512;
const FIELD: std::ops::Range<usize> = 148..156;

/// Which sum the checksum of a header contains.
#[derive(Clone, Copy)]
enum Sum {
    Unsigned,
    Signed,
    /// Bytes are changed so that they sum to zero as signed numbers.
    Zero,
    Wrong,
}

/// Thousands of cases.
pub(crate) fn corpus() -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(0x7461_7221);
    let mut cases = Vec::new();
    for _ in 0..400 {
        for sum in [Sum::Unsigned, Sum::Unsigned, Sum::Signed, Sum::Zero, Sum::Wrong] {
            let header = header(&mut rng, sum);
            cases.push(archive(&mut rng, &header));
        }
    }
    let packed: Vec<_> = (0..400).map(|_| packed(&mut rng)).collect();
    cases.extend(packed);
    cases.extend((0..200).map(|_| noise(&mut rng)));
    cases
}

fn sums(block: &[u8]) -> (i64, i64) {
    let outside = || block[..FIELD.start].iter().chain(&block[FIELD.end..]);
    let unsigned: i64 = outside().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = outside().map(|byte| i64::from(byte.cast_signed())).sum();
    (unsigned + 256, signed + 256)
}

fn header(rng: &mut Rng, sum: Sum) -> [u8; BLOCK] {
    let mut header = match rng.u8(..3) {
        0 => tar::Header::new_old(),
        1 => tar::Header::new_ustar(),
        _ => tar::Header::new_gnu(),
    };
    header.set_path(format!("some/file-{}", rng.u16(..))).expect("a short path");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(rng.u64(..600));
    let kinds = [b'0', 0, b'5', b'2', b'7', b'g', b'x', b'L', b'Z'];
    header.set_entry_type(tar::EntryType::new(kinds[if rng.bool() { 0 } else { rng.usize(..kinds.len()) }]));
    let mut block = *header.as_bytes();
    // Bytes that no reader needs; some have the first bit set, so that the sums differ.
    for byte in &mut block[400..500] {
        *byte = if rng.bool() { rng.u8(..) } else { 0 };
    }
    if matches!(sum, Sum::Zero) {
        let mut missing = -sums(&block).1;
        for byte in &mut block[300..] {
            let now = i64::from(byte.cast_signed());
            let to = (now + missing).clamp(-128, 127);
            missing -= to - now;
            *byte = to.to_le_bytes()[0];
        }
    }
    let (unsigned, signed) = sums(&block);
    let says = match sum {
        Sum::Unsigned => unsigned,
        Sum::Signed => signed,
        Sum::Zero => 0,
        Sum::Wrong => unsigned + 1 + rng.i64(..5),
    };
    block[FIELD].copy_from_slice(&field(rng, says));
    block
}

/// The number in one of the formats that readers accept.
fn field(rng: &mut Rng, value: i64) -> [u8; 8] {
    let digits = format!("{:o}", value.unsigned_abs());
    let sign = if value < 0 { "-" } else { "" };
    let text = match rng.u8(..14) {
        0 => format!("{sign}{digits:0>6}\0 "),
        1 => format!("{digits:0>7}\0"),
        2 => format!("{digits:0>8}"),
        3 => format!("{digits:>6}\0 "),
        4 => format!("{sign}{digits}\0"),
        5 => format!("{sign}{digits} junk"),
        6 => format!("{digits}\0junk"),
        7 => format!("\0{digits}"),
        8 => format!("\t{sign}{digits}\n"),
        9 => format!("{sign}0o{digits}"),
        10 => format!("{sign}{}_{}", &digits[..1], &digits[1..]),
        11 => format!("+{digits}"),
        12 if value == 0 => ["        ", "\0", "\0junk", "  \0 77", " \0 \0 \0 \0"][rng.usize(..5)].to_owned(),
        _ => {
            let mut binary = value.to_be_bytes();
            binary[0] = if value < 0 { 0xff } else { 0x80 };
            return binary;
        }
    };
    let mut field = [if rng.bool() { 0 } else { b' ' }; 8];
    let length = text.len().min(8);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
    field
}

fn archive(rng: &mut Rng, header: &[u8; BLOCK]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match rng.u8(..10) {
        0 => bytes.extend_from_slice(&[b'x'; BLOCK]),
        1 => bytes.extend_from_slice(&[0; BLOCK]),
        2 => bytes.extend_from_slice(&[b'x'; 3 * BLOCK]),
        _ => {}
    }
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&[b'c'; 2 * BLOCK]);
    if rng.bool() {
        bytes.extend_from_slice(&[0; 2 * BLOCK]);
    }
    bytes
}

/// Compressed in one or several members or frames, possibly with data before them.
fn packed(rng: &mut Rng) -> Vec<u8> {
    let sum = [Sum::Unsigned, Sum::Signed, Sum::Zero, Sum::Wrong][rng.usize(..4)];
    let header = header(rng, sum);
    let archive = archive(rng, &header);
    let (first, second) = archive.split_at(rng.usize(..archive.len()));
    match rng.u8(..6) {
        0 => gzip(&archive),
        1 => [gzip(first), gzip(second)].concat(),
        2 => [gzip(b""), gzip(&archive), b"what follows".to_vec()].concat(),
        3 => zstd(&archive),
        4 => [zstd(first), zstd(second)].concat(),
        _ => [&b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(&archive)].concat(),
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).and_then(|()| encoder.finish()).expect("writing to memory")
}

fn zstd(content: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(3 * BLOCK).collect()
}
