//! Hostile and damaged archives.

use super::*;

/// An archive with these entries: the type, the name and the content, with headers written as given.
fn archive(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, content) in entries {
        bytes.extend(entry(*kind, name, content, content.len() as u64));
    }
    bytes.extend([0; 1024]);
    bytes
}

fn entry(kind: EntryType, name: &str, content: &[u8], size: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    // Past the checks of `set_path`.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.as_mut_bytes()[157..157 + 11].copy_from_slice(b"/etc/passwd");
    }
    header.set_cksum();
    let padding = content.len().next_multiple_of(512) - content.len();
    [header.as_bytes(), content, &vec![0; padding]].concat()
}

fn open(bytes: &[u8]) -> Result<BundleArchive, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar");
    std::fs::write(&path, bytes).unwrap();
    BundleArchive::open(&path)
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).expect_err("it is refused")
}

#[test]
fn only_regular_files_of_a_layout_are_accepted() {
    let digest = Digest::sha256(b"x");
    let blob = digest.layout_name();
    let file = EntryType::Regular;
    let folders = (EntryType::Directory, "blobs/sha256/", &b""[..]);
    let good = open(&archive(&[folders, (file, "oci-layout", b"{}"), (file, &blob, b"x")])).unwrap();
    assert_eq!(good.files.len(), 2);
    for (kind, name, what) in [
        (EntryType::Symlink, "index.json", "not a regular file"),
        (EntryType::Link, "index.json", "not a regular file"),
        (EntryType::Symlink, &*blob, "not a regular file"),
        (EntryType::Fifo, "index.json", "not a regular file"),
        (EntryType::Char, "index.json", "not a regular file"),
        (EntryType::GNULongName, "././@LongLink", "not a regular file"),
        (EntryType::GNUSparse, &*blob, "not a regular file"),
        (EntryType::XHeader, "PaxHeaders/x", "not a regular file"),
        (EntryType::XGlobalHeader, "pax_global_header", "not a regular file"),
        (file, "../index.json", "not a file of an OCI image layout"),
        (file, "/etc/passwd", "not a file of an OCI image layout"),
        (file, "blobs/sha256/../../index.json", "not a file of an OCI image layout"),
        (file, "blobs/sha256/abc", "not a file of an OCI image layout"),
        (file, "blobs/md5/00112233445566778899aabbccddeeff", "not a file of an OCI image layout"),
        (file, "index.json/", "not a file of an OCI image layout"),
        (file, "INDEX.JSON", "not a file of an OCI image layout"),
        (file, "manifest.json", "not a file of an OCI image layout"),
        (EntryType::Directory, "../", "not a file of an OCI image layout"),
        (EntryType::Directory, "blobs/sha256/x/", "not a file of an OCI image layout"),
    ] {
        let content: &[u8] = if kind == file { b"{}" } else { b"" };
        let why = refusal(&archive(&[(file, "oci-layout", b"{}"), (kind, name, content)]));
        assert!(why.contains(what), "{kind:?} {name}: {why}");
    }
}

#[test]
fn two_files_of_one_name_are_refused() {
    let file = EntryType::Regular;
    for names in [["index.json", "index.json"], ["index.json", "./index.json"]] {
        let why = refusal(&archive(&[(file, names[0], b"{}"), (file, names[1], b"[]")]));
        assert!(why.contains("two files index.json"), "{why}");
    }
}

#[test]
fn truncated_and_damaged_archives_are_refused() {
    let blob = Digest::sha256(&[7; 2000]).layout_name();
    let whole = archive(&[(EntryType::Regular, "oci-layout", b"{}"), (EntryType::Regular, &blob, &[7; 2000])]);
    assert!(open(&whole).is_ok());
    for length in [1024 + 512 + 1, 1024 + 512 + 1999] {
        assert!(refusal(&whole[..length]).contains("truncated"), "{length}");
    }
    assert!(refusal(&whole[..1024 + 100]).contains("damaged"), "a header that ends early");
    let mut damaged = whole.clone();
    damaged[1024 + 5] ^= 1;
    assert!(refusal(&damaged).contains("damaged"), "the checksum of a header");
    for nothing in [&b""[..], &[0; 1024], b"{}", &[0x1f, 0x8b, 8, 0, 0, 0]] {
        open(nothing).expect_err("it is not an archive");
    }
    // Sizes that would lead past the end, or overflow.
    for size in [2001 * 512, u64::MAX - 100, i64::MAX as u64] {
        let mut bytes = entry(EntryType::Regular, "oci-layout", b"{}", 2);
        bytes.extend(entry(EntryType::Regular, &blob, b"x", size));
        let why = refusal(&bytes);
        assert!(why.contains("truncated") || why.contains("damaged"), "{size}: {why}");
    }
}

