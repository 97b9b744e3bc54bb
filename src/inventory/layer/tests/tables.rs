//! Layers with tables of contents, which some clients read instead of the layer.

mod hidden;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use super::*;

/// An entry of an archive and of its table.
#[derive(Clone)]
struct ArchiveItem {
    kind: &'static str,
    path: &'static str,
    mode: u32,
    target: &'static str,
    content: Vec<u8>,
}

fn item(kind: &'static str, path: &'static str, mode: u32, target: &'static str, content: &[u8]) -> ArchiveItem {
    ArchiveItem { kind, path, mode, target, content: content.to_vec() }
}

/// One file of this size, and one of each kind.
fn items(size: usize) -> Vec<ArchiveItem> {
    vec![
        item("dir", "app/", 0o755, "", b""),
        item("reg", "app/package.json", 0o644, "", br#"{"name": "lazy", "version": "1.0.0"}"#),
        item("reg", "app/large", 0o755, "", &vec![b'x'; size]),
        item("reg", "app/empty", 0o644, "", b""),
        item("symlink", "app/link", 0o777, "package.json", b""),
        item("hardlink", "app/hard", 0o644, "app/package.json", b""),
        item("char", "app/null", 0o666, "", b""),
        item("fifo", "app/pipe", 0o600, "", b""),
        item("reg", "app/.wh.gone", 0o644, "", b""),
    ]
}

/// The entries as an archive without an end.
fn tar_of(items: &[ArchiveItem]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(match item.kind {
            "dir" => tar::EntryType::Directory,
            "symlink" => tar::EntryType::Symlink,
            "hardlink" => tar::EntryType::Link,
            "char" => tar::EntryType::Char,
            "fifo" => tar::EntryType::Fifo,
            _ => tar::EntryType::Regular,
        });
        header.set_path(item.path).unwrap();
        if !item.target.is_empty() {
            header.set_link_name(item.target).unwrap();
        }
        header.set_mode(item.mode);
        header.set_uid(1000);
        header.set_gid(100);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_size(item.content.len() as u64);
        header.set_cksum();
        builder.append(&header, &item.content[..]).unwrap();
    }
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// The table that lists the entries, with chunks of 4 MiB.
fn table_of(items: &[ArchiveItem]) -> Value {
    let mut entries = Vec::new();
    for ArchiveItem { kind, path, mode, target, content } in items {
        let mut entry = json!({"name": path, "type": kind, "mode": mode, "uid": 1000, "gid": 100});
        if !target.is_empty() {
            entry["linkName"] = json!(target);
        }
        if *kind == "char" {
            (entry["devMajor"], entry["devMinor"]) = (json!(1), json!(3));
        }
        let mut chunks = content.chunks(4 << 20).enumerate();
        if let Some((_, first)) = chunks.next() {
            entry["size"] = json!(content.len());
            entry["digest"] = json!(Digest::sha256(content));
            entry["chunkDigest"] = json!(Digest::sha256(first));
            if first.len() < content.len() {
                entry["chunkSize"] = json!(first.len());
            }
        }
        entries.push(entry);
        for (place, chunk) in chunks {
            let (offset, digest) = (place * (4 << 20), Digest::sha256(chunk));
            let size = chunk.len();
            entries.push(json!({
                "name": path, "type": "chunk", "chunkOffset": offset, "chunkSize": size, "chunkDigest": digest,
            }));
        }
    }
    json!({"version": 1, "entries": entries})
}

fn gzip(content: &[u8]) -> Vec<u8> {
    crate::sample::image::Layer::gzip_of(content).bytes.to_vec()
}

/// The table of eStargz in the archive.
fn index(table: &str) -> ArchiveItem {
    item("reg", "stargz.index.json", 0, "", table.as_bytes())
}

/// The last member of eStargz.
fn footer(offset: usize) -> Vec<u8> {
    let (start, end) = ([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0], [1, 0, 0, 0xff, 0xff]);
    let text = format!("SG\x16\0{offset:016x}STARGZ");
    [&start[..], text.as_bytes(), &end, &[0; 8]].concat()
}

/// A layer of eStargz with this archive and table.
fn stargz(tar: &[u8], table: &str) -> Vec<u8> {
    let (first, last) = (gzip(tar), [&tar_of(&[index(table)])[..], &[0; 1024]].concat());
    [&first[..], &gzip(&last), &footer(first.len())].concat()
}

/// A layer of zstd:chunked with this archive and table.
fn chunked(tar: &[u8], table: &str) -> Vec<u8> {
    let zstd = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
    let skippable = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        [&[0x50, 0x2a, 0x4d, 0x18][..], &length, bytes].concat()
    };
    let (content, packed) = (zstd(&[tar, &[0; 1024]].concat()), zstd(table.as_bytes()));
    let numbers = [content.len() + 8, packed.len(), table.len(), 1, 0, 0, 0];
    let numbers = numbers.iter().flat_map(|number| (*number as u64).to_le_bytes());
    let footer: Vec<u8> = numbers.chain(*b"GNUlInUx").collect();
    [content, skippable(&packed), skippable(b"split"), skippable(&footer)].concat()
}

