mod damaged;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::details::DetailCache;
use super::super::meter::DatabaseLimits;
use super::super::{OsvDetail, OsvRow, OsvRows};
use super::*;

const NOW: &str = "2026-06-01T00:00:00Z";

fn record(id: &str, ecosystem: &str, package: &str) -> Value {
    json!({
        "id": id, "modified": "2026-01-02T03:04:05Z", "published": "2025-01-02T03:04:05Z",
        "aliases": [format!("CVE-{id}")], "related": null, "summary": "A flaw", "details": "Long text",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": package},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]},
                {"type": "GIT", "repo": "https://x", "events": [{"introduced": "abc"}]}],
            "versions": ["1.0", "1.1"], "ecosystem_specific": {"urgency": "low", "imports": []}
        }],
        "references": [{"type": "WEB", "url": "https://example.com"}], "database_specific": {"severity": "HIGH"}
    })
}

/// Compiles these files from a directory.
fn compile_files(files: &[(&str, String)]) -> Result<(OsvContents, OsvIndex), String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join("records").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    compile_covering(&folder.path().join("records"), &[], DatabaseLimits::default())
}

fn compile_at(source: &Path, limits: DatabaseLimits) -> Result<(OsvContents, OsvIndex), String> {
    compile_covering(source, &[], limits)
}

fn compile_covering(
    source: &Path,
    covered: &[&str],
    limits: DatabaseLimits,
) -> Result<(OsvContents, OsvIndex), String> {
    let covered: Vec<_> = covered.iter().map(|name| (*name).to_owned()).collect();
    let out = tempfile::tempdir().unwrap();
    let index = out.path().join(INDEX);
    let mut progress = |_| ControlFlow::Continue(());
    let contents = compile(source, &index, &covered, NOW.parse().unwrap(), &mut Meter::new(limits, &mut progress));
    let contents = contents.map_err(|error| error.to_string())?;
    Ok((contents, OsvIndex::open(&index).map_err(|error| error.to_string())?))
}

/// The identifiers of the records about a package.
fn ids(index: &OsvIndex, ecosystem: &str, package: &str) -> Result<Vec<String>, DamagedDatabase> {
    let mut ids = Vec::new();
    index.each_row(ecosystem, package, None, &mut |row| ids.push(row.id.to_owned()))?;
    Ok(ids)
}

/// The rest of the records about a package.
fn details(index: &OsvIndex, ecosystem: &str, package: &str) -> Result<Vec<Arc<OsvDetail>>, DamagedDatabase> {
    let mut details = Vec::new();
    index.each_row(ecosystem, package, None, &mut |row| details.push(index.detail(row)))?;
    details.into_iter().collect()
}

#[test]
fn ecosystems_that_are_stated_to_be_complete_have_records() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), record("A-1", "Debian:12", "openssl").to_string()).unwrap();
    fs::write(folder.path().join("b.json"), record("B-1", "PyPI", "six").to_string()).unwrap();
    let compiled = |covered: &[&str]| compile_covering(folder.path(), covered, DatabaseLimits::default());
    let (contents, index) = compiled(&["Debian:12"]).unwrap();
    assert_eq!((contents.covered, contents.rows), (vec!["Debian".to_owned()], 1));
    assert_eq!(ids(&index, "Debian:12", "openssl").unwrap(), ["A-1"]);
    assert!(compiled(&["Debian", "PyPi"]).unwrap_err().contains("PyPi"), "a typing error");
}

