//! A real Debian system as an image, with many files, links, modes and a package database; `tests/tools` builds it from
//! the distribution's packages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::containerd::{Containerd, final_hosts};
use crate::harness::{Client, Image, Program, UPSTREAM, World};
use crate::podman::Podman;

/// The tar built by `tests/tools`.
fn root_file_system() -> String {
    let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/debian/rootfs.tar");
    assert!(tar.exists(), "{} is missing: run tests/tools", tar.display());
    tar.to_str().expect("a path in UTF-8").to_owned()
}

fn push(world: &World, repository: &str) -> Image {
    let home = world.new_dir("debian");
    Image::push_layers(&world.store, &home, repository, "12", &[&root_file_system()])
}

/// The pulled system runs: its shell reads its own release, and its package database lists the installed packages.
#[test]
fn arrives_complete_with_podman_and_runs() {
    let mut world = World::new();
    let (admitted, denied) = (push(&world, "admitted/debian"), push(&world, "denied/debian"));
    let podman = Podman::relocated(&world);
    podman.pull(&world, &admitted).bytes();
    let root = podman.mount(&world, &admitted);
    let inside = |words: &[&str]| Program::new("chroot", world.dir()).args([&root]).args(words).run().text();
    assert_eq!(inside(&["/bin/sh", "-c", ". /etc/os-release; echo $ID"]), "debian");
    assert!(inside(&["/usr/bin/openssl", "version"]).starts_with("OpenSSL "));
    assert_same_tree(&world, &root);
    world.denies(&podman, &denied);
    world.assert_no_bypass();
}

#[test]
fn arrives_complete_with_containerd() {
    let mut world = World::new();
    let (admitted, denied) = (push(&world, "admitted/debian"), push(&world, "denied/debian"));
    let containerd = Containerd::start(&world, &final_hosts(&world));
    containerd.pull(&world, &admitted).bytes();
    let root = world.new_dir("mounted");
    containerd.mount(&world, &admitted, &root);
    assert_same_tree(&world, &root);
    containerd.unmount(&world, &root);
    world.denies(&containerd, &denied);
    world.assert_no_bypass();
}

/// The same layer is in an admitted and in a denied repository; the first must not expose it in the second.
#[test]
fn layers_of_admitted_images_are_not_served_from_denied_repositories() {
    let mut world = World::new();
    let (admitted, denied) = (push(&world, "admitted/debian"), push(&world, "denied/debian"));
    assert_eq!(admitted.blobs, denied.blobs);
    let status = |path: String| {
        let url = format!("{}/v2/{UPSTREAM}/{path}", world.gate.url());
        let accept = ["--header", "Accept: application/vnd.oci.image.manifest.v1+json"];
        let arguments = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
        Program::new("curl", world.dir()).args(accept).args(arguments).run().text()
    };
    let layer = admitted.blobs.last().expect("a layer");
    assert_eq!(status("admitted/debian/manifests/12".to_owned()), "200");
    assert_eq!(status("denied/debian/manifests/12".to_owned()), "403");
    assert_eq!(status(format!("admitted/debian/blobs/{layer}")), "200");
    assert_ne!(status(format!("denied/debian/blobs/{layer}")), "200");
    world.assert_no_bypass();
}

/// Compares every path, type, mode, size and link with `tar --compare`.
fn assert_same_tree(world: &World, root: &Path) {
    let tar = PathBuf::from(root_file_system());
    let arguments = ["--compare", "--numeric-owner", "--file"];
    let arguments =
        arguments.iter().map(AsRef::as_ref).chain([tar.as_os_str(), "--directory".as_ref(), root.as_os_str()]);
    Program::new("tar", world.dir()).args(arguments).run().bytes();
    assert!(fs::metadata(root.join("var/lib/dpkg/status")).is_ok_and(|status| status.len() > 1000));
}