/// Reads a layer and its table.
fn read_table(layer: &[u8]) -> (LayerReading, LayerTable) {
    let limits = LayerLimits { compares_table: true, ..LayerLimits::of(layer.len() as u64) };
    let reading = read_layer(layer, Algorithm::Sha256, &limits, &std::env::temp_dir()).unwrap();
    let table = reading.table.clone().unwrap();
    (reading, table)
}

/// The difference that is found, whatever the format.
fn difference(tar: &[u8], table: &str) -> String {
    let (_, stargz) = read_table(&stargz(tar, table));
    let (_, chunked) = read_table(&chunked(tar, table));
    assert_eq!(stargz.difference, chunked.difference);
    stargz.difference.unwrap_or_default()
}

#[test]
fn tables_that_list_the_files_are_equal() {
    let (tar, table) = (tar_of(&items(9_000_000)), table_of(&items(9_000_000)).to_string());
    for layer in [stargz(&tar, &table), chunked(&tar, &table)] {
        let (reading, found) = read_table(&layer);
        assert!(reading.diff_id.is_ok() && reading.contents.problems.is_empty(), "{:?}", reading.diff_id);
        assert_eq!((found.difference, found.chunks), (None, None));
        assert_eq!(found.text, Some(Digest::sha256(table.as_bytes())));
        assert_eq!(packages(&reading.contents), packages(&read(&layer).contents), "as without the comparison");
        assert!(read(&layer).table.is_none(), "only if it is asked for");
    }
    let empty = r#"{"version": 1, "entries": null}"#;
    assert_eq!(difference(b"", empty), "");
}

/// Written by the libraries of stargz-snapshotter and containers/storage.
#[test]
fn layers_of_the_real_writers_are_equal_to_their_tables() {
    let text = |digest: &str| Some(digest.parse::<Digest>().unwrap());
    for (layer, is_stargz, wanted) in [
        (
            &include_bytes!("../../../../tests/data/lazy/estargz.tar.gz")[..],
            true,
            "sha256:8627eb0ca1948f4ff13737925110cf18e3c65290b380c725909eb1f2c4ec45d6",
        ),
        (
            &include_bytes!("../../../../tests/data/lazy/stargz.tar.zst")[..],
            true,
            "sha256:c530e00f76f7a4ed72295f2ecaf2456b1721f3d233b54319ba67ecfe1f277dfc",
        ),
        (
            &include_bytes!("../../../../tests/data/lazy/storage.tar.zst")[..],
            false,
            "sha256:93340cd973cc68141bd6e981d673fdbdc85e3b7da78428aaac7962de7a1069e6",
        ),
    ] {
        let (reading, table) = read_table(layer);
        assert_eq!((&table.difference, &table.chunks), (&None, &None), "{wanted}");
        assert_eq!(if is_stargz { table.text } else { table.packed }, text(wanted));
        assert_eq!(packages(&reading.contents)[0], "lazy 1.0.0 in app/hard", "{wanted}");
        assert!(reading.contents.problems.is_empty(), "{:?}", reading.contents.problems);
    }
}

