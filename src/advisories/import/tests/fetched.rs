//! Databases and feeds that servers deliver.

use super::*;

/// A registry and a web server in memory.
struct Server {
    manifest: String,
    blob: Vec<u8>,
    size: Option<u64>,
    blobs_asked: Cell<u32>,
}

impl Server {
    fn new(blob: Vec<u8>) -> Self {
        Self { manifest: manifest_of(&blob), size: Some(blob.len() as u64), blob, blobs_asked: Cell::new(0) }
    }

    fn fetch(&self, place: &Place, reference: &str) -> Result<InstalledGeneration, DatabaseError> {
        self.fetch_kind(place, (DatabaseKind::TrivyDb, reference))
    }

    fn fetch_kind(&self, place: &Place, image: (DatabaseKind, &str)) -> Result<InstalledGeneration, DatabaseError> {
        fetch_image(&place.store, self, image, &options(), &mut |_| ControlFlow::Continue(()))
    }
}

impl DatabaseTransport for Server {
    fn manifest(&self, _: &str) -> Result<(Bytes, Option<String>), DatabaseError> {
        Ok((self.manifest.clone().into(), Some("application/vnd.oci.image.manifest.v1+json".to_owned())))
    }

    fn blob(&self, _: &str, digest: Digest, _: u64) -> Result<Box<dyn Read + '_>, DatabaseError> {
        self.blobs_asked.set(self.blobs_asked.get() + 1);
        assert!(self.manifest.contains(&digest.to_string()));
        Ok(Box::new(&self.blob[..]))
    }

    fn get(&self, url: &str, etag: Option<&str>) -> Result<WebAnswer<'_>, DatabaseError> {
        if etag == Some("known") {
            return Ok(WebAnswer::Unchanged);
        }
        let modified = url.contains("dated").then(|| "2026-05-30T00:00:00Z".parse().unwrap());
        let etag = url.contains("dated").then(|| "known".to_owned());
        Ok(WebAnswer::File(FetchedFile { content: Box::new(&self.blob[..]), size: self.size, etag, modified }))
    }
}

#[test]
fn trivy_db_is_fetched_once_for_each_manifest() {
    let (place, server) = (Place::new(), Server::new(database()));
    let digest = Digest::sha256(server.manifest.as_bytes());
    let reference = "ghcr.io/aquasecurity/trivy-db:2";
    let installed = server.fetch(&place, reference).unwrap();
    assert_eq!(installed.manifest.from, format!("{reference}@{digest}"));
    assert!(!installed.was_current && place.load().trivy().is_some());
    assert!(server.fetch(&place, reference).unwrap().was_current);
    assert!(server.fetch(&place, &format!("{reference}@{digest}")).unwrap().was_current);
    assert_eq!(server.blobs_asked.get(), 1);
    // A mirror with the same database: from now on, its manifest is the one that is known.
    let mirror = "registry.example/trivy-db:2";
    assert!(server.fetch(&place, mirror).unwrap().was_current);
    assert!(server.fetch(&place, mirror).unwrap().was_current);
    assert_eq!(server.blobs_asked.get(), 2);
    assert_eq!(place.load().status()[0].generation.as_ref().unwrap().from, format!("{mirror}@{digest}"));
    for pinned in [Digest::sha256(b"other").to_string(), "sha256:abc".to_owned()] {
        assert!(server.fetch(&place, &format!("{reference}@{pinned}")).is_err());
    }
}

/// As a directory, as an archive with its metadata first, as a layout, from a registry, and from an export.
#[test]
fn names_of_java_archives_come_from_every_source() {
    let place = Place::new();
    let folder = place.path("java-db");
    java_db::sample::write(&folder, BUILT, &[("g", "a", "1", "x"), ("g", "b", "2", "y")]);
    let archives = 2 + java_db::sample::WITHOUT_CHECKSUM;
    let files = ["metadata.json", "trivy-java.db"].map(|name| (name, fs::read(folder.join(name)).unwrap()));
    let files = files.each_ref().map(|(name, content)| (*name, &content[..]));
    let blob = gzip(&archive(&files));
    let manifest = manifest_of(&blob).replace(layout::LAYER, layout::JAVA_LAYER);
    for (name, content) in layout_with(&blob, manifest.clone()) {
        place.write(&format!("layout/{name}"), &content);
    }
    place.write("javadb.tar.gz", &blob);
    for from in ["java-db", "java-db/trivy-java.db", "javadb.tar.gz", "layout"] {
        let other = Place::new();
        let imported = other.imported(&place.path(from));
        let [one] = &imported[..] else { panic!("{from}: {imported:?}") };
        assert_eq!((&*one.source, one.kind, one.rows), ("trivy-java-db", DatabaseKind::JavaDb, archives), "{from}");
        assert_eq!(one.built.to_string(), BUILT, "{from}");
        let databases = other.load();
        assert!(databases.java().is_some() && !databases.has_advisories() && databases.oldest().is_none(), "{from}");
        assert!(!databases.generation().is_empty(), "images are matched again with it");
    }
    let server = Server { manifest, ..Server::new(blob) };
    let image = (DatabaseKind::JavaDb, "ghcr.io/aquasecurity/trivy-java-db:1");
    assert!(!server.fetch_kind(&place, image).unwrap().was_current);
    assert!(server.fetch_kind(&place, image).unwrap().was_current);
    assert!(server.fetch(&place, image.1).is_err(), "it is not a trivy-db");
    let exported = place.path("all.tar.gz");
    export(&place.store, &exported, &mut |_| ControlFlow::Continue(())).unwrap();
    let other = Place::new();
    assert_eq!(other.imported(&exported)[0].rows, archives);
    assert!(other.load().java().is_some());
}