#[test]
fn records_are_found_by_package_and_by_identifier() {
    let mut files = Vec::new();
    for package in 0..500 {
        for number in 0..1 + package % 3 {
            let id = format!("GO-{number}-{package}");
            files.push((
                format!("{number}/{id}.json"),
                record(&id, "Go", &format!("example.com/{package}")).to_string(),
            ));
        }
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, text.clone())).collect();
    let (contents, index) = compile_files(&files).unwrap();
    let count = files.len() as u64;
    assert_eq!((contents.records, contents.rows, index.check().unwrap()), (count, count, count));
    assert_eq!(contents.newest, Some("2026-01-02T03:04:05Z".parse().unwrap()));
    for package in 0..500 {
        let name = format!("example.com/{package}");
        let expected: Vec<_> = (0..1 + package % 3).map(|number| format!("GO-{number}-{package}")).collect();
        assert_eq!(ids(&index, "Go", &name).unwrap(), expected);
        for (detail, id) in details(&index, "Go", &name).unwrap().iter().zip(&expected) {
            assert_eq!((&detail.id, &detail.aliases[0]), (id, &format!("CVE-{id}")));
        }
    }
    assert_eq!(index.ecosystems(""), ["Go"]);
    assert!(index.covers("Go").unwrap() && !index.covers("npm").unwrap());
    for (ecosystem, package) in [("Go", "example.com/500"), ("npm", "example.com/1"), ("", "GO-0-1"), ("Go", "")] {
        assert!(ids(&index, ecosystem, package).unwrap().is_empty(), "{ecosystem} {package}");
    }
}

#[test]
fn names_of_python_packages_are_normalised() {
    let (_, index) = compile_files(&[("a.json", record("PYSEC-1", "PyPI", "Zope.Interface").to_string())]).unwrap();
    for name in ["zope-interface", "Zope_Interface", "zope.-interface"] {
        assert_eq!(ids(&index, "PyPI", name).unwrap(), ["PYSEC-1"], "{name}");
    }
}

#[test]
fn names_of_nuget_and_composer_are_compared_without_regard_to_case() {
    for ecosystem in ["NuGet", "Packagist"] {
        let (_, index) = compile_files(&[("a.json", record("GHSA-1", ecosystem, "Foo.Bar/X").to_string())]).unwrap();
        for name in ["Foo.Bar/X", "foo.bar/x", "FOO.BAR/x"] {
            assert_eq!(ids(&index, ecosystem, name).unwrap(), ["GHSA-1"], "{name}");
        }
        assert!(ids(&index, ecosystem, "foo-bar/x").unwrap().is_empty());
    }
}

