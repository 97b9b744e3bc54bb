//! Damaged and large layers.

use super::*;

#[test]
fn damaged_layers_have_gaps() {
    let tar = archive(&[dpkg_status(&[("zlib1g", "1.2")]), file("x", [b'x'; 2000])]);
    let gzip = crate::sample::image::Layer::gzip_of(&tar).bytes.to_vec();
    for (what, bytes) in [
        ("a tar that ends early", tar[..2000].to_vec()),
        ("a gzip that ends early", gzip[..gzip.len() - 20].to_vec()),
        ("a gzip with trailing data", [&gzip[..], b"trailing"].concat()),
        (
            "an encrypted layer",
            (0..5000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect(),
        ),
        ("another compression", b"BZh91AY&SY".repeat(100)),
        ("a compressed layer that is also a tar", [b"\x1f\x8b", &tar[2..]].concat()),
    ] {
        assert!(!read(&bytes).contents.problems.is_empty(), "{what}");
    }
    assert_eq!(read(&b""[..]).diff_id, Ok(Digest::sha256(b"")));
    let cut = read(&tar[..2000]);
    assert_eq!(cut.diff_id, Ok(Digest::sha256(&tar[..2000])), "the digest covers all bytes");
    assert_eq!(packages(&cut.contents), ["zlib1g 1.2 in var/lib/dpkg/status"], "what was read is kept");
}

#[test]
fn limits_are_gaps() {
    let entries: Vec<_> =
        (0..50).map(|number| node_package(&format!("app/{number}"), "one", &format!("{number}"))).collect();
    let tar = archive(&entries);
    let usual = LayerLimits::of(tar.len() as u64);
    for (what, limits) in [
        ("entries", LayerLimits { entries: 10, ..usual }),
        ("packages", LayerLimits { packages: 10, ..usual }),
        ("texts", LayerLimits { facts: 100, ..usual }),
        ("path", LayerLimits { path: 10, ..usual }),
        ("paths", LayerLimits { names: 100, ..usual }),
        ("bytes", LayerLimits { unpacked: 2000, ..usual }),
    ] {
        let reading = read_layer(&tar[..], Algorithm::Sha256, &limits, &std::env::temp_dir()).unwrap();
        let problems: Vec<_> = reading.contents.problems.iter().collect();
        assert!(problems.iter().any(|problem| problem.contains(what)), "{what}: {problems:?}");
        assert_eq!(reading.diff_id.is_err(), what == "bytes");
    }
    let large = file("etc/os-release", vec![b'#'; 100_000]);
    assert_eq!(packages(&contents(&[large])), ["etc/os-release: the file has more than 65536 bytes"]);
}

/// Large databases go through a temporary file.
#[test]
fn large_files_are_read_from_disk() {
    let status: Vec<_> = (0..40_000).map(|number| format!("Package: p{number}\nVersion: 1\n\n")).collect();
    let tar = archive(&[file("var/lib/dpkg/status", status.concat())]);
    let limits = LayerLimits { packages: 100_000, ..LayerLimits::of(tar.len() as u64) };
    let reading = read_layer(&tar[..], Algorithm::Sha256, &limits, &std::env::temp_dir()).unwrap();
    assert_eq!(packages(&reading.contents).len(), 40_000);
    // A layer has fewer packages: what is beyond the limit is a gap.
    let found = packages(&contents(&[file("var/lib/dpkg/status", status.concat())]));
    assert!(found.len() == 1 && found[0].contains("too many packages"), "{found:?}");
}

#[test]
fn failures_outside_the_layer_are_errors() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is broken"))
        }
    }
    let tar = archive(&[file("x", [b'x'; 300_000])]);
    let (limits, temporary) = (LayerLimits::of(tar.len() as u64), std::env::temp_dir());
    let broken = Cursor::new(&tar[..100_000]).chain(Broken);
    let error = read_layer(broken, Algorithm::Sha256, &limits, &temporary).unwrap_err();
    assert_eq!(error.to_string(), "the disk is broken");
    let large = archive(&[file("var/lib/dpkg/status", vec![b'\n'; 2 << 20])]);
    let missing = Path::new("/nonexistent");
    assert!(read_layer(&large[..], Algorithm::Sha256, &LayerLimits::of(large.len() as u64), missing).is_err());
}

/// A layer that takes too long is not read again at each pull: what was read is kept, with a gap.
#[test]
fn the_time_for_a_layer_is_limited() {
    let tar = archive(&[dpkg_status(&[("zlib1g", "1.2")]), file("x", [b'x'; 300_000])]);
    let limits = |time| LayerLimits { time, ..LayerLimits::of(tar.len() as u64) };
    let read = |content: &mut dyn Read, limits| {
        read_layer(content, Algorithm::Sha256, &limits, &std::env::temp_dir()).unwrap()
    };
    let reading = read(&mut &tar[..], limits(Duration::ZERO));
    assert!(reading.ended_early && reading.diff_id.is_err() && !reading.contents.problems.is_empty());
    /// Bytes that take their time to arrive.
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(50));
            self.0.read(out)
        }
    }
    let reading = read(&mut Slow(&tar), limits(Duration::from_millis(40)));
    assert!(!reading.ended_early, "waiting for bytes does not count: {:?}", reading.diff_id);
}
