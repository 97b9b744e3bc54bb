//! Archives in all forms, damaged ones and indexes.

use super::*;

#[test]
fn zip_archives_are_read_in_all_forms() {
    let (one, two) = (record("A-1", "Go", "x").to_string(), record("A-2", "Go", "y").to_string());
    let files = [("folder/", &b""[..]), ("folder/A-1.json", one.as_bytes()), ("A-2.json", two.as_bytes()), ("x", b"x")];
    for (deflate, zip64) in [(false, false), (true, false), (false, true), (true, true)] {
        let (contents, index) = compile_zip(&write_zip(&files, deflate, zip64)).unwrap();
        assert_eq!((contents.records, contents.ignored), (2, 1), "{deflate} {zip64}");
        assert_eq!(ids(&index, "Go", "y").unwrap(), ["A-2"]);
    }
}

/// A changed byte in an archive is noticed, or it is in a field that has no effect on the records.
#[test]
fn a_damaged_zip_archive_never_loses_a_record() {
    let (one, two) = (record("A-1", "Go", "x").to_string(), record("A-2", "Go", "y").to_string());
    let bytes = write_zip(&[("A-1.json", one.as_bytes()), ("A-2.json", two.as_bytes())], true, false);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x81;
        // A changed name may be that of another kind of file, which is counted.
        if let Ok((contents, _)) = compile_zip(&changed) {
            assert_eq!(contents.records + contents.ignored, 2, "byte {at}");
        }
    }
    for length in (0..bytes.len()).step_by(17) {
        assert!(compile_zip(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_changed_byte_in_an_index_is_an_error_and_never_a_missing_row() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..30 {
        let text = record(&format!("A-{number}"), "Go", &format!("p{number}")).to_string();
        fs::write(folder.path().join(format!("{number}.json")), text).unwrap();
    }
    let path = folder.path().join(INDEX);
    let mut progress = |_| ControlFlow::Continue(());
    let mut meter = Meter::new(DatabaseLimits::default(), &mut progress);
    compile(folder.path(), &path, &[], NOW.parse().unwrap(), &mut meter).unwrap();
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        fs::write(&path, &changed).unwrap();
        let Ok(index) = OsvIndex::open(&path) else { continue };
        for number in (0..30).step_by(7) {
            let Ok(mut details) = details(&index, "Go", &format!("p{number}")) else { continue };
            let detail = details.remove(0);
            assert_eq!((details.len(), &*detail.id), (0, &*format!("A-{number}")), "byte {at}");
            let references = detail.references.read();
            assert!(references.is_err() || references.unwrap()[..] == ["https://example.com"], "byte {at}");
        }
    }
}
