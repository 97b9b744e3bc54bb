mod fetched;

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::json;

use super::super::trivy_db::{DATABASE, METADATA, sample};
use super::super::{Databases, GenerationManifest, SourceState};
use super::*;
use crate::oci::Digest;

const NOW: &str = "2026-06-01T00:00:00Z";
const BUILT: &str = "2026-05-01T00:00:00Z";

fn options() -> ImportOptions {
    ImportOptions::at(NOW.parse().unwrap())
}

/// A directory for input, and a state directory.
struct Place {
    folder: tempfile::TempDir,
    store: AdvisoryStore,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = AdvisoryStore::open(&folder.path().join("state")).unwrap();
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn import(&self, path: &Path) -> Result<Vec<InstalledGeneration>, DatabaseError> {
        import(&self.store, path, &options(), &mut |_| ControlFlow::Continue(()))
    }

    /// Imports with success; returns the manifests.
    fn imported(&self, path: &Path) -> Vec<GenerationManifest> {
        self.import(path).unwrap().into_iter().map(|installed| installed.manifest).collect()
    }

    fn load(&self) -> Databases {
        self.store.load().unwrap()
    }

    fn error(&self, path: &Path) -> String {
        let error = self.import(path).unwrap_err().to_string();
        assert!(self.load().status().is_empty(), "nothing is in use after {error}");
        error
    }
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // `append_data` would drop the leading `./`.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The archive that registries keep.
fn database() -> Vec<u8> {
    let (database, metadata) = (sample::rows().write(4096), sample::metadata(BUILT));
    gzip(&archive(&[(DATABASE, &database), (METADATA, metadata.as_bytes())]))
}

fn manifest_of(blob: &[u8]) -> String {
    let empty = Digest::sha256(b"{}");
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.aquasec.trivy.config.v1+json",
        "config": {"mediaType": "application/vnd.aquasec.trivy.config.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": layout::LAYER, "digest": Digest::sha256(blob), "size": blob.len(),
            "annotations": {"org.opencontainers.image.title": "db.tar.gz"}}]
    })
    .to_string()
}

/// The files of an OCI layout with this blob as the database.
fn layout_of(blob: &[u8]) -> Vec<(String, Vec<u8>)> {
    layout_with(blob, manifest_of(blob))
}

