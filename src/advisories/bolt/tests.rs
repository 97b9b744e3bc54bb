use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use super::sample::{SampleTree, meta};
use super::*;

fn open(bytes: &[u8]) -> Result<BoltFile, DamagedDatabase> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    BoltFile::open(file)
}

impl BoltFile {
    /// The bucket at a path, from the root. `None` if there is none.
    fn bucket(&self, path: &[&str]) -> Result<Option<Bucket<'_>>, DamagedDatabase> {
        let mut bucket = self.root();
        for name in path {
            match bucket.get(name.as_bytes())? {
                Some(BoltEntry::Bucket(inner)) => bucket = inner,
                _ => return Ok(None),
            }
        }
        Ok(Some(bucket))
    }

    /// The value of a key in the bucket at a path. `None` if there is no such bucket or key.
    fn value(&self, path: &[&str], key: &str) -> Result<Option<Bytes>, DamagedDatabase> {
        let Some(bucket) = self.bucket(path)? else { return Ok(None) };
        Ok(bucket.get(key.as_bytes())?.and_then(BoltEntry::value))
    }
}

/// A database with a tree of several levels, inline and nested buckets, and values of several pages.
fn sample() -> SampleTree {
    let mut tree = SampleTree::default();
    for package in 0..300 {
        for id in 0..1 + package % 7 {
            tree.put(&["debian 12", &format!("package{package:03}")], &format!("CVE-2024-{id:04}"), "{}");
        }
    }
    tree.put(&["npm::GitHub", "lodash"], "GHSA-1", "x".repeat(20_000));
    tree.put(&["npm::Other", "lodash"], "GHSA-2", "y");
    tree.put(&["vulnerability"], "CVE-2024-0001", "details");
    tree.bucket(&["empty"]);
    tree
}

fn names(file: &BoltFile, path: &[&str]) -> Vec<String> {
    let walk = file.bucket(path).unwrap().unwrap().walk().unwrap();
    walk.map(|entry| String::from_utf8(entry.unwrap().0.to_vec()).unwrap()).collect()
}

/// The path of a bucket, a key and its value.
type FoundValue = (Vec<Vec<u8>>, Vec<u8>, Vec<u8>);

