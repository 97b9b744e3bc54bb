use std::io::Read;

use oci_spec::image::ImageConfiguration;

use super::*;
use crate::oci::{Content, Manifest};

fn tree() -> Tree {
    Tree::new()
        .file("etc/os-release", "ID=debian\n")
        .symlink("etc/link", "os-release")
        .executable("app/run", "#!")
        .file(&format!("long/{}", "x".repeat(200)), "long")
}

fn parse(built: &Built) -> Manifest {
    Manifest::parse(built.manifest().bytes.clone(), Some(&built.manifest().media_type)).unwrap()
}

#[test]
fn layers_unpack_to_their_diff_id() {
    let plain = Layer::tar(&tree());
    let mut gunzipped = Vec::new();
    let gzip = Layer::gzip(&tree());
    flate2::read::GzDecoder::new(&*gzip.bytes).read_to_end(&mut gunzipped).unwrap();
    assert_eq!(Digest::sha256(&gunzipped), gzip.diff_id);
    let zstd = Layer::zstd(&tree());
    let mut unpacked = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(&*zstd.bytes).unwrap().read_to_end(&mut unpacked).unwrap();
    assert_eq!((Digest::sha256(&unpacked), zstd.diff_id), (plain.digest, plain.diff_id));

    let mut archive = tar::Archive::new(&*plain.bytes);
    let paths: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(&paths[..5], ["etc", "etc/os-release", "etc/link", "app", "app/run"]);
}

#[test]
fn images_are_valid_and_reproducible() {
    let image = || Image::linux_amd64().layer(Layer::gzip(&tree())).layer(Layer::tar(&tree())).command(&["/run"]);
    let built = image().build();
    assert_eq!(built.root, image().build().root);
    let Content::Image { config, layers } = parse(&built).content else { panic!("not an image") };
    assert_eq!(layers.iter().map(|l| l.digest).collect::<Vec<_>>(), built.layers);
    let (_, bytes) = built.blobs.iter().find(|(digest, _)| *digest == config.digest).unwrap();
    let config: ImageConfiguration = serde_json::from_slice(bytes).unwrap();
    let diff_id = Layer::tar(&tree()).digest.to_string();
    assert_eq!(config.rootfs().diff_ids(), &[diff_id.clone(), diff_id]);
    assert_eq!(config.architecture().to_string(), "amd64");

    let docker = parse(&image().docker().build());
    assert_eq!(docker.media_type, media_type::DOCKER_MANIFEST);
    assert!(docker.descriptors().all(|d| d.media_type.starts_with("application/vnd.docker.")
        || d.media_type == "application/vnd.oci.image.layer.v1.tar"));
}

#[test]
fn indexes_and_referrers_name_their_children_and_subjects() {
    let arm: Platform = "linux/arm/v7".parse().unwrap();
    let children = [Image::linux_amd64().build(), Image::new(arm.clone()).build()];
    let index = index(&children);
    let manifest = parse(&index);
    assert_eq!(manifest.children()[1].platform, Some(arm));
    assert_eq!(manifest.children()[0].digest, children[0].root);
    assert_eq!((index.manifests.len(), index.configs.len()), (3, 2));

    let layer = Layer::of("application/vnd.example", "x").annotation("key", "value");
    let referrer = parse(&referrer(&index, "application/vnd.example", std::slice::from_ref(&layer), &[("a", "b")]));
    assert_eq!(referrer.subject.unwrap().digest, index.root);
    let attached = parse(&attachment(&[layer]));
    assert_eq!(attached.descriptors().nth(1).unwrap().annotation("key"), Some("value"));
    assert_eq!(attachment_tag(&index.root, ".sig"), format!("sha256-{}.sig", index.root.hex()));
}

#[test]
fn noise_depends_only_on_the_seed() {
    assert_eq!(noise(1003, 1), noise(1003, 1));
    assert_ne!(noise(64, 1), noise(64, 2));
    assert_eq!(noise(1003, 1).len(), 1003);
}

#[test]
fn polyglots_are_valid_in_both_formats() {
    let text = polyglot::statement_and_tar("hello", "echo ran");
    assert!(crate::oci::payload::Statement::parse(&text).is_ok());
    let sizes: Vec<u64> =
        tar::Archive::new(&*text).entries().unwrap().map_while(|entry| Some(entry.ok()?.size())).collect();
    assert_eq!(sizes, [0, 512]);
    let cose = polyglot::cose_and_tar("hello", b"x");
    assert_eq!((&cose[..2], &cose[cose.len() - 2..]), (&[0xd2, 0x84][..], &[0x41, 0][..]));
    let packed = polyglot::behind_a_blank_header(&Tree::new().file("x", "y"));
    for archive in [&text, &cose, &packed] {
        assert!(crate::oci::sniff::is_tar_like(archive));
    }
}