#[test]
fn a_registry_that_delivers_something_else_is_refused() {
    let good = Server::new(database());
    let mut other = database();
    *other.last_mut().unwrap() ^= 1;
    let mut longer = database();
    longer.push(0);
    let index = "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[]}";
    for (name, manifest, blob) in [
        ("another blob", good.manifest.clone(), other),
        ("a shorter blob", good.manifest.clone(), database()[..500].to_vec()),
        ("a longer blob", good.manifest.clone(), longer),
        ("no blob", good.manifest.clone(), Vec::new()),
        ("an image", good.manifest.replace("trivy.db.layer", "image.layer"), database()),
        ("an index", index.to_owned(), database()),
        ("no manifest", "{}".to_owned(), database()),
        (
            "too large",
            good.manifest.replace(&format!("\"size\":{}", good.blob.len()), "\"size\":9999999999"),
            database(),
        ),
    ] {
        let place = Place::new();
        let server = Server { manifest, blob, size: None, blobs_asked: Cell::new(0) };
        assert!(server.fetch(&place, "registry.example/trivy-db:2").is_err(), "{name}");
        assert!(place.load().status().is_empty(), "{name}");
    }
}

#[test]
fn osv_archives_are_fetched_with_the_time_that_the_server_states() {
    let place = Place::new();
    let zip = osv::sample_zip(&[("GO-1.json", record("GO-1", "Go").as_bytes())]);
    let mut server = Server::new(zip.clone());
    let fetch = |server: &Server, url: &str| {
        fetch_file(&place.store, server, (WebSource::Osv, url), &options(), &mut |_| ControlFlow::Continue(()))
    };
    let installed = fetch(&server, "https://x/Go/all.zip").unwrap();
    assert_eq!((&*installed.manifest.source, installed.manifest.built), ("osv-go", BUILT.parse().unwrap()));
    assert_eq!(installed.manifest.files.len(), 1, "the archive is not kept");
    let installed = fetch(&server, "https://x/dated/all.zip").unwrap();
    assert_eq!(installed.manifest.built, "2026-05-30T00:00:00Z".parse().unwrap());
    assert!(!installed.was_current);
    server.blob.clear();
    assert!(fetch(&server, "https://x/dated/all.zip").unwrap().was_current, "it is not fetched again");
    let index = place.path("state/advisories/osv-go").join(installed.manifest.id()).join(osv::INDEX);
    fs::write(&index, b"damaged").unwrap();
    assert!(fetch(&server, "https://x/dated/all.zip").is_err(), "a damaged one is fetched again");
    server.blob = zip;
    let signed = fetch(&server, "https://x/dated/all.zip?sig=hush").unwrap();
    assert_eq!(signed.manifest.from, "https://x/dated/all.zip", "what may be a secret is not kept");
    server.size = Some(7);
    let error = fetch(&server, "https://x/Go/all.zip").unwrap_err().to_string();
    assert!(error.contains("instead of 7"), "{error}");
}

const CATALOG: &str = r#"{"catalogVersion": "2026.05.01", "dateReleased": "2026-05-01T14:00:00Z", "count": 1,
    "vulnerabilities": [{"cveID": "CVE-2024-1000", "dateAdded": "2024-05-01"}]}"#;

fn built(databases: &Databases, source: &str) -> Option<Timestamp> {
    let status = databases.status().iter().find(|status| status.source == source)?;
    status.generation.as_ref().map(|generation| generation.built)
}

fn scores(date: &str) -> String {
    format!("#model_version:v2025.03.14,score_date:{date}T00:00:00+0000\ncve,epss,percentile\nCVE-2024-1000,0.5,0.9\n")
}