/// The usual mistakes, which are no damage.
#[test]
fn non_archives_are_refused_with_a_hint() {
    for (start, what) in [
        (&[0x1f, 0x8b, 8, 0, 0, 0][..], "it is compressed with gzip; decompress it first: gunzip "),
        (&[0x28, 0xb5, 0x2f, 0xfd, 4], "compressed with zstd"),
        (b"\xfd7zXZ\0\0", "compressed with xz"),
        (b"BZh91AY", "compressed with bzip2"),
    ] {
        let why = refusal(&[start, &[0; 2048]].concat());
        assert!(why.contains(what), "{why}");
    }
    let page = "<html><body>sign in</body></html>".repeat(100);
    for other in [page.as_bytes(), &page.as_bytes()[..100], b"PK\x03\x04", &[7; 5000]] {
        let why = refusal(other);
        assert!(why.ends_with("/bundle.tar: it is not a tar archive"), "{why}");
    }
    let folder = tempfile::tempdir().unwrap();
    let why = BundleArchive::open(folder.path()).expect_err("it is refused");
    assert!(why.contains("it is a directory"), "{why}");
    let why = BundleArchive::open(Path::new("-")).expect_err("it is refused");
    assert!(why.contains("it must be a file"), "{why}");
}

#[test]
fn reads_are_bounded_and_blobs_are_verified() {
    let (good, wrong) = (Digest::sha256(b"good"), Digest::sha256(b"other"));
    let file = EntryType::Regular;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar");
    let large = vec![b' '; 5000];
    let entries: [(EntryType, &str, &[u8]); 3] =
        [(file, "index.json", &large), (file, &good.layout_name(), b"good"), (file, &wrong.layout_name(), b"good")];
    std::fs::write(&path, archive(&entries)).unwrap();
    let archive = BundleArchive::open(&path).unwrap();
    assert!(archive.small("index.json", 4999).unwrap_err().contains("at most 4999 are read"));
    assert_eq!(archive.small("index.json", 5000).unwrap().len(), 5000);
    assert_eq!(archive.small_blob(good, 10).unwrap(), b"good");
    assert!(archive.small_blob(wrong, 10).unwrap_err().contains("does not match the digest in its name"));
    assert!(archive.small_blob(Digest::sha256(b"absent"), 10).unwrap_err().contains("it has no blobs/sha256/"));
    let mut text = Vec::new();
    archive.blob(good, 4).unwrap().read_to_end(&mut text).unwrap();
    assert_eq!(text, b"good");
    assert!(archive.blob(good, 5).is_err(), "the size is another");
}