#[test]
fn every_statement_of_a_table_is_compared() {
    let tar = tar_of(&items(10));
    let other = json!(Digest::sha256(b"other"));
    for (place, key, value, wanted) in [
        (1_usize, "mode", json!(0o4755), "another mode of \"app/package.json\""),
        (1, "uid", json!(0), "another owner"),
        (1, "gid", json!(0), "another owner"),
        (1, "size", json!(35), "another size"),
        (1, "digest", other.clone(), "another content of \"app/package.json\""),
        (1, "digest", json!(""), "another content"),
        (1, "digest", json!("md5:00"), "another content"),
        (1, "linkName", json!("/ab/cdef"), "another target of \"app/package.json\""),
        (0, "digest", other.clone(), "another content of \"app\""),
        (1, "chunkDigest", other, "another content"),
        (1, "type", json!("symlink"), "another kind"),
        (1, "name", json!("app/other.json"), "has \"app/other.json\", which its archive does not have"),
        (1, "name", json!("app/large"), "\"app/large\""),
        (1, "name", json!("../../app/package.json"), "leads out of the root"),
        (1, "xattrs", json!({"user.x": "eA=="}), "another list of extended attributes"),
        (1, "xattrs", json!({"": "eA=="}), "cannot be read"),
        (1, "xattrs", json!({"user.x": "?"}), "cannot be read"),
        (1, "Name", json!("app/other"), "cannot be read"),
        (1, "mode", json!(null), "cannot be read"),
        (1, "mode", json!(420.5), "cannot be read"),
        (1, "mode", json!(-1), "cannot be read"),
        (1, "type", json!("file"), "cannot be read"),
        (3, "size", json!(1), "another size"),
        (4, "linkName", json!("other"), "another target of \"app/link\""),
        (5, "linkName", json!("app/large"), "another target of \"app/hard\""),
        (6, "devMinor", json!(4), "another number of \"app/null\""),
        (6, "type", json!("block"), "another kind"),
        (8, "name", json!("app/.wh.other"), "which its archive does not have"),
    ] {
        let mut table = table_of(&items(10));
        table["entries"][place][key] = value.clone();
        let found = difference(&tar, &table.to_string());
        assert!(found.contains(wanted), "{place} {key} {value}: {found}");
    }
}