#[test]
fn feeds_are_imported_exported_and_fetched() {
    let place = Place::new();
    for (name, content, source) in [
        ("kev.json", CATALOG.as_bytes().to_vec(), "kev"),
        ("epss.csv", scores("2026-05-01").into_bytes(), "epss"),
        ("epss.csv.gz", gzip(scores("2026-05-02").as_bytes()), "epss"),
    ] {
        let imported = place.imported(&place.write(name, &content));
        assert_eq!((&*imported[0].source, imported[0].rows), (source, 1), "{name}");
    }
    let databases = place.load();
    assert!(!databases.has_advisories() && databases.oldest().is_none(), "feeds make nothing clean");
    assert_eq!(built(&databases, "epss").unwrap().to_string(), "2026-05-02T00:00:00Z");
    let archive = place.path("all.tar.gz");
    export(&place.store, &archive, &mut |_| ControlFlow::Continue(())).unwrap();
    let other = Place::new();
    assert_eq!(other.imported(&archive).len(), 2);
    assert_eq!(other.load().generation(), databases.generation());
    for (name, content) in [
        ("older.csv", scores("2026-04-01").into_bytes()),
        ("future.csv", scores("2027-01-01").into_bytes()),
        ("cut.csv.gz", gzip(&[b'#'; 40])),
        ("cut2.csv.gz", gzip(scores("2026-05-03").as_bytes())[..60].to_vec()),
        ("other.json", b"{}".to_vec()),
    ] {
        assert!(place.import(&place.write(name, &content)).is_err(), "{name}");
    }
    let server = Server::new(CATALOG.as_bytes().to_vec());
    let fetched = |kind| {
        let source = (kind, "https://x/dated/kev.json");
        fetch_file(&place.store, &server, source, &options(), &mut |_| ControlFlow::Continue(()))
    };
    assert!(fetched(WebSource::Kev).unwrap().was_current);
    let other = "https://x/kev.json";
    assert!(
        fetch_file(&place.store, &server, (WebSource::Epss, other), &options(), &mut |_| ControlFlow::Continue(()))
            .is_err(),
        "a file of another kind"
    );
}

/// Malicious packages have no severity, and list versions, or everything from 0 on.
#[test]
fn records_of_malicious_packages_are_kept_and_match() {
    let place = Place::new();
    let malicious = json!({"id": "MAL-2024-1", "schema_version": "1.5.0", "modified": BUILT, "published": BUILT,
        "summary": "Malicious code in x (npm)", "affected": [{"package": {"ecosystem": "npm", "name": "x"},
        "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}], "versions": ["1.0.0"],
        "database_specific": {"cwes": [{"cweId": "CWE-506"}]}}], "credits": [],
        "database_specific": {"malicious-packages-origins": [{"source": "ghsa-malware"}]}});
    let listed = json!({"id": "MAL-2024-2", "modified": BUILT, "affected": [{"package": {"ecosystem": "npm", "name": "y"},
        "versions": ["1.0.1"]}]});
    let zip = osv::sample_zip(&[
        ("MAL-2024-1.json", malicious.to_string().as_bytes()),
        ("MAL-2024-2.json", listed.to_string().as_bytes()),
    ]);
    place.imported(&place.write("npm.zip", &zip));
    place.imported(&place.write("kev.json", CATALOG.replace("CVE-2024-1000", "CVE-2024-2000").as_bytes()));
    let package =
        |name: &str, version: &str| json!({"ecosystem": "npm", "name": name, "version": version, "path": name});
    let packages = [package("x", "2.0.0"), package("y", "1.0.1"), package("y", "1.0.2")];
    let inventory = crate::inventory::Inventory {
        packages: serde_json::from_value(json!(packages)).unwrap(),
        ..crate::inventory::Inventory::default()
    };
    let found = super::super::super::find(&place.load(), &inventory, NOW.parse().unwrap());
    let ids: Vec<_> = found.matches.iter().map(|matched| (&*matched.id, matched.package)).collect();
    assert_eq!((&ids[..], &found.gaps[..]), (&[("MAL-2024-1", 0), ("MAL-2024-2", 1)][..], &[][..]));
    assert!(found.matches.iter().all(|matched| !matched.exploited && matched.epss.is_none()));
}

#[test]
fn findings_say_whether_they_are_exploited() {
    let place = Place::new();
    let record = json!({"id": "GHSA-1", "aliases": ["CVE-2024-1000"], "modified": BUILT, "affected": [
        {"package": {"ecosystem": "npm", "name": "x"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]}]});
    place.imported(&place.write("npm.zip", &osv::sample_zip(&[("1.json", record.to_string().as_bytes())])));
    let inventory = crate::inventory::Inventory {
        packages: serde_json::from_value(json!([{"ecosystem": "npm", "name": "x", "version": "1.0.0", "path": "x"}]))
            .unwrap(),
        ..crate::inventory::Inventory::default()
    };
    let find = || {
        let found = super::super::super::find(&place.load(), &inventory, NOW.parse().unwrap());
        assert_eq!(found.gaps, []);
        (found.matches[0].exploited, found.matches[0].epss)
    };
    assert_eq!(find(), (false, None));
    place.imported(&place.write("kev.json", CATALOG.as_bytes()));
    place.imported(&place.write("epss.csv", scores("2026-05-01").as_bytes()));
    assert_eq!(find(), (true, Some(0.5)));
    let table = fs::read_dir(place.path("state/advisories/kev")).unwrap().flatten().find(|entry| entry.path().is_dir());
    fs::write(table.unwrap().path().join("cves.table"), b"damaged").unwrap();
    assert_eq!(find(), (false, Some(0.5)), "a damaged feed is not one");
    assert_eq!(built(&place.load(), "kev"), None);
}