/// What a writer has written so far is whole after any interruption, and the rest is written again.
#[test]
fn an_interrupted_archive_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle.tar");
    let blobs: Vec<Vec<u8>> = (0..4).map(|number| vec![number; 700]).collect();
    let fill = |writer: &mut BundleWriter, blob: &[u8]| {
        let digest = Digest::sha256(blob);
        if !writer.has(digest) {
            let mut give =
                |write: &mut dyn FnMut(&[u8]) -> io::Result<()>| write(blob).map_err(|error| error.to_string());
            writer.put_blob(digest, blob.len() as u64, &mut give).unwrap();
        }
    };
    let mut writer = BundleWriter::open(&target).unwrap();
    writer.put("oci-layout", b"{}").unwrap();
    blobs.iter().for_each(|blob| fill(&mut writer, blob));
    let partial = writer.path().to_owned();
    drop(writer);
    let whole = std::fs::read(&partial).unwrap();
    for length in 0..=whole.len() {
        if length % 97 != 0 && length % 512 != 0 {
            continue;
        }
        let mut bytes = whole[..length].to_vec();
        // What was not written yet may also be garbage. A file of nothing else is not known to be a bundle.
        bytes.extend(vec![b'x'; if length == 0 { 0 } else { 300 }]);
        std::fs::write(&partial, &bytes).unwrap();
        let mut writer = BundleWriter::open(&target).unwrap();
        if writer.is_new() {
            writer.put("oci-layout", b"{}").unwrap();
        }
        blobs.iter().for_each(|blob| fill(&mut writer, blob));
        writer.finish().unwrap();
        let archive = BundleArchive::open(&target).unwrap();
        for blob in &blobs {
            assert_eq!(archive.small_blob(Digest::sha256(blob), 1000).unwrap(), *blob, "{length}");
        }
        assert_eq!(archive.files.len(), 5);
        std::fs::remove_file(&target).unwrap();
    }
}

#[test]
fn two_exports_do_not_write_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle.tar");
    let mut writer = BundleWriter::open(&target).unwrap();
    writer.put("oci-layout", b"{}").unwrap();
    assert!(BundleWriter::open(&target).is_err_and(|why| why.contains("another export writes this file")));
    drop(writer);
    assert!(!BundleWriter::open(&target).unwrap().is_new(), "it goes on once the other one has ended");
}

#[test]
fn interrupted_or_wrong_content_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle.tar");
    let mut writer = BundleWriter::open(&target).unwrap();
    writer.put("oci-layout", b"{}").unwrap();
    let before = std::fs::metadata(writer.path()).unwrap().len();
    let digest = Digest::sha256(b"12345");
    for (pieces, what) in [
        (vec!["123"], "3 of 5 bytes"),
        (vec!["123", "456"], "more bytes arrive than announced"),
        (vec!["12346"], "does not match its digest"),
    ] {
        let mut give = |write: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
            pieces.iter().try_for_each(|piece| write(piece.as_bytes())).map_err(|error| error.to_string())
        };
        let why = writer.put_blob(digest, 5, &mut give).unwrap_err();
        assert!(why.contains(what), "{why}");
        assert!(!writer.has(digest));
        assert_eq!(std::fs::metadata(writer.path()).unwrap().len(), before);
    }
    let mut broken = |_: &mut dyn FnMut(&[u8]) -> io::Result<()>| Err("the gate went away".to_owned());
    assert_eq!(writer.put_blob(digest, 5, &mut broken).unwrap_err(), "the gate went away");
    writer.finish().unwrap();
    assert!(BundleWriter::open(&target).is_err_and(|why| why.contains("exists already")));
}

#[test]
fn an_export_overwrites_neither_a_link_nor_a_file_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let (target, victim) = (dir.path().join("x.tar"), dir.path().join("victim"));
    let partial = dir.path().join("x.tar.partial");
    std::fs::write(&victim, "").unwrap();
    std::os::unix::fs::symlink(&victim, &partial).unwrap();
    assert!(BundleWriter::open(&target).is_err(), "a link");
    std::fs::remove_file(&partial).unwrap();
    for other in ["notes", "oci-layout of another program", &"x".repeat(3000)] {
        std::fs::write(&partial, other).unwrap();
        let why = BundleWriter::open(&target).err().expect("it is refused");
        assert!(why.contains("this is not a partial bundle"), "{why}");
        assert_eq!(std::fs::read_to_string(&partial).unwrap(), other);
    }
    std::fs::remove_file(&partial).unwrap();
    let mut writer = BundleWriter::open(&target).unwrap();
    writer.put("oci-layout", b"{}").unwrap();
    drop(writer);
    for length in [1024, 700, 512, 100, 5, 0] {
        File::options().write(true).open(&partial).unwrap().set_len(length).unwrap();
        BundleWriter::open(&target).expect("an export that was interrupted anywhere goes on");
        std::fs::write(&partial, archive(&[(EntryType::Regular, "oci-layout", b"{}")])).unwrap();
    }
}