#[test]
fn tables_with_other_entries_differ() {
    let (tar, list) = (tar_of(&items(10)), table_of(&items(10))["entries"].as_array().unwrap().clone());
    let text = |entries: &[Value]| json!({"version": 1, "entries": entries}).to_string();
    let added = |entry: Value| text(&[&list[..], &[entry]].concat());
    let whole = text(&list);
    let deep = format!(r#"{{"name": "{}", "type": "dir"}}"#, "x".repeat(2 << 20));
    for (what, table, wanted) in [
        ("one is missing", text(&[&list[..1], &list[2..]].concat()), "its table lacks its entry 2"),
        ("one more", added(json!({"name": "bin/sh", "type": "reg"})), "has \"bin/sh\""),
        ("a duplicate", added(list[1].clone()), "has \"app/package.json\" twice"),
        ("the same path, written differently", added(json!({"name": "./x/../app", "type": "dir"})), "twice"),
        ("a chunk of nothing", text(&[json!({"name": "app/", "type": "chunk"})]), "a chunk that follows no file"),
        ("a version from the future", whole.replace("\"version\":1", "\"version\":2"), "cannot be read"),
        ("no version", whole.replace("\"version\":1", "\"tarSplitDigest\":\"x\""), "cannot be read"),
        ("a duplicate key", whole.replacen("\"mode\":", "\"mode\":1,\"mode\":", 1), "cannot be read"),
        ("two lists", whole.replace("\"version\"", "\"entries\":[],\"version\""), "cannot be read"),
        ("an unknown key", whole.replace("\"version\"", "\"Entries\":[],\"version\""), "cannot be read"),
        ("two values", format!("{whole}{whole}"), "cannot be read"),
        ("trailing bytes", format!("{whole}\0"), "cannot be read"),
        ("an early end", whole[..whole.len() - 1].to_owned(), "cannot be read"),
        ("no JSON", "table".into(), "cannot be read"),
        ("a huge entry", format!(r#"{{"version": 1, "entries": [{deep}]}}"#), "an entry is too long"),
    ] {
        let found = difference(&tar, &table);
        assert!(found.contains(wanted), "{what}: {found}");
    }
}

/// What clients make of these archives depends on whether they read the table, even if it has the same entries.
#[test]
fn archives_that_clients_see_differently_are_not_equal_to_any_table() {
    let file = |path| item("reg", path, 0o644, "", b"x");
    for (items, wanted) in [
        (vec![file("a"), file("a")], "its entries 1 and 2 have the same path"),
        (vec![file("a"), file("./a")], "its entries 1 and 2 have the same path"),
        (vec![item("symlink", "a", 0o777, "b", b""), file("a/x")], "its entry 1 has files beneath it"),
        (vec![file("a/b/c"), item("symlink", "a", 0o777, "x", b"")], "its entry 2 has files beneath it"),
        (vec![file("a"), item("reg", ".wh.a", 0o644, "", b"")], "its entry 1 is also deleted"),
        (vec![item("reg", ".wh.a", 0o644, "", b""), file("a/x")], "it deletes a directory in which it has files"),
        (vec![item("reg", ".wh..prefetch.landmark", 0o644, "", b"")], "is special to clients"),
        (vec![item("reg", ".wh..stargz-snapshotter", 0o644, "", b"")], "is special to clients"),
        (vec![file(".wh.a")], "an unusual mark of a deletion"),
        (vec![item("reg", ".wh..wh.plnk", 0o644, "", b"")], "an unusual mark of a deletion"),
        (vec![item("dir", ".wh.a/", 0o755, "", b""), file(".wh.a/x")], "an unusual mark of a deletion"),
        (vec![item("hardlink", "a", 0o644, "b", b""), file("b")], "its entry 1 is a hard link to nothing"),
        (vec![item("hardlink", "a", 0o644, "bin/sh", b"")], "its entry 1 is a hard link to nothing"),
        (vec![file("b"), item("hardlink", "a", 0o4755, "b", b"")], "its entry 2 differs from the file"),
        (vec![item("reg", ".prefetch.landmark", 0o755, "", b"\x7fELF")], "is special to clients"),
        (vec![item("dir", ".stargz-snapshotter/", 0o755, "", b"")], "is special to clients"),
    ] {
        let found = difference(&tar_of(&items), &table_of(&items).to_string());
        assert!(found.contains(wanted), "{wanted}: {found}");
    }
    let landmark = [item("reg", ".no.prefetch.landmark", 0o644, "", b"\x0f")];
    assert_eq!(difference(&tar_of(&landmark), &table_of(&landmark).to_string()), "");
}

/// Clients that do not compare digests look for the table where the footer says that it is.
#[test]
fn the_footer_must_point_to_the_table_that_was_compared() {
    let (tar, table) = (tar_of(&items(10)), table_of(&items(10)).to_string());
    let moved = [&stargz(&tar, &table)[..stargz(&tar, &table).len() - 51], &footer(0)].concat();
    // The table does not begin a member.
    let joined = [gzip(&[&tar[..], &tar_of(&[index(&table)]), &[0; 1024]].concat()), footer(0)].concat();
    let mut elsewhere = chunked(&tar, &table);
    let mut longer = elsewhere.clone();
    let start = elsewhere.len() - 64;
    elsewhere[start] ^= 1;
    longer[start + 8] ^= 1;
    for (what, layer) in [("moved", moved), ("joined", joined), ("elsewhere", elsewhere), ("longer", longer)] {
        let (reading, found) = read_table(&layer);
        assert!(reading.diff_id.is_ok(), "{what}: {:?}", reading.diff_id);
        assert_eq!(found.difference.as_deref(), Some("its end points to another table"), "{what}");
    }
}

#[test]
fn layers_without_one_readable_table_are_not_equal_to_it() {
    let (tar, table) = (tar_of(&items(10)), table_of(&items(10)).to_string());
    let with = |added: &[ArchiveItem]| [&tar[..], &tar_of(added)].concat();
    for (what, layer, wanted) in [
        ("a tar", [&tar[..], &[0; 1024]].concat(), "it has no table"),
        ("a gzip", gzip(&[&tar[..], &[0; 1024]].concat()), "it has no table"),
        ("two tables", stargz(&with(&[index(&table)]), &table), "it has several tables"),
        ("two tables of different formats", chunked(&with(&[index(&table)]), &table), "it has several tables"),
        (
            "a file after the table",
            stargz(&with(&[index(&table), item("reg", "bin/sh", 0o755, "", b"x")]), &table),
            "files follow its table",
        ),
        (
            "no frame of zstd in the table",
            {
                let good = chunked(&tar, &table);
                let start = compress_to_vec(&[&tar[..], &[0; 1024]].concat()[..], CompressionLevel::Fastest).len() + 8;
                [&good[..start], b"none", &good[start + 4..]].concat()
            },
            "cannot be read",
        ),
    ] {
        let (_, found) = read_table(&layer);
        let found = found.difference.unwrap();
        assert!(found.contains(wanted), "{what}: {found}");
    }
}

/// containers/storage divides files by their content, and compares whole files.
#[test]
fn chunks_of_another_size_are_not_compared() {
    let items = [item("reg", "a", 0o644, "", &vec![b'x'; 5 << 20])];
    let chunk =
        |offset: u64, size: u64| json!({"name": "a", "type": "chunk", "chunkOffset": offset, "chunkSize": size});
    let table = |first: u64, rest: &[Value]| {
        let mut file = table_of(&items)["entries"][0].clone();
        file["chunkSize"] = json!(first);
        let entries = [&[file][..], rest].concat();
        json!({"version": 1, "entries": entries}).to_string()
    };
    let (small, usual) = (1 << 20, 4 << 20);
    for (what, table, wanted) in [
        ("another size", table(small, &[chunk(small, usual)]), "another size than 4 MiB"),
        ("a gap", table(usual, &[chunk(usual + 1, small - 1)]), "do not follow each other"),
        ("an overlap", table(usual, &[chunk(small, usual)]), "do not follow each other"),
        ("beyond the end", table(usual, &[chunk(usual, u64::MAX)]), "do not follow each other"),
        ("the end is missing", table(usual, &[]), "lacks chunks of \"a\""),
        ("no digest of a chunk", table(usual, &[chunk(usual, small)]), "without a digest"),
    ] {
        let (_, found) = read_table(&chunked(&tar_of(&items), &table));
        assert_eq!(found.difference, None, "{what}: the whole file is compared");
        let chunks = found.chunks.unwrap_or_default();
        assert!(chunks.contains(wanted), "{what}: {chunks}");
    }
    for place in [0_usize, 1] {
        let mut table = table_of(&items);
        table["entries"][place]["chunkDigest"] = json!(Digest::sha256(b"other"));
        let (_, found) = read_table(&chunked(&tar_of(&items), &table.to_string()));
        assert_eq!(found.difference.as_deref(), Some("its table states another content of \"a\""));
    }
}

/// A layer with too many files for the memory is read without a comparison.
#[test]
fn the_memory_for_a_comparison_is_limited() {
    let names: Vec<String> = (0..200).map(|number| format!("d{number}/f")).collect();
    let entries: Vec<SampleEntry> = names.iter().map(|name| file(name, "x")).collect();
    let tar = archive(&entries);
    let limits = LayerLimits { compares_table: true, names: 10_000, ..LayerLimits::of(tar.len() as u64) };
    let reading = read_layer(&tar[..], Algorithm::Sha256, &limits, &std::env::temp_dir()).unwrap();
    assert_eq!(reading.table.unwrap().difference.as_deref(), Some("it has too many files"));
    assert!(reading.contents.problems.is_empty() && reading.diff_id.is_ok());
}