/// The archive of PyPI has records that also name packages of npm. It does not cover npm.
#[test]
fn an_index_covers_only_the_ecosystems_that_are_complete() {
    let mut both = record("A-1", "PyPI", "x");
    let other = record("A-1", "npm", "x")["affected"][0].clone();
    both["affected"].as_array_mut().unwrap().push(other);
    let pypi = record("A-2", "PyPI", "y").to_string();
    let (contents, index) = compile_files(&[("1.json", both.to_string()), ("2.json", pypi.clone())]).unwrap();
    assert_eq!((contents.rows, contents.other_rows, &contents.covered[..]), (2, 1, &["PyPI".to_owned()][..]));
    assert!(index.covers("PyPI").unwrap() && !index.covers("npm").unwrap());
    assert!(ids(&index, "npm", "x").unwrap().is_empty());
    let mixed = [("1.json", record("A-1", "Debian:12", "x").to_string()), ("2.json", pypi)];
    let error = compile_files(&mixed).unwrap_err();
    assert!(error.contains("several ecosystems"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in &mixed {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let (_, index) = compile_covering(folder.path(), &["Debian", "PyPI"], DatabaseLimits::default()).unwrap();
    assert_eq!(index.ecosystems(""), ["Debian:12", "PyPI"]);
}

#[test]
fn everything_that_matching_needs_is_kept() {
    let (_, index) = compile_files(&[("a.json", record("A-1", "Debian:12", "zlib").to_string())]).unwrap();
    let mut count = 0;
    let visit = &mut |row: &OsvRow<&str>| {
        count += 1;
        let affected = &row.affected[0];
        assert_eq!(affected.versions, ["1.0", "1.1"]);
        assert_eq!(affected.severity_word, Some("low"));
        let [range, git] = &affected.ranges[..] else { panic!("{affected:?}") };
        assert_eq!((range.kind, git.kind, git.events.len()), ("ECOSYSTEM", "GIT", 0));
        assert_eq!((range.events[0].introduced, range.events[1].fixed), (Some("0"), Some("1.2")));
    };
    index.each_row("Debian:12", "zlib", None, visit).unwrap();
    assert_eq!(count, 1);
    let detail = details(&index, "Debian:12", "zlib").unwrap().remove(0);
    assert_eq!((&*detail.summary, detail.severity_word.as_deref()), ("A flaw", Some("HIGH")));
    let times = [detail.published, detail.modified].map(|time| time.unwrap().to_string());
    assert_eq!(times, ["2025-01-02T03:04:05Z", "2026-01-02T03:04:05Z"]);
    assert_eq!(detail.severity[0].kind, "CVSS_V3");
    assert_eq!(detail.references.read().unwrap()[..], ["https://example.com".to_owned()]);
}

/// The references of many records are compressed together, and those of a record are its own.
#[test]
fn references_are_those_of_their_record() {
    let of = |number: usize| (0..number % 4).map(|at| format!("https://x/{number}/{at}")).collect::<Vec<_>>();
    let text = |number: usize| {
        let mut record = record(&format!("A-{number}"), "Go", &format!("p{number}"));
        record["references"] = of(number).iter().map(|url| json!({"type": "WEB", "url": url})).collect();
        (format!("{number}.json"), record.to_string())
    };
    let files: Vec<_> = (0..2000).map(text).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, text.clone())).collect();
    let (_, index) = compile_files(&files).unwrap();
    for number in 0..2000 {
        let detail = details(&index, "Go", &format!("p{number}")).unwrap().remove(0);
        assert_eq!(detail.references.read().unwrap()[..], of(number));
        assert_eq!(detail.references.is_empty(), number % 4 == 0);
    }
}

#[test]
fn a_record_with_several_entries_for_a_package_is_one_row() {
    let mut both = record("A-1", "npm", "x");
    let entry = both["affected"][0].clone();
    both["affected"].as_array_mut().unwrap().push(entry);
    let (contents, index) = compile_files(&[("a.json", both.to_string())]).unwrap();
    let mut affected = 0;
    index.each_row("npm", "x", None, &mut |row| affected += row.affected.len()).unwrap();
    assert_eq!((contents.rows, affected), (1, 2));
}

/// Rows are read into the memory of the row before, and are kept as they are stored.
#[test]
fn rows_say_nothing_of_the_one_before() {
    let mut bare = record("A-2", "Debian:12", "x");
    bare["affected"][0] = json!({
        "package": bare["affected"][0]["package"], "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2"}]}]
    });
    let full = |id: &str| record(id, "Debian:12", "x").to_string();
    let files = [("1.json", full("A-1")), ("2.json", bare.to_string()), ("3.json", full("A-3"))];
    let (index, cache) = (compile_files(&files).unwrap().1, DetailCache::default());
    for _ in 0..2 {
        let mut rows = Vec::new();
        let visit = &mut |row: &OsvRow<&str>| {
            let [affected] = &row.affected[..] else { panic!("{row:?}") };
            let events: Vec<usize> = affected.ranges.iter().map(|range| range.events.len()).collect();
            rows.push((row.id.to_owned(), events, affected.versions.len(), affected.severity_word.is_some()));
        };
        index.each_row("Debian:12", "x", Some(cache.rows_of(0)), visit).unwrap();
        let full = |id: &str| (id.to_owned(), vec![2, 0], 2, true);
        assert_eq!(rows, [full("A-1"), ("A-2".to_owned(), vec![1], 0, false), full("A-3")]);
    }
}

