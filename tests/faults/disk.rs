//! Disks that are full, become full, or turn read-only, on small file systems that are mounted for the test. Where
//! nothing can be mounted, the tests say on stderr that they are left out.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use pullgate::oci::Digest;
use pullgate::sample::Fault;
use pullgate::sample::image::noise;

use crate::bed::{Bed, REPOSITORY, SIZE, image, metric, ready};
use crate::harness::TestGate;
use crate::kept;
use crate::support::{request, soon, temp_dir};

/// A small file system, until it is dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// In memory: a file's room can be promised.
    fn tmpfs(test: &str, mebibytes: u32) -> Option<Self> {
        let mount = Self(Self::folder());
        mount.mount(test, &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
    }

    /// On a loop device, of a kind that promises no room: a write may find the disk full.
    fn without_promises(test: &str, mebibytes: u64) -> Option<Self> {
        let mount = Self(Self::folder());
        let device = mount.0.path().join("device");
        File::create(&device).expect("a file").set_len(mebibytes << 20).expect("a hole");
        if let Err(why) = run("mkfs.ext3", &["-q", "-F", "-m", "0", "-O", "^extents", text(&device)]) {
            left_out(test, &why);
            return None;
        }
        mount.mount(test, &["-o", "loop", text(&device)])
    }

    fn folder() -> tempfile::TempDir {
        let folder = temp_dir();
        fs::create_dir(folder.path().join("mount")).expect("a folder");
        folder
    }

    fn mount(self, test: &str, arguments: &[&str]) -> Option<Self> {
        let at = self.path();
        match run("mount", &[arguments, &[text(&at)]].concat()) {
            Ok(()) => Some(self),
            Err(why) => {
                left_out(test, &why);
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mount")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).expect("a file");
        for block in [1 << 20, 1 << 16, 1 << 12, 1 << 9] {
            let block = vec![1; block];
            loop {
                match filler.write_all(&block).and_then(|()| filler.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Gives it back.
    fn empty(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Remounts it: `ro` or `rw`.
    fn remount(&self, how: &str) {
        run("mount", &["-o", &format!("remount,{how}"), text(&self.path())]).expect("it can be mounted otherwise");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a gate that is still going down may hold files. What never was mounted cannot be unmounted.
        let _ = run("umount", &["-l", text(&self.path())]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.lines().next().unwrap_or_default();
    if output.status.success() { Ok(()) } else { Err(format!("{program} failed: {why}")) }
}

/// Past the test runner's capture, because a test that did not run must be seen.
fn left_out(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "\nnote: left out faults::disk::{test}: {why}");
}

/// A gate whose whole state is on the file system.
async fn bed_on(mount: &Mount) -> Bed {
    bed_at(mount, "state", SIZE).await
}

async fn bed_at(mount: &Mount, name: &str, size: usize) -> Bed {
    let change = |gate: TestGate| {
        let at = gate.path().join(name);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        // In a folder of its own: what else lies on the file system is not the gate's.
        let inside = mount.path().join("inside");
        fs::create_dir(&inside).expect("a folder");
        symlink(inside, at).expect("a link");
        gate
    };
    Bed::with(size, change).await
}

/// Pulls until it is kept: with the trouble over, that must come by itself.
async fn comes_back(bed: &Bed) {
    soon(async {
        while !bed.is_kept().await {
            assert!(bed.pull().await, "a pull failed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while ready(&bed.gate).await.contains("cache") {
            assert!(bed.pull().await, "a pull failed");
        }
    })
    .await;
    bed.recovers().await;
}

/// It is said where operators look, and counted.
async fn says_so(bed: &Bed) {
    assert!(metric(&bed.gate, "pullgate_cache_relayed_total").await > 0, "what is not cached is counted");
    let ready = request("GET", &bed.gate.admin_url("/readyz"), &[]).await;
    assert_eq!(ready.status, 200, "it serves, and so it is ready");
    assert!(ready.text().contains("cache"), "/readyz does not say that nothing is cached: {}", ready.text());
}

/// Another image of the repository, as content and path.
fn another(bed: &Bed, tag: &str, size: usize, seed: u64) -> (Bytes, String) {
    let content = noise(size, seed);
    bed.registry.push(REPOSITORY, Some(tag), &image(&content));
    let path = format!("/{REPOSITORY}/blobs/{}", Digest::sha256(&content));
    (content, path)
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_beginning_stops_no_pull() {
    let Some(mount) = Mount::tmpfs("a_disk_that_is_full_from_the_beginning_stops_no_pull", 16) else { return };
    let bed = bed_on(&mount).await;
    mount.fill();
    for _ in 0..2 {
        assert!(bed.pull().await, "it is not streamed through");
    }
    assert!(!bed.is_kept().await);
    says_so(&bed).await;
    // Nothing of another image is known yet: its manifest, its facts and its blobs come past the disk too.
    let (content, path) = another(&bed, "2", 700_000, 9);
    let manifest = bed.gate.get(&format!("/{REPOSITORY}/manifests/2")).await;
    assert_eq!(manifest.status, 200, "{}", manifest.text());
    let got = bed.gate.get(&path).await;
    assert_eq!((got.status, got.complete), (200, true), "{}", got.text());
    assert_eq!(got.body, content);
    let part = request("GET", &bed.gate.url(&path), &[("range", "bytes=1000-1999")]).await;
    assert_eq!((part.status, part.body), (206, content.slice(1000..2000)));
    mount.empty();
    comes_back(&bed).await;
}

#[tokio::test]
async fn wrong_bytes_are_not_completed_past_a_full_disk_either() {
    let Some(mount) = Mount::tmpfs("wrong_bytes_are_not_completed_past_a_full_disk_either", 16) else { return };
    let bed = bed_on(&mount).await;
    mount.fill();
    for at in [0, SIZE / 2, SIZE - 1] {
        let flip = bed.inject(Fault::Flip(at as u64));
        assert!(!bed.pull().await, "byte {at} is wrong, and it came whole");
        flip.remove();
    }
    bed.registry.inject(bed.downloads().times(2), Fault::Cut(SIZE as u64 / 3));
    assert!(bed.pull().await, "a download that is cut is taken up again here too");
    mount.empty();
    comes_back(&bed).await;
}

/// Where the file system has promised the room, what others write in the meantime changes nothing.
#[tokio::test]
async fn a_disk_that_others_fill_during_a_download_was_promised() {
    let Some(mount) = Mount::tmpfs("a_disk_that_others_fill_during_a_download_was_promised", 16) else { return };
    let bed = bed_on(&mount).await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(SIZE / 4).await, bed.content.slice(..SIZE / 4));
    mount.fill();
    stall.remove();
    let rest = reader.finish().await;
    assert!(rest.complete && rest.body == bed.content.slice(SIZE / 4..));
    mount.empty();
    comes_back(&bed).await;
}

/// Without such a promise a write fails in the middle, and readers go on past the disk.
#[tokio::test]
async fn a_disk_that_becomes_full_in_the_middle_of_a_download_stops_no_reader() {
    let name = "a_disk_that_becomes_full_in_the_middle_of_a_download_stops_no_reader";
    let Some(mount) = Mount::without_promises(name, 32) else { return };
    let bed = bed_at(&mount, "state/blobs", 6_000_000).await;
    let size = bed.content.len();
    let stall = bed.inject(Fault::Stall(size as u64 / 2));
    let mut readers = Vec::new();
    for at in [0, 1000, size / 4] {
        let mut reader = bed.begin(&[]).await;
        assert_eq!(reader.read(at).await, bed.content.slice(..at));
        readers.push((at, reader));
    }
    mount.fill();
    stall.remove();
    for (at, reader) in readers {
        let rest = reader.finish().await;
        assert!(rest.complete, "a reader that had {at} bytes was cut");
        assert!(rest.body == bed.content.slice(at..), "a reader that had {at} bytes got others than the content's");
    }
    assert!(!bed.is_kept().await);
    assert!(bed.pull().await, "the next is streamed through from its beginning");
    says_so(&bed).await;
    mount.empty();
    comes_back(&bed).await;
}

#[tokio::test]
async fn a_disk_that_turns_read_only_serves_what_it_has_and_stops_no_pull() {
    let name = "a_disk_that_turns_read_only_serves_what_it_has_and_stops_no_pull";
    let Some(mount) = Mount::tmpfs(name, 32) else { return };
    // The content alone: a file system cannot turn read-only under an open database.
    let bed = bed_at(&mount, "state/blobs", SIZE).await;
    assert!(bed.pull().await && bed.is_kept().await);
    mount.remount("ro");
    let gets = bed.gets();
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), gets, "what it has needs no upstream");
    let (content, path) = another(&bed, "2", SIZE, 9);
    assert_eq!(bed.gate.get(&format!("/{REPOSITORY}/manifests/2")).await.status, 200);
    let got = bed.gate.get(&path).await;
    assert!(got.complete && got.body == content, "{} {}", got.status, got.body.len());
    says_so(&bed).await;
    mount.remount("rw");
    let state = bed.state();
    soon(async {
        while !kept::verified(&state).contains(&Digest::sha256(&content)) {
            assert_eq!(bed.gate.get(&path).await.body, content);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    comes_back(&bed).await;
}

/// What fails to be written down must not lock the database for those who come after, nor make anybody wait.
#[tokio::test]
async fn a_full_disk_makes_nobody_wait_neither_then_nor_afterwards() {
    let name = "a_full_disk_makes_nobody_wait_neither_then_nor_afterwards";
    let Some(mount) = Mount::tmpfs(name, 16) else { return };
    let bed = bed_on(&mount).await;
    mount.fill();
    for seed in 0..20 {
        let tag = format!("full-{seed}");
        let (content, path) = another(&bed, &tag, 300_000, seed);
        in_time(&bed, &format!("/{REPOSITORY}/manifests/{tag}"), &image(&content).manifest().bytes).await;
        in_time(&bed, &path, &content).await;
    }
    mount.empty();
    for seed in 20..30 {
        let tag = format!("free-{seed}");
        let (content, path) = another(&bed, &tag, 300_000, seed);
        in_time(&bed, &format!("/{REPOSITORY}/manifests/{tag}"), &image(&content).manifest().bytes).await;
        in_time(&bed, &path, &content).await;
    }
    comes_back(&bed).await;
}

/// Pulls, much faster than a locked database would let it.
async fn in_time(bed: &Bed, path: &str, wanted: &Bytes) {
    let began = std::time::Instant::now();
    let answer = bed.gate.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert!(answer.complete && answer.body == *wanted, "{path}");
    assert!(began.elapsed() < Duration::from_secs(5), "{path} took {:?}", began.elapsed());
}

/// A gate that is restarted with no room left serves, or says that the disk is the reason; with room it starts.
#[tokio::test]
async fn a_gate_on_a_full_disk_starts_or_says_why_not() {
    let Some(mount) = Mount::tmpfs("a_gate_on_a_full_disk_starts_or_says_why_not", 16) else { return };
    let Bed { registry, gate, layer, content } = bed_on(&mount).await;
    let made = gate.stop().await;
    mount.fill();
    let gate = match made.try_start().await {
        Ok(gate) => gate,
        Err((made, error)) => {
            let why = error.to_string();
            assert!(why.contains("disk") && !error.is_configuration(), "{why}");
            mount.empty();
            let gate = made.start().await;
            mount.fill();
            gate
        }
    };
    let bed = Bed { registry, gate, layer, content };
    assert_eq!(bed.gate.get(&format!("/{REPOSITORY}/manifests/1")).await.status, 200);
    assert!(bed.pull().await, "it is not streamed through");
    mount.empty();
    comes_back(&bed).await;
}