/// Everything that a database says, by way of the full check and by way of look-ups.
fn read_all(file: &BoltFile) -> Result<Vec<FoundValue>, DamagedDatabase> {
    let mut rows = Vec::new();
    file.check(&mut |path, key, value| {
        rows.push((path.to_vec(), key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn values_are_found_in_every_kind_of_bucket() {
    for page_size in [512, 1024, 4096, 65536] {
        let file = open(&sample().write(page_size)).unwrap();
        let value = |path: &[&str], key: &str| file.value(path, key).unwrap().map(|value| value.to_vec());
        for package in 0..300 {
            let name = format!("package{package:03}");
            assert_eq!(names(&file, &["debian 12", &name]).len(), 1 + package % 7, "{page_size} {name}");
            assert_eq!(value(&["debian 12", &name], "CVE-2024-0000").unwrap(), b"{}");
            assert_eq!(value(&["debian 12", &name], "CVE-2024-0007"), None);
        }
        assert_eq!(value(&["npm::GitHub", "lodash"], "GHSA-1").unwrap().len(), 20_000);
        assert_eq!(value(&["vulnerability"], "CVE-2024-0001").unwrap(), b"details");
        for missing in ["", "a", "package", "package300", "zzz"] {
            assert!(file.bucket(&["debian 12", missing]).unwrap().is_none(), "{missing}");
            assert_eq!(value(&["empty"], missing), None);
        }
        assert!(file.bucket(&["vulnerability", "CVE-2024-0001"]).unwrap().is_none(), "a value is not a bucket");
        assert_eq!(value(&[], "vulnerability"), None, "a bucket is not a value");
        assert_eq!(read_all(&file).unwrap().len(), (0..300).map(|n| 1 + n % 7).sum::<usize>() + 3);
    }
}

#[test]
fn keys_are_visited_in_order() {
    for page_size in [512, 4096] {
        let file = open(&sample().write(page_size)).unwrap();
        assert_eq!(names(&file, &[]), ["debian 12", "empty", "npm::GitHub", "npm::Other", "vulnerability"]);
        assert!(names(&file, &["empty"]).is_empty());
        let packages: Vec<String> = (0..300).map(|package| format!("package{package:03}")).collect();
        assert_eq!(names(&file, &["debian 12"]), packages);
    }
}

#[test]
fn the_newer_of_the_valid_meta_pages_counts() {
    let bytes = sample().write(4096);
    let root = u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    let pages = (bytes.len() / 4096) as u64;
    let with = |number: usize, meta: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[number * 4096..][..meta.len()].copy_from_slice(meta);
        open(&bytes)
    };
    // The page of page 0 names a wrong root, and an older or newer transaction than page 1.
    assert_eq!(with(0, &meta(0, 4096, root + 1, pages)).unwrap().root, root);
    assert_eq!(with(0, &meta(2, 4096, root - 1, pages)).unwrap().root, root - 1);
    for number in 0..2 {
        let mut wrong = meta(9, 4096, root - 1, pages);
        wrong[20] ^= 1;
        assert_eq!(with(number, &wrong).unwrap().root, root, "a meta page with a wrong checksum does not count");
        wrong[16] ^= 1;
        assert_eq!(with(number, &wrong).unwrap().root, root, "nor one without the magic number");
    }
    let mut bytes = bytes.clone();
    bytes[16 + 20] ^= 1;
    bytes[4096 + 16 + 20] ^= 1;
    assert!(open(&bytes).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn damaged_files_are_refused_with_the_reason() {
    let bytes = sample().write(4096);
    for (bytes, expected) in [
        (&b""[..], "not a bbolt file"),
        (&[7; 10_000][..], "magic number"),
        (&bytes[..bytes.len() - 1], "truncated"),
        (&bytes[..4096], "truncated"),
    ] {
        let error = open(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_cycle_and_keys_out_of_order_are_found() {
    let bytes = sample().write(512);
    let pages = bytes.chunks(512);
    let branch = |page: &&[u8]| page[8] == 1 && page[10] >= 2;
    let number = pages.clone().position(|page| branch(&page)).unwrap();
    // The second child of a branch becomes the branch itself.
    let mut cycle = bytes.clone();
    cycle[number * 512 + 40..][..8].copy_from_slice(&(number as u64).to_le_bytes());
    let file = open(&cycle).unwrap();
    assert!(read_all(&file).is_err());
    let mut walk = file.bucket(&["debian 12"]).unwrap().unwrap().walk().unwrap();
    assert!(walk.by_ref().any(|entry| entry.is_err()));
    assert!(walk.next().is_none(), "it ends after an error");
    // Two children of a branch are exchanged: look-ups would miss their keys.
    let mut exchanged = bytes.clone();
    let (first, second) = (number * 512 + 24, number * 512 + 40);
    for byte in 0..8 {
        exchanged.swap(first + byte, second + byte);
    }
    let error = read_all(&open(&exchanged).unwrap()).unwrap_err().to_string();
    assert!(error.contains("out of order"), "{error}");
}

/// Whatever is in the file, reading it ends, with rows or with an error.
#[test]
fn every_changed_byte_yields_an_answer_or_an_error() {
    let mut tree = SampleTree::default();
    for package in 0..40 {
        tree.put(&["debian 12", &format!("package{package:02}")], "CVE-2024-0001", "{}");
    }
    tree.put(&["npm::GitHub", "lodash"], "GHSA-1", "x".repeat(700));
    let bytes = tree.write(512);
    let whole = read_all(&open(&bytes).unwrap()).unwrap();
    let mut unnoticed = 0;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(&bytes).unwrap();
    for at in 0..bytes.len() {
        for value in [bytes[at] ^ 1, bytes[at] ^ 0x80] {
            file.as_file().write_all_at(&[value], at as u64).unwrap();
            let Ok(open) = BoltFile::open(file.reopen().unwrap()) else { continue };
            if let Ok(rows) = read_all(&open) {
                unnoticed += usize::from(rows != whole);
            }
            let _ = open.value(&["debian 12", "package07"], "CVE-2024-0001");
            let _ = open.value(&["npm::GitHub", "lodash"], "GHSA-1");
        }
        file.as_file().write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    // Changes of names and values cannot be noticed in the file alone: its digest is checked elsewhere.
    assert!(unnoticed > 0);
}

#[test]
fn random_garbage_below_a_valid_meta_page_ends() {
    let seed = 7;
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..300 {
        let mut bytes = sample().write(512);
        for _ in 0..1 + round % 50 {
            let at = random.usize(1024..bytes.len());
            bytes[at] = random.u8(..);
        }
        let Ok(file) = open(&bytes) else { continue };
        let _ = read_all(&file);
        for package in 0..20 {
            let _ = file.value(&["debian 12", &format!("package{:03}", package * 15)], "CVE-2024-0000");
        }
        let _ = file.root().walk().map(Iterator::count);
    }
}

/// A file that bbolt itself wrote (tests/interop/bolt-write), in several transactions that also deleted keys.
#[test]
fn a_file_of_bbolt_is_read_as_it_was_written() {
    let mut bytes = Vec::new();
    let compressed = &include_bytes!("../../../tests/data/bbolt/real.db.gz")[..];
    flate2::read::GzDecoder::new(compressed).read_to_end(&mut bytes).unwrap();
    let mut expected = BTreeMap::new();
    for line in include_str!("../../../tests/data/bbolt/rows.jsonl").lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let path: Vec<String> = serde_json::from_value(row["path"].clone()).unwrap();
        let key = (path, row["key"].as_str().unwrap().to_owned());
        match row.get("value") {
            Some(value) => drop(expected.insert(key, value.clone())),
            None => drop(expected.remove(&key)),
        }
    }
    let file = open(&bytes).unwrap();
    let parse = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let found = read_all(&file)
        .unwrap()
        .into_iter()
        .map(|(path, key, value)| ((path.into_iter().map(text).collect::<Vec<_>>(), text(key)), parse(&value)));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
    for ((path, key), value) in &expected {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        assert_eq!(parse(&file.value(&path, key).unwrap().unwrap()), *value, "{path:?} {key}");
    }
    assert!(file.value(&["vulnerability"], "CVE-2023-0001").unwrap().is_none());
}