#[test]
fn withdrawn_records_are_counted_and_left_out() {
    let mut past = record("A-1", "Go", "x");
    past["withdrawn"] = json!("2025-06-01T00:00:00Z");
    let mut future = record("A-2", "Go", "x");
    future["withdrawn"] = json!("2027-06-01T00:00:00Z");
    let mut unclear = record("A-3", "Go", "x");
    unclear["withdrawn"] = json!("yes");
    let commits = json!({"id": "A-4", "modified": "2030-01-01T00:00:00Z", "affected": [{"ranges": []}]});
    let files = [("1.json", past), ("2.json", future), ("3.json", unclear), ("4.json", commits), ("5.txt", json!(1))];
    let files: Vec<_> = files.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let (contents, index) = compile_files(&files).unwrap();
    assert_eq!((contents.records, contents.withdrawn, contents.without_package, contents.ignored), (2, 1, 1, 1));
    assert_eq!(ids(&index, "Go", "x").unwrap(), ["A-2", "A-3"]);
    assert_eq!(contents.newest, Some("2026-01-02T03:04:05Z".parse().unwrap()), "a time in the future does not count");
}

#[test]
fn a_damaged_record_fails_the_compilation_and_is_named() {
    let good = ("good.json", record("A-1", "Go", "x").to_string());
    let changed = |pointer: &str, value: Value| {
        let mut record = record("A-2", "Go", "x");
        *record.pointer_mut(pointer).unwrap() = value;
        record.to_string()
    };
    let of_schema = |version: Value| {
        let mut record = record("A-2", "Go", "x");
        record["schema_version"] = version;
        record.to_string()
    };
    for version in [json!("1.0.0"), json!("1.99"), json!("1"), json!(null)] {
        compile_files(&[good.clone(), ("other.json", of_schema(version))]).unwrap();
    }
    for damaged in [
        "{".to_owned(),
        "[]".to_owned(),
        json!({"affected": []}).to_string(),
        changed("/id", json!("")),
        changed("/affected/0/package/name", json!("")),
        changed("/affected/0/package/ecosystem", json!(7)),
        changed("/affected/0/ranges/0/events/1", json!({"repaired": "1.2"})),
        changed("/affected/0/ranges/0/events", json!([])),
        changed("/affected/0/ranges/0/type", json!("")),
        changed("/affected/0/versions", json!("1.0")),
        of_schema(json!("2.0.0")),
        of_schema(json!("0.7.1")),
        of_schema(json!("10.0")),
        of_schema(json!(1.6)),
    ] {
        let error = compile_files(&[good.clone(), ("bad.json", damaged.clone())]).unwrap_err();
        assert!(error.contains("1 of the records") && error.contains("bad.json"), "{damaged}: {error}");
    }
    let error = compile_files(&[("readme.txt", String::new())]).unwrap_err();
    assert!(error.contains("no OSV records"), "{error}");
}

#[test]
fn limits_and_cancelling_end_the_compilation() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), record("A-1", "Go", "x").to_string()).unwrap();
    let error = compile_at(folder.path(), DatabaseLimits { unpacked: 100, ..DatabaseLimits::default() }).unwrap_err();
    assert!(error.contains("larger than"), "{error}");
    let mut large = record("A-2", "Go", "x");
    large["details"] = json!("x".repeat(2 << 20));
    fs::write(folder.path().join("b.json"), large.to_string()).unwrap();
    let mut cancel = |_| ControlFlow::Break(());
    let mut meter = Meter::new(DatabaseLimits::default(), &mut cancel);
    let error = compile(folder.path(), &folder.path().join(INDEX), &[], NOW.parse().unwrap(), &mut meter);
    assert!(matches!(error, Err(DatabaseError::Cancelled)));
}

/// A zip archive with these files.
pub(in super::super) fn sample_zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    write_zip(files, true, false)
}

