//! crane, which sends HEAD first, with path prefixes.

use crate::harness::{Client, Finished, Image, PAYLOAD, Program, World, assert_reason, file_of_tar, hostile};

pub(crate) struct Crane;

impl Client for Crane {
    fn pull(&self, world: &World, image: &Image) -> Finished {
        let target = world.new_dir(&image.repository);
        let reference = world.gate.reference(&image.name());
        let arguments = ["pull", "--insecure", "--format=oci", &reference];
        Program::new("crane", world.dir()).args(arguments).args([target]).run()
    }

    /// The layout contains the digest; the file system is requested again, through the gate.
    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>) {
        let index = std::fs::read(world.dir().join(&image.repository).join("index.json")).expect("the layout's index");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
        let tar = export(world, &world.gate.reference(&image.name()));
        (file_of_tar(tar.as_slice(), PAYLOAD), Some(digest))
    }
}

/// The file system of an image, as a tar.
fn export(world: &World, reference: &str) -> Vec<u8> {
    Program::new("crane", world.dir()).args(["export", "--insecure", reference, "-"]).run().bytes()
}

#[test]
fn by_path_prefix() {
    World::new().enforces(&Crane);
}

/// `crane digest` sends only HEAD if possible. A denial then has no body, and crane retries with GET.
#[test]
fn digests_are_returned_only_for_admitted_images() {
    let mut world = World::new();
    let digest = |world: &World, image: &Image| {
        let reference = world.gate.reference(&image.name());
        Program::new("crane", world.dir()).args(["digest", "--insecure", &reference]).run()
    };
    assert_eq!(digest(&world, &world.admitted).text(), world.admitted.digest);
    assert_reason(&digest(&world, &world.denied).refusal(), &world.denied.name());
    world.assert_no_bypass();
}

/// A known digest of a denied image does not help either.
#[test]
fn denied_images_are_denied_by_digest() {
    let mut world = World::new();
    let reference = world.gate.reference(&format!("{}@{}", world.denied.repository, world.denied.digest));
    let output = Program::new("crane", world.dir()).args(["manifest", "--insecure", &reference]).run().refusal();
    assert!(output.contains("denied by ClusterImagePolicy/interop"), "{output}");
    for blob in world.denied.blobs.clone() {
        let reference = world.gate.reference(&format!("{}@{blob}", world.denied.repository));
        Program::new("crane", world.dir()).args(["blob", "--insecure", &reference]).run().refusal();
    }
    world.assert_no_bypass();
}

/// Fetched directly, crane exports its file system.
#[test]
fn mislabelled_images_are_denied() {
    let mut world = World::new();
    let image = hostile::statement_and_tar(&world);
    world.withholds(&Crane, &image, "trust");
    let tar = export(&world, &world.direct_reference(&image));
    assert!(file_of_tar(tar.as_slice(), hostile::FILE).starts_with(hostile::SCRIPT.as_bytes()));
}
