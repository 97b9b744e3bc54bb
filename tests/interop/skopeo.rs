//! skopeo, with path prefixes.

use std::fs;

use crate::harness::{Client, Finished, Image, PAYLOAD, Program, World, assert_reason, file_of_layer, hostile};

struct Skopeo;

impl Client for Skopeo {
    fn pull(&self, world: &World, image: &Image) -> Finished {
        copy(world, &world.gate.reference(&image.name()), image)
    }

    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>) {
        let copied = world.new_dir(&image.repository);
        let manifest = copied.join("manifest.json");
        let digest = Program::new("skopeo", world.dir()).args(["manifest-digest".as_ref(), manifest.as_os_str()]);
        let layer = image.blobs.last().expect("a layer").replace("sha256:", "");
        let bytes = fs::read(copied.join(layer)).expect("the layer's file");
        (file_of_layer(&bytes, PAYLOAD), Some(digest.run().text()))
    }
}

/// Copies an image, by this name, to the directory of its repository.
fn copy(world: &World, reference: &str, image: &Image) -> Finished {
    let source = format!("docker://{reference}");
    let target = format!("dir:{}", world.new_dir(&image.repository).display());
    let arguments = ["copy", "--src-tls-verify=false", &source, &target];
    Program::new("skopeo", world.dir()).args(["--insecure-policy"]).args(arguments).run()
}

#[test]
fn by_path_prefix() {
    World::new().enforces(&Skopeo);
}

/// skopeo shows the upstream's description of an image.
#[test]
fn inspect_shows_admitted_images_and_reasons_for_denial() {
    let mut world = World::new();
    let inspect = |world: &World, image: &Image| {
        let reference = format!("docker://{}", world.gate.reference(&image.name()));
        let options = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &reference];
        Program::new("skopeo", world.dir()).args(options).run()
    };
    assert_eq!(inspect(&world, &world.admitted).text(), world.admitted.digest);
    assert_reason(&inspect(&world, &world.denied).refusal(), &world.denied.name());
    world.assert_no_bypass();
}

/// Fetched directly, skopeo copies it.
#[test]
fn mislabelled_images_are_denied() {
    let mut world = World::new();
    let image = hostile::cose_and_tar(&world);
    world.withholds(&Skopeo, &image, "trust");
    let layer = image.blobs.last().expect("a layer").replace("sha256:", "");
    let layer = world.new_dir(&image.repository).join(layer);
    assert!(!layer.exists());
    copy(&world, &world.direct_reference(&image), &image).bytes();
    assert!(layer.exists());
}