/// Writes a zip archive, with the sizes in ZIP64 fields if asked.
fn write_zip(files: &[(&str, &[u8])], deflate: bool, zip64: bool) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut data = content.to_vec();
        if deflate {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(content).unwrap();
            data = encoder.finish().unwrap();
        }
        let offset = out.len() as u64;
        let common = |sizes: [u32; 2], extra: u16| {
            let mut bytes = [&[20, 0, 0, 0, if deflate { 8 } else { 0 }, 0][..], &[0; 4]].concat();
            bytes.extend(crc32fast::hash(content).to_le_bytes());
            bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(extra.to_le_bytes());
            bytes
        };
        let sizes = [data.len() as u32, content.len() as u32];
        out.extend([b"PK\x03\x04", &common(sizes, 0)[..], name.as_bytes(), &data].concat());
        directory.extend(b"PK\x01\x02\x14\0");
        let field = [content.len() as u64, data.len() as u64, offset].map(u64::to_le_bytes).concat();
        let extra = if zip64 { [&[1, 0, 24, 0][..], &field].concat() } else { Vec::new() };
        directory.extend(common(if zip64 { [u32::MAX; 2] } else { sizes }, extra.len() as u16));
        directory.extend([0; 10]);
        directory.extend((if zip64 { u32::MAX } else { offset as u32 }).to_le_bytes());
        directory.extend([name.as_bytes(), &extra].concat());
    }
    let (offset, size, count) = (out.len() as u64, directory.len() as u64, files.len() as u64);
    out.extend(directory);
    if zip64 {
        let end = out.len() as u64;
        out.extend([b"PK\x06\x06", &44u64.to_le_bytes()[..], &[0; 12]].concat());
        out.extend([count, count, size, offset].map(u64::to_le_bytes).concat());
        out.extend([b"PK\x06\x07", &[0; 4][..], &end.to_le_bytes(), &1u32.to_le_bytes()].concat());
    }
    out.extend([b"PK\x05\x06", &[0; 4][..]].concat());
    let (count, size, offset) =
        if zip64 { (u16::MAX, u32::MAX, u32::MAX) } else { (count as u16, size as u32, offset as u32) };
    out.extend([count, count].map(u16::to_le_bytes).concat());
    out.extend([size, offset].map(u32::to_le_bytes).concat());
    out.extend(b"\x07\0comment");
    out
}

fn compile_zip(bytes: &[u8]) -> Result<(OsvContents, OsvIndex), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.zip");
    fs::write(&path, bytes).unwrap();
    compile_at(&path, DatabaseLimits::default())
}

/// Compiles the records of three real sources, and prints time and size.
#[test]
#[ignore = "reads ../shared"]
fn real_archives_are_compiled() {
    for (name, rows, package, id) in [
        ("Go", 5000, "golang.org/x/net", "GO-2022-1144"),
        ("PyPI", 2600, "django", "PYSEC-2021-98"),
        ("AlmaLinux", 60_000, "openssl", "ALSA-2022:1065"),
    ] {
        let path = format!("{}/../shared/advisories/{name}.zip", env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join(INDEX);
        let mut progress = |_| ControlFlow::Continue(());
        let mut meter = Meter::new(DatabaseLimits::default(), &mut progress);
        let started = std::time::Instant::now();
        let contents = compile(Path::new(&path), &index, &[], NOW.parse().unwrap(), &mut meter).unwrap();
        let (took, size) = (started.elapsed(), fs::metadata(&index).unwrap().len());
        let open = OsvIndex::open(&index).unwrap();
        assert_eq!(open.check().unwrap(), contents.rows);
        assert!(contents.rows >= rows, "{contents:?}");
        let ecosystem = if name == "AlmaLinux" { "AlmaLinux:8" } else { name };
        let found = ids(&open, ecosystem, package).unwrap();
        assert!(found.iter().any(|found| found == id), "{package}: {found:?}");
        let started = std::time::Instant::now();
        for _ in 0..1000 {
            ids(&open, ecosystem, package).unwrap();
        }
        let (hit, count) = (started.elapsed() / 1000, found.len());
        let started = std::time::Instant::now();
        for number in 0..1000 {
            ids(&open, ecosystem, &format!("missing{number}")).unwrap();
        }
        let miss = started.elapsed() / 1000;
        println!("{name}: {contents:?}: {took:?}, {size} bytes; {count} rows in {hit:?}, none in {miss:?}");
    }
}
