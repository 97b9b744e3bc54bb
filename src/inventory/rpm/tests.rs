use std::io::Cursor;

use super::sample::{SampleRpm, bdb, header, ndb};
use super::*;
use crate::inventory::checksum::FileChecksum;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn read(bytes: &[u8]) -> Result<Vec<RpmPackage>, String> {
    let mut packages = Vec::new();
    read_database(&mut Cursor::new(bytes), bytes.len() as u64, &mut |package| {
        packages.push(package?);
        Ok(())
    })?;
    Ok(packages)
}

fn samples() -> Vec<SampleRpm> {
    vec![
        SampleRpm {
            name: "openssl-libs",
            version: "3.0.7",
            release: "27.el9",
            epoch: Some(1),
            arch: "x86_64",
            source: "openssl-3.0.7-27.el9.src.rpm",
            vendor: "Red Hat, Inc.",
            license: "Apache-2.0",
            files: vec![("/usr/lib64/", "libssl.so.3"), ("/", "x"), ("/", "z")],
            digests: vec![(DIGEST, ""), ("", "y"), ("", "")],
            ..SampleRpm::default()
        },
        SampleRpm {
            name: "nodejs",
            version: "18.19.0",
            release: "1.module+el8",
            arch: "x86_64",
            source: "nodejs-18.19.0-1.module+el8.src.rpm",
            module: "nodejs:18:8090020231213:a75119d5",
            vendor: "(none)",
            padding: 9000,
            ..SampleRpm::default()
        },
        SampleRpm {
            name: "gpg-pubkey",
            version: "fd431d51",
            release: "4ae0493b",
            source: "(none)",
            ..SampleRpm::default()
        },
    ]
}

fn headers() -> Vec<Vec<u8>> {
    samples().iter().map(SampleRpm::header).collect()
}

fn assert_are_the_samples(packages: &[RpmPackage]) {
    let names: Vec<_> =
        packages.iter().map(|found| format!("{} {}", found.package.name, found.package.version)).collect();
    assert_eq!(names, ["openssl-libs 1:3.0.7-27.el9", "nodejs 18.19.0-1.module+el8", "gpg-pubkey fd431d51-4ae0493b"]);
    let [openssl, node, key] = packages else { unreachable!() };
    let source = openssl.package.source.clone().unwrap();
    assert_eq!((&*source.name, &*source.version), ("openssl", "1:3.0.7-27.el9"));
    assert_eq!(openssl.package.architecture, "x86_64");
    assert_eq!(openssl.package.vendor.as_deref(), Some("Red Hat, Inc."));
    assert_eq!(openssl.package.licenses, ["Apache-2.0"]);
    let files: Vec<_> = openssl.files.iter().map(|file| (&*file.path, file.checksum)).collect();
    let digest = FileChecksum::from_hex(DIGEST);
    assert_eq!(files, [("usr/lib64/libssl.so.3", digest), ("x", FileChecksum::from_rpm(b"", b"y")), ("z", None)]);
    assert!(digest.is_some());
    assert_eq!(node.package.module.as_deref(), Some("nodejs:18:8090020231213:a75119d5"));
    assert_eq!((&node.package.source, &node.package.vendor), (&None, &None));
    assert_eq!((&key.package.source, &*key.package.architecture), (&None, ""));
}

#[test]
fn all_formats_state_the_same_packages() {
    assert_are_the_samples(&read(&ndb(&headers())).unwrap());
    assert_are_the_samples(&read(&bdb(&headers(), false)).unwrap());
    assert_are_the_samples(&read(&bdb(&headers(), true)).unwrap());
    assert!(read(b"").unwrap().is_empty());
}

