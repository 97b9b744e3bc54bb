//! What clients do not see or do not verify, although it is in the archive or in the table.

use super::*;

/// The rest of the archive may be anything.
#[test]
fn archives_that_are_not_read_to_their_end_are_not_compared() {
    let (tar, table) = (tar_of(&items(10)), table_of(&items(10)[..3]).to_string());
    let layer = chunked(&tar, &table);
    let limits = LayerLimits { compares_table: true, entries: 3, ..LayerLimits::of(layer.len() as u64) };
    let reading = read_layer(&layer[..], Algorithm::Sha256, &limits, &std::env::temp_dir()).unwrap();
    assert_eq!(reading.table.unwrap().difference.as_deref(), Some("it was not read to its end"));
}

#[test]
fn empty_files_have_no_chunks() {
    let mut table = table_of(&items(10));
    table["entries"][3]["chunkSize"] = json!(5);
    let (_, found) = read_table(&stargz(&tar_of(&items(10)), &table.to_string()));
    assert_eq!(found.difference, None);
    assert_eq!(found.chunks.as_deref(), Some("its table has chunks of \"app/empty\", which is empty"));
}

/// containers/storage makes no pipes when it reads the table: what a layer below has under its name is seen.
#[test]
fn pipes_replace_nothing() {
    let pipe = [item("fifo", "var/lib/dpkg/status", 0o644, "", b"")];
    let layer = chunked(&tar_of(&pipe), &table_of(&pipe).to_string());
    let (reading, found) = read_table(&layer);
    assert_eq!(found.difference, None);
    assert!(!reading.contents.replaced.contains("var/lib/dpkg/status"));
    assert!(read(&layer).contents.replaced.contains("var/lib/dpkg/status"), "other clients make them");
}

/// A landmark is not seen by clients that read the table: what a layer below has under its name is seen.
#[test]
fn landmarks_replace_nothing() {
    let landmark = item("reg", ".prefetch.landmark", 0o755, "", b"\x0f");
    let (reading, _) =
        read_table(&stargz(&tar_of(std::slice::from_ref(&landmark)), &table_of(&[landmark]).to_string()));
    assert!(!reading.contents.replaced.contains(".prefetch.landmark"));
}
