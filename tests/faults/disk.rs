//! Disks that are full, become full, or turn read-only, on small file systems that are mounted for the test. If nothing
//! can be mounted, the tests report on standard error that they were skipped.

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

use crate::bed::{REPOSITORY, SIZE, TestBed, image};
use crate::harness::{TestGate, metric, ready};
use crate::kept;
use crate::support::{request, soon, temp_dir};

/// What callers of the admin API over TCP present.
const TOKEN: &str = "0123456789abcdef";

/// A small file system, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// An in-memory file system, which can reserve space for a file.
    fn tmpfs(test: &str, mebibytes: u32) -> Option<Self> {
        let mount = Self(Self::folder());
        mount.mount(test, &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
    }

    /// A file system on a loop device that cannot reserve space, so that a write may find the disk full.
    fn without_promises(test: &str, mebibytes: u64) -> Option<Self> {
        let mount = Self(Self::folder());
        let device = mount.0.path().join("device");
        File::create(&device).expect("a file").set_len(mebibytes << 20).expect("a hole");
        if let Err(why) = run("mkfs.ext3", &["-q", "-F", "-m", "0", "-O", "^extents", text(&device)]) {
            note_skipped(test, &why);
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
                note_skipped(test, &why);
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mount")
    }

    /// Uses up all free space.
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

    /// Frees the space again.
    fn empty(&self) {
        fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Remounts as `ro` or `rw`.
    fn remount(&self, how: &str) {
        run("mount", &["-o", &format!("remount,{how}"), text(&self.path())]).expect("it can be remounted");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A lazy unmount, because a gate that is shutting down may still have files open. A directory that was never
        // mounted cannot be unmounted.
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

/// Bypasses the output capture of the test runner, because skipped tests must be visible.
fn note_skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "\nnote: skipped faults::disk::{test}: {why}");
}

/// A gate whose state is on the file system.
async fn bed_on(mount: &Mount) -> TestBed {
    bed_at(mount, "state", SIZE).await
}

async fn bed_at(mount: &Mount, name: &str, size: usize) -> TestBed {
    let change = |gate: TestGate| {
        let at = gate.path().join(name);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        // In a subdirectory: other files on the file system do not belong to the gate.
        let inside = mount.path().join("inside");
        fs::create_dir(&inside).expect("a folder");
        symlink(inside, at).expect("a link");
        gate.admin_token(TOKEN)
    };
    TestBed::with(size, change).await
}

/// Pulls until the layer is cached; once the fault is over, this must happen on its own.
async fn is_cached_again(bed: &TestBed) {
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

/// The problem is reported to operators, and counted.
async fn is_reported(bed: &TestBed) {
    assert!(metric(&bed.gate, "pullgate_cache_relayed_total").await > 0, "uncached blobs are not counted");
    let ready = request("GET", &bed.gate.admin_url("/readyz"), &[]).await;
    assert_eq!(ready.status, 200, "a gate that serves is ready");
    assert!(ready.text().contains("cache"), "/readyz does not say that nothing is cached: {}", ready.text());
}

/// Another image in the repository, as content and path.
fn another(bed: &TestBed, tag: &str, size: usize, seed: u64) -> (Bytes, String) {
    let content = noise(size, seed);
    bed.registry.push(REPOSITORY, Some(tag), &image(&content));
    let path = format!("/{REPOSITORY}/blobs/{}", Digest::sha256(&content));
    (content, path)
}

#[tokio::test]
async fn pulls_continue_on_a_full_disk() {
    let Some(mount) = Mount::tmpfs("pulls_continue_on_a_full_disk", 16) else { return };
    let bed = bed_on(&mount).await;
    mount.fill();
    for _ in 0..2 {
        assert!(bed.pull().await, "the blob is not streamed through");
    }
    assert!(!bed.is_kept().await);
    is_reported(&bed).await;
    // Nothing about another image is known yet: its manifest, facts and blobs are handled without the disk too.
    let (content, path) = another(&bed, "2", 700_000, 9);
    let manifest = bed.gate.get(&format!("/{REPOSITORY}/manifests/2")).await;
    assert_eq!(manifest.status, 200, "{}", manifest.text());
    let got = bed.gate.get(&path).await;
    assert_eq!((got.status, got.complete), (200, true), "{}", got.text());
    assert_eq!(got.body, content);
    let part = request("GET", &bed.gate.url(&path), &[("range", "bytes=1000-1999")]).await;
    assert_eq!((part.status, part.body), (206, content.slice(1000..2000)));
    mount.empty();
    is_cached_again(&bed).await;
}

#[tokio::test]
async fn wrong_content_never_completes_on_a_full_disk() {
    let Some(mount) = Mount::tmpfs("wrong_content_never_completes_on_a_full_disk", 16) else { return };
    let bed = bed_on(&mount).await;
    mount.fill();
    for at in [0, SIZE / 2, SIZE - 1] {
        let flip = bed.inject(Fault::Flip(at as u64));
        assert!(!bed.pull().await, "byte {at} is wrong, but the response completed");
        flip.remove();
    }
    bed.registry.inject(bed.downloads().times(2), Fault::Cut(SIZE as u64 / 3));
    assert!(bed.pull().await, "cut downloads are not resumed here");
    mount.empty();
    is_cached_again(&bed).await;
}

/// If the file system has reserved the space, other writers in the meantime change nothing.
#[tokio::test]
async fn reserved_space_survives_a_disk_that_fills_up() {
    let Some(mount) = Mount::tmpfs("reserved_space_survives_a_disk_that_fills_up", 16) else { return };
    let bed = bed_on(&mount).await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(SIZE / 4).await, bed.content.slice(..SIZE / 4));
    mount.fill();
    stall.remove();
    let rest = reader.finish().await;
    assert!(rest.complete && rest.body == bed.content.slice(SIZE / 4..));
    mount.empty();
    is_cached_again(&bed).await;
}

/// Without a reservation a write fails in the middle, and readers continue without the disk.
#[tokio::test]
async fn readers_continue_when_the_disk_becomes_full() {
    let name = "readers_continue_when_the_disk_becomes_full";
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
        assert!(rest.body == bed.content.slice(at..), "a reader that had {at} bytes received wrong content");
    }
    assert!(!bed.is_kept().await);
    assert!(bed.pull().await, "the next download is not streamed through");
    is_reported(&bed).await;
    mount.empty();
    is_cached_again(&bed).await;
}

#[tokio::test]
async fn pulls_continue_on_a_read_only_disk() {
    let name = "pulls_continue_on_a_read_only_disk";
    let Some(mount) = Mount::tmpfs(name, 32) else { return };
    // Only the content: a file system cannot turn read-only while a database on it is open.
    let bed = bed_at(&mount, "state/blobs", SIZE).await;
    assert!(bed.pull().await && bed.is_kept().await);
    mount.remount("ro");
    let gets = bed.gets();
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), gets, "cached content needs no upstream");
    let (content, path) = another(&bed, "2", SIZE, 9);
    assert_eq!(bed.gate.get(&format!("/{REPOSITORY}/manifests/2")).await.status, 200);
    let got = bed.gate.get(&path).await;
    assert!(got.complete && got.body == content, "{} {}", got.status, got.body.len());
    is_reported(&bed).await;
    mount.remount("rw");
    let state = bed.state();
    soon(async {
        while !kept::verified(&state).contains(&Digest::sha256(&content)) {
            assert_eq!(bed.gate.get(&path).await.body, content);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    is_cached_again(&bed).await;
}

/// A failed write must not lock the database for later requests, nor delay anyone.
#[tokio::test]
async fn a_full_disk_delays_nobody() {
    let name = "a_full_disk_delays_nobody";
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
    is_cached_again(&bed).await;
}

/// Pulls, much faster than a locked database would allow.
async fn in_time(bed: &TestBed, path: &str, wanted: &Bytes) {
    let began = std::time::Instant::now();
    let answer = bed.gate.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert!(answer.complete && answer.body == *wanted, "{path}");
    assert!(began.elapsed() < Duration::from_secs(5), "{path} took {:?}", began.elapsed());
}

/// What operators are told to do. There is no room for a change of the database before files are removed.
#[tokio::test]
async fn content_can_be_collected_on_a_full_disk() {
    let Some(mount) = Mount::tmpfs("content_can_be_collected_on_a_full_disk", 16) else { return };
    let bed = bed_on(&mount).await;
    assert!(bed.pull().await && bed.is_kept().await);
    mount.fill();
    let token = format!("Bearer {TOKEN}");
    let collected = request("POST", &bed.gate.admin_url("/api/v1/cache/gc"), &[("authorization", &token)]).await;
    assert_eq!(collected.status, 200, "{}", collected.text());
    let free = rustix::fs::statvfs(mount.path()).expect("a file system");
    assert!(free.f_bavail * free.f_frsize > 500_000, "{}", collected.text());
    assert!(!kept::verified(&bed.state()).contains(&bed.layer), "the file is gone");
    mount.empty();
    is_cached_again(&bed).await;
}

/// As any other: the gate has kept what it needs of the disk. Files are made when the database is opened.
#[tokio::test]
async fn gates_start_on_a_full_disk() {
    let Some(mount) = Mount::tmpfs("gates_start_on_a_full_disk", 16) else { return };
    let TestBed { registry, gate, layer, content } = bed_on(&mount).await;
    let mut gate = gate;
    for _ in 0..2 {
        let made = gate.stop().await;
        // Something else takes what the gate has freed.
        mount.fill();
        gate = made.start().await;
        mount.fill();
    }
    let bed = TestBed { registry, gate, layer, content };
    assert_eq!(bed.gate.get(&format!("/{REPOSITORY}/manifests/1")).await.status, 200);
    assert!(bed.pull().await, "the blob is not streamed through");
    mount.empty();
    is_cached_again(&bed).await;
}
