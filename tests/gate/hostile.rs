//! Images that somebody built to hide something, to fill a disk or to stop the gate: never clean, never an interruption for
//! others. Each contains a package that would be clean, so that only what is hostile keeps it from being admitted.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use http::Method;
use pullgate::sample::image::{Layer, Tree, noise};
use pullgate::sample::{Fault, On};

use crate::harness::TestGate;
use crate::scanner::{SCANNED, image, import, python, records, until_open};
use crate::support::{TestRegistry, request, soon};

/// A zip archive with one entry; `size` is what its headers state.
pub(crate) fn zip(name: &str, content: &[u8], size: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory");
    let packed = encoder.finish().expect("memory");
    let mut checksum = flate2::Crc::new();
    checksum.update(content);
    let short = |number: usize| u16::try_from(number).expect("short").to_le_bytes();
    let long = |number: usize| u32::try_from(number).expect("long").to_le_bytes();
    let common = [
        &short(20)[..],
        &short(0),
        &short(8),
        &long(0),
        &checksum.sum().to_le_bytes(),
        &long(packed.len()),
        &long(size),
        &short(name.len()),
        &short(0),
    ]
    .concat();
    let local = [b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat();
    let directory = [b"PK\x01\x02", &short(20)[..], &common, &[0; 14], name.as_bytes()].concat();
    let end = [&[0; 4][..], &short(1), &short(1), &long(directory.len()), &long(local.len()), &short(0)].concat();
    [&local[..], &directory, b"PK\x05\x06", &end].concat()
}

/// A layer with a package that is not affected, and this file.
fn beside(path: &str, content: impl Into<Vec<u8>>) -> Layer {
    Layer::gzip(&python("2.2.28").file(path, content.into()))
}

/// A tar whose first file has a name that no library writes.
fn named(name: &[u8]) -> Layer {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().expect("GNU").name[..name.len()].copy_from_slice(name);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    Layer::gzip_of(&[header.as_bytes(), &python("2.2.28").to_tar()[..]].concat())
}

fn hostile() -> Vec<(&'static str, Layer)> {
    let pom = "META-INF/maven/g/a/pom.properties";
    let zeros = vec![0; 40 << 20];
    let nested = (0..12).fold(zip("A.class", b"", 0), |inner, _| zip("inner.jar", &inner, inner.len()));
    let tar = python("2.2.28").to_tar();
    let mut cut = Layer::gzip_of(&tar).bytes.to_vec();
    cut.truncate(cut.len() - 20);
    let mut long = tar.clone();
    // The size of the first file: more than follows.
    let at = long.windows(8).position(|part| part == b"METADATA").expect("a file") / 512 * 512;
    let mut header = tar::Header::from_byte_slice(&long[at..at + 512]).clone();
    header.set_size(1 << 40);
    header.set_cksum();
    long[at..at + 512].copy_from_slice(header.as_bytes());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&tar[..tar.len() - 1024]).expect("memory");
    for _ in 0..8 {
        encoder.write_all(&zeros).expect("memory");
    }
    let bomb = encoder.finish().expect("memory");
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    vec![
        ("a file in an archive that unpacks to far more", beside("a.jar", zip(pom, &zeros, zeros.len()))),
        ("an archive that lies about a size", beside("b.jar", zip(pom, &zeros, 100))),
        ("archives in archives", beside("c.jar", nested)),
        ("an archive without its end", beside("d.jar", zip(pom, b"x", 1)[..60].to_vec())),
        (
            "a damaged database",
            beside("var/lib/rpm/rpmdb.sqlite", [b"SQLite format 3\0", &noise(4096, 1)[..]].concat()),
        ),
        ("another damaged database", beside("var/lib/rpm/Packages.db", [b"RpmP", &noise(4096, 2)[..]].concat())),
        ("a path out of the image", named(b"../../etc/passwd")),
        ("a deletion of nothing", named(b"a/.wh.")),
        ("a link to a program elsewhere", Layer::gzip(&python("2.2.28").symlink("opt/x.jar", "/opt/hidden"))),
        ("a hard link to nothing", Layer::gzip(&python("2.2.28").hard_link("opt/x.jar", "opt/hidden"))),
        ("a compressed layer without its end", Layer::of(gzip, cut)),
        ("a file that is longer than its layer", Layer::gzip_of(&long)),
        ("a layer that unpacks to far more", Layer::of(gzip, bomb)),
        ("something else than a tar", Layer::of(gzip, noise(10_000, 3))),
        ("an unknown compression", Layer::of("application/vnd.oci.image.layer.v1.tar+lz4", noise(10_000, 4))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_images_are_never_clean_and_stop_nobody() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, &crate::harness::policy(SCANNED));
    made.config();
    records(made.path());
    assert!(import(made.path()).status.success());
    let gate = made.start().await;
    until_open(&gate).await;
    let cases = hostile();
    for (index, (_, layer)) in cases.iter().enumerate() {
        registry.push(&format!("evil/{index}"), Some("1"), &image([layer.clone()]));
    }
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.28"))]));
    let paths: Vec<_> = (0..cases.len()).map(|index| format!("/evil/{index}/manifests/1")).collect();
    let verdict = async |path: &str| loop {
        let answer = gate.get(path).await;
        if answer.status != 429 {
            return answer;
        }
    };
    let all = futures_util::future::join_all(paths.iter().map(|path| verdict(path)));
    let ping = gate.any_url("/v2/");
    let good = async { (verdict("/team/app/manifests/1").await.status, request("GET", &ping, &[]).await.status) };
    let (answers, good) = tokio::join!(all, good);
    assert_eq!(good, (200, 200), "others are served meanwhile");
    for ((what, _), answer) in cases.iter().zip(answers) {
        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        assert!(answer.text().contains("INCOMPLETE"), "{what}: {}", answer.text());
    }
    let ready = request("GET", &gate.admin_url("/readyz"), &[]).await;
    assert_eq!(ready.status, 200, "{}", ready.text());
}

/// A node asks again while the layers of a large image arrive; nothing is downloaded twice for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_pending_while_layers_arrive_and_they_are_downloaded_once() {
    let registry = TestRegistry::start().await;
    let built = image([Layer::gzip(&python("2.2.28")), Layer::gzip(&Tree::new().file("big", noise(3 << 20, 5)))]);
    registry.push("team/large", Some("1"), &built);
    let made = TestGate::new(&registry, &crate::harness::policy(SCANNED)).with("[gate]\nverdict_wait = \"100ms\"");
    made.config();
    records(made.path());
    assert!(import(made.path()).status.success());
    let held = registry.inject(On::blobs().method(Method::GET), Fault::Gate);
    let gate = made.start().await;
    until_open(&gate).await;
    for _ in 0..3 {
        let pending = gate.get("/team/large/manifests/1").await;
        assert_eq!(pending.status, 429, "{}", pending.text());
        assert_eq!(pending.json()["errors"][0]["code"], "TOOMANYREQUESTS");
        assert!(pending.header("retry-after").is_some());
    }
    held.release();
    held.remove();
    soon(async { while gate.get("/team/large/manifests/1").await.status != 200 {} }).await;
    for layer in built.json()["layers"].as_array().expect("layers") {
        let path = format!("/team/large/blobs/{}", layer["digest"].as_str().expect("a digest"));
        assert_eq!(gate.get(&path).await.status, 200);
        assert_eq!(registry.count(|r| r.is("GET", &path)), 1, "{path}");
    }
}