fn layout_with(blob: &[u8], manifest: String) -> Vec<(String, Vec<u8>)> {
    let digest = Digest::sha256(manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len()}]});
    vec![
        (format!("blobs/sha256/{}", Digest::sha256(blob).hex()), blob.to_vec()),
        (format!("blobs/sha256/{}", digest.hex()), manifest.into_bytes()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        ("oci-layout".to_owned(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec()),
    ]
}

fn record(id: &str, ecosystem: &str) -> String {
    json!({"id": id, "modified": BUILT, "affected": [{"package": {"ecosystem": ecosystem, "name": "x"},
        "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]}]})
    .to_string()
}

#[test]
fn trivy_db_is_imported_in_every_form() {
    let (database_file, metadata) = (sample::rows().write(4096), sample::metadata(BUILT));
    let files = layout_of(&database());
    let tar: Vec<_> = files.iter().map(|(name, content)| (&**name, &**content)).collect();
    let unpacked = [("./", &b""[..]), ("./metadata.json", metadata.as_bytes()), ("./trivy.db", &database_file)];
    let place = Place::new();
    sample::write(&place.path("cache/db"), &sample::rows(), BUILT);
    for (name, content) in &files {
        place.write(&format!("layout/{name}"), content);
    }
    for path in [
        place.path("cache/db"),
        place.path("cache/db/trivy.db"),
        place.write("db.tar.gz", &database()),
        place.write("db.tar", &archive(&unpacked[1..])),
        place.write("other.tgz", &gzip(&archive(&unpacked[1..]))),
        place.path("layout"),
        place.write("layout.tar", &archive(&tar)),
    ] {
        let own = Place::new();
        let [manifest] = &own.imported(&path)[..] else { panic!("{}", path.display()) };
        assert_eq!((&*manifest.source, manifest.rows, manifest.built), ("trivy-db", 5, BUILT.parse().unwrap()));
        assert_eq!(manifest.from, path.display().to_string());
        let databases = own.load();
        assert_eq!(databases.trivy().unwrap().rows("debian 12", "openssl").unwrap().len(), 2, "{}", path.display());
        assert_eq!(databases.status()[0].state, SourceState::Ready);
    }
}

/// Without a record of the past, the age of the source is unknown.
#[test]
fn records_without_a_time_in_the_past_are_refused_with_the_reason() {
    let place = Place::new();
    for (name, modified, reason) in [
        (
            "future",
            Some("2026-12-25T00:00:00Z"),
            "all records were changed in the future (2026-12-25): check the clock",
        ),
        ("none", None, "no record says when it was changed"),
    ] {
        let text = record("GO-1", "Go").replace(BUILT, modified.unwrap_or("yesterday"));
        place.write(&format!("{name}/a.json"), text.as_bytes());
        let error = place.error(&place.path(name));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn osv_records_are_imported_as_one_source_for_each_ecosystem() {
    let place = Place::new();
    place.write("osv/go/a.json", record("GO-1", "Go").as_bytes());
    place.write("osv/debian/a.json", record("DSA-1", "Debian:12").as_bytes());
    place.write("osv/debian/b.json", record("DSA-2", "Debian:11").as_bytes());
    assert_eq!(place.imported(&place.path("osv/go"))[0].source, "osv-go");
    let debian = &place.imported(&place.path("osv/debian"))[0];
    assert_eq!((&*debian.source, debian.kind, debian.rows), ("osv-debian", DatabaseKind::Osv, 2));
    let databases = place.load();
    let covers = |ecosystem| databases.osv().filter(|index| index.covers(ecosystem).unwrap()).count();
    assert_eq!([covers("Go"), covers("Debian:11"), covers("Debian:12"), covers("Debian")], [1, 1, 1, 0]);
    let both = place.import(&place.path("osv")).unwrap_err().to_string();
    assert!(both.contains("several ecosystems"), "{both}");
    let named = ImportOptions { ecosystems: vec!["Debian".into(), "Go".into()], ..options() };
    let both = import(&place.store, &place.path("osv"), &named, &mut |_| ControlFlow::Continue(()));
    assert_eq!(both.unwrap()[0].manifest.source, "osv-debian-go");
}

#[test]
fn an_export_is_imported_elsewhere() {
    let place = Place::new();
    let error = export(&place.store, &place.path("none.tar"), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("no advisory database"), "{error}");
    place.imported(&place.write("db.tar.gz", &database()));
    place.write("go/a.json", record("GO-1", "Go").as_bytes());
    place.imported(&place.path("go"));
    for name in ["export.tar", "export.tar.gz", "export.tgz"] {
        let path = place.path(name);
        let exported = export(&place.store, &path, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(exported.len(), 2);
        let other = Place::new();
        let manifests = other.imported(&path);
        let ids = |manifests: &[GenerationManifest]| manifests.iter().map(GenerationManifest::id).collect::<Vec<_>>();
        assert_eq!(ids(&manifests), ids(&exported));
        assert_eq!(manifests[1].from, place.path("db.tar.gz").display().to_string(), "the origin is kept");
        assert_eq!(other.load().generation(), place.load().generation());
        // Cut short anywhere, nothing of it is used.
        let bytes = fs::read(&path).unwrap();
        for end in (0..bytes.len() - 1024).step_by(bytes.len() / 23 + 1) {
            Place::new().error(&place.write("cut", &bytes[..end]));
        }
    }
    let bytes = fs::read(place.path("export.tar")).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 47 + 1).chain([700, 900, 5000]) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let other = Place::new();
        if let Ok(installed) = other.import(&place.write("changed", &changed)) {
            // Only what describes a database can differ: its files are verified.
            let files = |manifest: &GenerationManifest| manifest.files.clone();
            let found: Vec<_> = installed.iter().map(|installed| files(&installed.manifest)).collect();
            let all: Vec<_> = place.load().status().iter().map(|s| files(s.generation.as_ref().unwrap())).collect();
            assert_eq!(found, all, "byte {at}");
        }
    }
}

#[test]
fn non_databases_are_refused_with_a_hint() {
    let place = Place::new();
    let metadata = sample::metadata(BUILT);
    let bomb = gzip(&archive(&[(DATABASE, &vec![0; 3 << 20]), (METADATA, metadata.as_bytes())]));
    let no_rows = super::super::bolt::sample::SampleTree::default().write(4096);
    for (name, content, expected) in [
        ("text", b"hello".to_vec(), "db.tar.gz"),
        ("empty", Vec::new(), "db.tar.gz"),
        ("a.tar", archive(&[("x", b"x")]), "index.json"),
        ("a.tar.gz", gzip(&archive(&[("x", b"x")])), "decompress"),
        ("alone.tar", archive(&[(METADATA, metadata.as_bytes())]), "trivy.db"),
        ("db/trivy.db", sample::rows().write(4096), "metadata.json"),
        ("garbage.tar", archive(&[(DATABASE, b"x"), (METADATA, metadata.as_bytes())]), "bbolt"),
        (
            "schema.tar",
            archive(&[(DATABASE, b"x"), (METADATA, b"{\"Version\":1,\"UpdatedAt\":\"2026-05-01T00:00:00Z\"}")]),
            "schema 1",
        ),
        ("none.tar", archive(&[(DATABASE, &no_rows), (METADATA, metadata.as_bytes())]), "no advisories"),
        ("twice.tar", archive(&[(METADATA, metadata.as_bytes()), (METADATA, metadata.as_bytes())]), "metadata.json"),
        ("cut.tar.gz", database()[..1000].to_vec(), ""),
        ("bad.zip", b"PK\x03\x04 no directory".to_vec(), "truncated"),
    ] {
        let error = place.error(&place.write(name, &content));
        assert!(error.contains(expected), "{name}: {error}");
    }
    let small =
        ImportOptions { limits: DatabaseLimits { unpacked: 1 << 20, ..DatabaseLimits::default() }, ..options() };
    let path = place.write("bomb.tar.gz", &bomb);
    let error = import(&place.store, &path, &small, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, DatabaseError::TooLarge { .. }), "{error}");
    let small = ImportOptions { limits: DatabaseLimits { compressed: 100, ..DatabaseLimits::default() }, ..options() };
    let error = import(&place.store, &path, &small, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, DatabaseError::TooLarge { .. }), "{error}");
    let error = import(&place.store, &path, &options(), &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, DatabaseError::Cancelled), "{error}");
    assert_eq!(fs::read_dir(place.path("state/advisories")).unwrap().count(), 1, "only the lock is left");
}

#[test]
fn a_layout_with_another_blob_or_manifest_is_refused() {
    let blob = database();
    for changed in 0..3 {
        let place = Place::new();
        let mut files = layout_of(&blob);
        match changed {
            0 => *files[0].1.last_mut().unwrap() ^= 1,
            1 => files[1].1.push(b' '),
            _ => files[0].1.push(0),
        }
        for (name, content) in &files {
            place.write(&format!("layout/{name}"), content);
        }
        let error = place.error(&place.path("layout"));
        assert!(error.contains("digest") || error.contains("bytes instead of"), "{changed}: {error}");
    }
}

/// A trivy-db with twenty advisories for each of 3,000 source packages, two of which are not fixed in version 2.0.
fn large_database() -> super::super::bolt::sample::SampleTree {
    let mut tree = super::super::bolt::sample::SampleTree::default();
    let cvss = json!({"V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "V3Score": 9.8});
    for (package, number) in (0..3000).flat_map(|package| (0..20).map(move |number| (package, number))) {
        let id = format!("CVE-2024-{package:04}{number:02}");
        let fixed = if number < 2 { "9" } else { "1.0" };
        tree.put(&["debian 12", &format!("source{package}")], &id, json!({"FixedVersion": fixed}).to_string());
        let references: Vec<_> =
            (0..12).map(|other| format!("https://example.com/a/long/address/{id}/{other}")).collect();
        let detail = json!({"Title": "A flaw in a package", "Description": "x".repeat(600), "Severity": "HIGH",
            "VendorSeverity": {"nvd": 4, "debian": 1, "redhat": 2}, "CVSS": {"nvd": cvss, "redhat": cvss},
            "References": references, "PublishedDate": "2024-01-02T03:04:05Z"});
        tree.put(&["vulnerability"], &id, detail.to_string());
    }
    tree
}

fn image_of(id: &str, version: &str, packages: &[serde_json::Value]) -> crate::inventory::Inventory {
    let distribution =
        json!({"id": id, "like": [], "version": version, "codename": "", "pretty_name": "", "repository": null});
    serde_json::from_value(json!({"distribution": distribution, "packages": packages, "gaps": []})).unwrap()
}

/// Prints what matching costs: a Debian image of 300 packages with 20 advisories each, a tenth of which apply, and an
/// AlmaLinux image of 200 packages with the real records, with cold and with warm caches.
#[test]
#[ignore = "reads ../shared, and measures"]
fn matching_costs() {
    let place = Place::new();
    sample::write(&place.path("db"), &large_database(), BUILT);
    place.imported(&place.path("db"));
    let almalinux = format!("{}/../shared/advisories/AlmaLinux.zip", env!("CARGO_MANIFEST_DIR"));
    place.imported(Path::new(&almalinux));
    let debian = |offset: usize| {
        let package = |number: usize| {
            json!({"ecosystem": "deb", "name": format!("package{number}"), "version": "2.0",
            "source": {"name": format!("source{number}"), "version": "2.0"}})
        };
        image_of("debian", "12", &(offset..offset + 300).map(package).collect::<Vec<_>>())
    };
    let names = ["openssl-libs", "glibc", "curl", "libxml2", "expat", "python3", "zlib", "krb5-libs", "systemd"];
    let package = |number: usize| {
        let name = names.get(number).map_or_else(|| format!("package{number}"), |name| (*name).to_owned());
        json!({"ecosystem": "rpm", "vendor": "AlmaLinux", "name": name, "version": "0:1.0-1.el9"})
    };
    let alma = image_of("almalinux", "9.4", &(0..200).map(package).collect::<Vec<_>>());
    for (what, inventories) in [
        ("Debian, other packages each time", (0..9).map(|image| debian(image * 300)).collect::<Vec<_>>()),
        ("Debian, the same packages", vec![debian(0); 50]),
        ("AlmaLinux", vec![alma; 50]),
    ] {
        let (databases, now) = (place.load(), NOW.parse().unwrap());
        let started = std::time::Instant::now();
        let found = super::super::find(&databases, &inventories[0], now);
        let (first, started) = (started.elapsed(), std::time::Instant::now());
        inventories[1..].iter().for_each(|inventory| drop(super::super::find(&databases, inventory, now)));
        let others = started.elapsed() / u32::try_from(inventories.len() - 1).unwrap();
        println!("{what}: {} findings; first {first:?}, others {others:?}", found.matches.len());
    }
}
