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

/// In the format of Unix v7: no magic, only a checksum.
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
fn archives_are_detected_by_content() {
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
fn compressed_tars_are_inspected() {
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
        ("many empty members", many_members[..SNIFF_LENGTH].to_vec(), true),
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
        ("zstd of a short text", zstd(b"x"), false),
        ("cut zstd", zstd(&tar())[..30].to_vec(), true),
        ("zstd with a large window", b"\x28\xb5\x2f\xfd\x00\xb8rest that follows".to_vec(), true),
        ("zip", b"PK\x03\x04".to_vec(), false),
        ("wasm", b"\0asm\x01\0\0\0".to_vec(), false),
        ("nothing", vec![], false),
    ] {
        assert_eq!(is_tar_like(&bytes), is_tar, "{name}");
    }
}

/// A header with the given checksum field. The other bytes are chosen so that they sum to `unsigned` or, if that is
/// `None`, to a signed sum of zero.
fn header(field: [u8; 8], unsigned: Option<i64>) -> [u8; BLOCK] {
    let mut block: [u8; BLOCK] = v7_tar().try_into().unwrap();
    block[148..156].copy_from_slice(&field);
    let signed = |block: &[u8; BLOCK]| {
        block[..148].iter().chain(&block[156..]).map(|b| i64::from(b.cast_signed())).sum::<i64>() + 256
    };
    let mut missing = unsigned.unwrap_or(0) - signed(&block);
    for byte in &mut block[300..] {
        let step = missing.clamp(-128, 127);
        *byte = u8::from_ne_bytes(i8::try_from(step).unwrap().to_ne_bytes());
        missing -= step;
    }
    assert_eq!(missing, 0);
    block
}

#[test]
fn every_encoding_of_a_checksum_is_accepted() {
    for (field, sum) in [
        (*b"004000\0 ", Some(0o4000)),
        (*b"  4000\0 ", Some(0o4000)),
        (*b"\0 4000\0 ", Some(0o4000)),
        (*b"4000\0xyz", Some(0o4000)),
        (*b"4000   \0", Some(0o4000)),
        (*b"00004000", Some(0o4000)),
        (*b"\t+4000\n\0", Some(0o4000)),
        (*b"0o4000\0\0", Some(0o4000)),
        (*b"4_0_00\0\0", Some(0o4000)),
        (*b"-4000\0\0\0", Some(-0o4000)),
        (*b"\xc2\xa04000\0\0", Some(0o4000)),
        (*b"\x80\0\0\0\0\0\x08\0", Some(0o4000)),
        (*b"\xff\xff\xff\xff\xff\xff\xf8\0", Some(-0o4000)),
        (*b"        ", None),
        (*b"\0\0\0\0\0\0\0\0", None),
        (*b"\0junk123", None),
        (*b"  \0  77 ", None),
        (*b"000000\0 ", None),
        (*b"0       ", None),
    ] {
        let block = header(field, sum);
        assert!(header::may_be_header(&block), "{}", field.escape_ascii());
        assert!(is_tar_like(&block) && holds_archive(&block), "{}", field.escape_ascii());
        let mut wrong = block;
        wrong[0] ^= 1;
        assert!(!header::may_be_header(&wrong), "{}: the sum differs", field.escape_ascii());
    }
    // strtoul reads past the end of the field.
    let mut beyond = header([b' '; 8], Some(0o14000));
    let before: u32 = beyond[156..162].iter().map(|byte| u32::from(*byte)).sum();
    beyond[156..162].copy_from_slice(b"14000\0");
    let after: u32 = beyond[156..162].iter().map(|byte| u32::from(*byte)).sum();
    for _ in before..after {
        *beyond[300..].iter_mut().find(|byte| matches!(byte, 1..=127)).unwrap() -= 1;
    }
    assert!(header::may_be_header(&beyond));
    assert!(!header::may_be_header(&[b'x'; BLOCK]));
}

#[test]
fn data_before_a_header_does_not_hide_it() {
    let (block, blank) = (header(*b"004000\0 ", Some(0o4000)), header([b' '; 8], None));
    let text = [b'x'; BLOCK];
    assert!(is_tar_like(&[&text[..], &block].concat()), "GNU tar skips to it");
    let nul = header(*b" \0 \0 \0 \0", None);
    assert!(is_tar_like(&[&text[..], &nul].concat()), "to GNU tar a NUL after spaces is 0");
    assert!(
        !is_tar_like(&[&text[..], &blank].concat()),
        "GNU tar does not accept it as a header, and no other reader skips"
    );
    assert!(holds_archive(&[&text[..], &blank].concat()), "attachments may contain no header at any position");
    assert!(holds_archive(&[&text[..], &block[..400]].concat()) == header::may_be_header(&filled(&block[..400])));
    assert!(!holds_archive(&text.repeat(3)));
    assert!(holds_archive(b"{}PK\x05\x06"), "a zip is read from its end");
    for pack in [gzip, zstd] {
        assert!(is_tar_like(&pack(&blank)));
        assert!(is_tar_like(&pack(&[&text.repeat(100)[..], &block].concat())));
        assert!(is_tar_like(&[pack(&text), pack(&block)].concat()), "in a second member");
        assert!(is_tar_like(&[&pack(&text)[..], b"what is this"].concat()), "another decoder may read it");
        assert!(!is_tar_like(&pack(&text.repeat(3))));
    }
}

/// One in 280 compressed layers of 64 KiB had such a block when any reader's way to read the number counted for it.
#[test]
fn random_content_is_not_taken_for_a_header() {
    for field in [*b"\x903\xff\x01xyz\x02", *b"\xf1_3\x9c\0\0\0\0", *b"-3      ", *b"\x80\0\0\0\0\0\0\x03"] {
        let block = header(field, Some(if field[0] == b'-' { -3 } else { 3 }));
        assert!(!header::may_be_skipped_to(&block), "{}: GNU tar does not accept it", field.escape_ascii());
        assert!(!is_tar_like(&[&[b'x'; BLOCK][..], &block].concat()));
    }
    assert!(!header::may_be_header(&header(*b"\x903\xff\x01xyz\x02", Some(3))), "nor does any other reader");
    // GNU tar skips only in what it does not unpack.
    let after =
        |first: &[u8]| [first, &vec![0xff; BLOCK - first.len()][..], &header(*b"004000\0 ", Some(0o4000))].concat();
    assert!(!starts_with_header(&after(b"\x1f\x8b\x08\0")));
    assert!(is_tar_like(&after(b"\x50\x2a\x4d\x18\xf8\x03\0\0")), "GNU tar knows no skippable frames of zstd");
}

fn filled(bytes: &[u8]) -> [u8; BLOCK] {
    blocks(bytes).next().unwrap()
}

#[test]
fn mountable_file_systems_count_as_archives() {
    for (at, magic) in [(0, &b"hsqs"[..]), (32, b"SIF_MAGIC"), (1024, b"\xe2\xe1\xf5\xe0"), (32769, b"CD001")] {
        let mut image = vec![b'x'; at];
        image.extend_from_slice(magic);
        assert!(is_tar_like(&image), "{at}");
    }
}
