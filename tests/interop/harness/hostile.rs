//! Images under the labels of something else, which clients unpack all the same.

use pullgate::oci::media_type;
use pullgate::sample::image::{self, Built, Layer, Tree, polyglot};
use serde_json::{Value, json};

use super::world::{assert_reason_of, status};
use super::{Client, FALLBACK_PATH, Image, UPSTREAM, World};

/// What each of them puts into a client's file system, and how its content begins.
pub(crate) const FILE: &str = "hello";
pub(crate) const SCRIPT: &str = "#!/bin/sh\n";

/// Schema 2 has this type, so podman takes it for a configuration and for a layer.
const MANIFEST_V1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A COSE signature that Go's tar reader unpacks. The configuration is empty: nothing else says that this is an image.
pub(crate) fn cose_and_tar(world: &World) -> Image {
    let layer = Layer::of("application/cose", polyglot::cose_and_tar(FILE, SCRIPT.as_bytes()));
    let built = image::disguised(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &json!({}), &[layer]);
    push(world, "hostile/cose", &built)
}

/// An in-toto statement that every tar reader unpacks, and a configuration that runs it.
pub(crate) fn statement_and_tar(world: &World) -> Image {
    let layer = Layer::of("application/vnd.in-toto+json", polyglot::statement_and_tar(FILE, SCRIPT));
    let config = config(&layer);
    let built = image::disguised(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &config, &[layer]);
    push(world, "hostile/statement", &built)
}

/// A manifest of schema 2 whose configuration and layer are none by their types. The layer is a packed tar behind a header
/// that hides it. Policy admits artifacts of this repository, but no image that was not scanned.
pub(crate) fn artifact_of_schema_2(world: &World) -> Image {
    let layer = Layer::of(MANIFEST_V1_SIGNED, hidden_tar().bytes);
    let config = json!({"architecture": "amd64", "config": {"Entrypoint": [format!("/{FILE}")]}});
    let built = image::disguised(media_type::DOCKER_MANIFEST, MANIFEST_V1_SIGNED, &config, &[layer]);
    push(world, "unscanned/schema2", &built)
}

/// The same in an OCI manifest, with types that nobody knows: Docker takes all that begin with `application/vnd.docker`.
pub(crate) fn artifact_of_docker(world: &World) -> Image {
    let packed = hidden_tar();
    let config = config(&packed);
    let layer = Layer::of("application/vnd.docker.example.v1", packed.bytes);
    let config_type = "application/vnd.docker.example.config.v1+json";
    let built = image::disguised(media_type::OCI_MANIFEST, config_type, &config, &[layer]);
    push(world, "unscanned/docker", &built)
}

fn hidden_tar() -> Layer {
    Layer::gzip_of(&polyglot::behind_a_blank_header(&Tree::new().executable(FILE, SCRIPT)))
}

fn config(layer: &Layer) -> Value {
    json!({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": [format!("/{FILE}")]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}
    })
}

fn push(world: &World, repository: &str, built: &Built) -> Image {
    let blobs = built.blobs.iter().map(|(_, bytes)| world.store.put_blob(repository, bytes)).collect();
    let manifest = built.manifest();
    let digest = world.store.put_manifest(repository, "1", &manifest.media_type, &manifest.bytes);
    Image { repository: repository.to_owned(), tag: "1".to_owned(), digest, blobs }
}

impl World {
    /// The name of an image at a registry that asks no gate.
    pub(crate) fn direct_reference(&self, image: &Image) -> String {
        format!("{}/{}", self.store.address(), image.name())
    }

    /// The image is denied to a client that would take it, nobody turns to the fallback, and none of its blobs is to be had.
    ///
    /// `check` is what denies it. The upstream's log cannot show the latter: the gate itself reads what claims to be an
    /// attachment, to see what it is. So this asks the gate for the blobs, as a client would.
    #[track_caller]
    pub(crate) fn withholds(&mut self, client: &impl Client, image: &Image, check: &str) {
        assert_reason_of(check, &client.pull(self, image).refusal(), &image.name());
        assert_eq!(self.fallback.requests(), [], "the fallback was asked");
        for blob in &image.blobs {
            // Denied by the name that the client used; by the other nobody asked for a manifest that has it.
            let url = |path| format!("{}/v2/{path}/{}/blobs/{blob}", self.gate.url(), image.repository);
            let mut statuses = [UPSTREAM, FALLBACK_PATH].map(|path| status(self.dir(), &url(path)));
            statuses.sort();
            assert_eq!(statuses, ["403", "404"], "{blob} of {}", image.name());
        }
    }
}