/// A database that SQLite itself writes, with rows in the page, in overflow pages, and in several pages.
async fn sqlite(headers: &[Vec<u8>], page_size: u32) -> Vec<u8> {
    use sqlx::ConnectOptions as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rpmdb.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let options = options.page_size(page_size).synchronous(sqlx::sqlite::SqliteSynchronous::Off);
    let mut connection = options.connect().await.unwrap();
    for statement in [
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)",
        "CREATE TABLE Name (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)",
        "CREATE INDEX Name_idx ON Name(key)",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    for header in headers {
        let row = sqlx::query("INSERT INTO Packages (blob) VALUES (?)").bind(header).execute(&mut connection);
        row.await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn databases_of_sqlite_are_read() {
    for page_size in [512, 4096, 65_536] {
        assert_are_the_samples(&read(&sqlite(&headers(), page_size).await).unwrap());
        let many: Vec<_> = std::iter::repeat_n(headers(), 300).flatten().collect();
        let found = read(&sqlite(&many, page_size).await).unwrap();
        assert_eq!(found.len(), 900, "pages of {page_size} bytes");
        assert_are_the_samples(&found[897..]);
    }
}

/// Each byte changed, and each end: an error or some packages, but no panic and no endless loop.
#[tokio::test]
async fn damaged_databases_end() {
    for whole in [ndb(&headers()), bdb(&headers(), false), sqlite(&headers(), 512).await] {
        for at in (0..whole.len()).filter(|at| *at < 400 || at % 61 == 0) {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
        for end in (1..whole.len()).step_by(29) {
            let packages = read(&whole[..end]);
            assert!(packages.is_err() || packages.unwrap().len() == 3, "cut at {end} of {}", whole.len());
        }
    }
}

#[test]
fn unreadable_packages_are_errors() {
    let text = |tag, value: &[u8]| (tag, 6, 1, value.to_vec());
    let named = [text(1000, b"x\0"), text(1001, b"1\0"), text(1002, b"1\0")];
    assert_eq!(read(&ndb(&[header(&named)])).unwrap().len(), 1);
    for (what, tags) in [
        ("no name", named[1..].to_vec()),
        ("no release", named[..2].to_vec()),
        ("a name that is a number", [&[(1000, 4, 1, vec![0; 4])][..], &named[1..]].concat()),
        (
            "a file in an unknown directory",
            [&named[..], &[(1116, 4, 1, vec![0, 0, 0, 7]), (1117, 8, 1, b"f\0".to_vec())]].concat(),
        ),
        ("a file without a directory", [&named[..], &[(1117, 8, 1, b"f\0".to_vec())]].concat()),
        ("more numbers than there are", [&named[..], &[(1003, 4, 99, vec![0; 4])]].concat()),
    ] {
        assert!(read(&ndb(&[header(&tags)])).is_err(), "{what}");
    }
    let mut longer = header(&named);
    longer.push(0);
    assert!(read(&ndb(&[longer])).is_err());
    assert!(read(b"some other file, which is not a database of rpm").is_err());
}

/// A later entry of the same tag replaces the one in the signed region.
#[test]
fn the_last_value_of_a_tag_counts() {
    let text = |tag, value: &[u8]| (tag, 6, 1, value.to_vec());
    let tags = [text(1000, b"x\0"), text(1001, b"1\0"), text(1002, b"1\0"), text(1001, b"2\0")];
    assert_eq!(read(&ndb(&[header(&tags)])).unwrap()[0].package.version, "2-1");
}

#[test]
fn manifests_list_packages() {
    let line = "mariner-release\t2.0-12.cm2\t1653816591\t1653753130\tMicrosoft Corporation\t(none)\t580\tnoarch\t0\t\
        mariner-release-2.0-12.cm2.src.rpm\n\
        openssl\t1.1.1k-15.cm2\t1\t1\tMicrosoft Corporation\t(none)\t1\tx86_64\t1\tssl-1.1.1k-15.cm2.src.rpm\n";
    let (packages, problems) = manifest(line.as_bytes(), 2).unwrap();
    assert!(problems.is_empty());
    assert_eq!(
        (&*packages[0].name, &*packages[0].version, &packages[0].source),
        ("mariner-release", "2.0-12.cm2", &None)
    );
    assert_eq!((&*packages[1].version, &*packages[1].architecture), ("1:1.1.1k-15.cm2", "x86_64"));
    assert_eq!(packages[1].source.as_ref().unwrap().version, "1:1.1.1k-15.cm2");
    let (packages, problems) = manifest(format!("openssl\t1.1.1k\n{line}").as_bytes(), 3).unwrap();
    assert_eq!((packages.len(), problems.len()), (2, 1), "a line that cannot be read does not hide the others");
    assert!(manifest(line.as_bytes(), 1).is_err());
}
