use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    builder.append_data(&mut header, "etc/passwd", &b"root:"[..]).unwrap();
    builder.into_inner().unwrap()
}

/// As Unix v7 wrote it: no magic, only the checksum says so.
fn v7_tar() -> Vec<u8> {
    let mut header = tar::Header::new_old();
    header.set_path("x").unwrap();
    header.set_size(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn archives_are_known_by_their_bytes() {
    for (bytes, format) in [
        (tar(), Some("tar")),
        (v7_tar(), Some("tar")),
        (vec![0; 1024], Some("tar")),
        (gzip(b"x"), Some("gzip")),
        (zstd(b"x"), Some("zstd")),
        (b"\x50\x2a\x4d\x18\x00\x00\x00\x00".to_vec(), Some("zstd")),
        (b"BZh91AY".to_vec(), Some("bzip2")),
        (b"\xfd7zXZ\0\0".to_vec(), Some("xz")),
        (b"\x04\x22\x4d\x18".to_vec(), Some("lz4")),
        (b"PK\x03\x04".to_vec(), Some("zip")),
        (vec![], None),
        (b"{}".to_vec(), None),
        (vec![b'x'; 4096], None),
        (vec![0; 511], None),
    ] {
        assert_eq!(looks_like_archive(&bytes), format, "{:?}", &bytes[..bytes.len().min(8)]);
    }
}

#[test]
fn compressed_tars_are_looked_into() {
    let two_members = [gzip(b""), gzip(&tar())].concat();
    let many_members = gzip(b"").repeat(5000);
    let two_frames = [zstd(b""), zstd(&tar())].concat();
    let text = vec![b'x'; 4096];
    for (name, bytes, is_tar) in [
        ("tar", tar(), true),
        ("v7", v7_tar(), true),
        ("empty tar", vec![0; 1024], true),
        ("gzip of tar", gzip(&tar()), true),
        ("gzip of v7", gzip(&v7_tar()), true),
        ("second gzip member", two_members, true),
        ("members that say nothing", many_members[..SNIFF_LENGTH].to_vec(), true),
        ("cut gzip", gzip(&tar())[..30].to_vec(), true),
        ("zstd of tar", zstd(&tar()), true),
        ("second zstd frame", two_frames, true),
        ("skippable frame", [&b"\x50\x2a\x4d\x18\x00\x00\x00\x00"[..], &zstd(&tar())].concat(), true),
        ("bzip2", b"BZh91AY".to_vec(), true),
        ("xz", b"\xfd7zXZ\0\0".to_vec(), true),
        ("gzip of text", gzip(&text), false),
        ("gzip of a short text", gzip(b"x"), false),
        ("zstd of text", zstd(&text), false),
        ("text", text, false),
        ("JSON", b"{}".to_vec(), false),
        ("zip", b"PK\x03\x04".to_vec(), false),
        ("wasm", b"\0asm\x01\0\0\0".to_vec(), false),
        ("nothing", vec![], false),
    ] {
        assert_eq!(is_tar_like(&bytes), is_tar, "{name}");
    }
}

#[test]
fn checksums() {
    let block: [u8; BLOCK] = v7_tar().try_into().unwrap();
    assert!(has_tar_checksum(&block));
    let mut wrong = block;
    wrong[0] ^= 1;
    assert!(!has_tar_checksum(&wrong));
    let mut signed = block;
    signed[0] = 0xff;
    assert!(!has_tar_checksum(&signed));
    let sum: i64 = signed[..148].iter().chain(&signed[156..]).map(|b| i64::from(b.cast_signed())).sum::<i64>() + 256;
    signed[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(has_tar_checksum(&signed), "summed over signed bytes");
    assert!(holds_tar_header(&[&[b'x'; BLOCK][..], &block].concat()), "after another block");
    assert!(!holds_tar_header(&[b'x'; 2 * BLOCK]));
}
