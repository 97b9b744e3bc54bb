//! Small images, built with `tar` and `crane`.

use std::fs;
use std::io::Read;
use std::path::{Component, Path};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::{Program, Registry};

/// The path of the payload in every image.
pub(crate) const PAYLOAD: &str = "srv/payload";

/// The size of a payload, in bytes: several reads for every client and proxy.
const PAYLOAD_SIZE: usize = 1 << 20;

/// An image in a registry.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The repository, without the registry.
    pub(crate) repository: String,
    /// The tag.
    pub(crate) tag: String,
    /// The digest of the manifest.
    pub(crate) digest: String,
    /// The digests of configuration and layers, in the order of the manifest.
    pub(crate) blobs: Vec<String>,
}

impl Image {
    /// Builds an image with two layers and pushes it to a plain registry.
    pub(crate) fn push(registry: &Registry, dir: &Path, repository: &str, tag: &str) -> Self {
        let work = dir.join("images").join(repository).join(tag);
        let base = layer(&work, "base", "etc/os-release", b"ID=interop\n");
        let payload = layer(&work, "payload", PAYLOAD, &payload(&format!("{repository}:{tag}")));
        Self::push_layers(registry, &work, repository, tag, &[base.as_str(), payload.as_str()])
    }

    /// Builds an image from tar files and pushes it to a plain registry.
    pub(crate) fn push_layers(registry: &Registry, home: &Path, repository: &str, tag: &str, layers: &[&str]) -> Self {
        let reference = format!("{}/{repository}:{tag}", registry.address());
        let append = ["append", "--insecure", "--oci-empty-base", "--new_tag", &reference];
        let layers = layers.iter().flat_map(|layer| ["--new_layer", layer]);
        Program::new("crane", home).args(append).args(layers).run().bytes();
        let platform = ["mutate", "--insecure", "--set-platform", platform(), "--tag", &reference, &reference];
        Program::new("crane", home).args(platform).run().bytes();
        Self::look_up(home, &reference, repository, tag)
    }

    fn look_up(home: &Path, reference: &str, repository: &str, tag: &str) -> Self {
        let crane = |command: &str| Program::new("crane", home).args([command, "--insecure", reference]).run().text();
        let manifest: Value = serde_json::from_str(&crane("manifest")).expect("a manifest");
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let blobs = std::iter::once(&manifest["config"]).chain(layers);
        let blobs = blobs.map(|blob| blob["digest"].as_str().expect("a digest").to_owned()).collect();
        Self { repository: repository.to_owned(), tag: tag.to_owned(), digest: crane("digest"), blobs }
    }

    /// `REPOSITORY:TAG`.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// The content of the file at [`PAYLOAD`].
    pub(crate) fn payload(&self) -> Vec<u8> {
        payload(&self.name())
    }
}

/// The content of a file in a tar.
pub(crate) fn file_of_tar(tar: impl Read, path: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a tar");
        // Accepts "./srv/payload" and "/srv/payload" for "srv/payload".
        if entry
            .path()
            .expect("a path")
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .eq(Path::new(path).components())
        {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("the file");
            return content;
        }
    }
    panic!("there is no {path}");
}

/// The content of a file in a gzip-compressed layer.
pub(crate) fn file_of_layer(layer: &[u8], path: &str) -> Vec<u8> {
    file_of_tar(GzDecoder::new(layer), path)
}

/// Creates a tar with one file below `work`, and returns its path.
fn layer(work: &Path, name: &str, path: &str, content: &[u8]) -> String {
    let root = work.join(name);
    let file = root.join(path);
    fs::create_dir_all(file.parent().expect("a directory")).expect("the layer's directories");
    fs::write(file, content).expect("the layer's file");
    let tar = work.join(format!("{name}.tar"));
    let options = ["--create", "--sort=name", "--numeric-owner", "--owner=0", "--group=0", "--directory"];
    let files = [root.as_os_str(), "--file".as_ref(), tar.as_os_str(), ".".as_ref()];
    Program::new("tar", work).args(options).args(files).run().bytes();
    tar.to_str().expect("a path in UTF-8").to_owned()
}

/// Incompressible bytes that depend only on the name.
fn payload(name: &str) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..PAYLOAD_SIZE / 8).flat_map(|_| next()).collect()
}

/// The platform of this machine, in image terms.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "linux/arm64",
        _ => "linux/amd64",
    }
}
