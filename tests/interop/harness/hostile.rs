//! Images labelled as something else, which clients unpack anyway.

use pullgate::oci::media_type;
use pullgate::sample::image::{self, Built, Layer, Tree, polyglot};
use serde_json::{Value, json};

use super::world::{assert_reason_of, status};
use super::{Client, FALLBACK_PATH, Image, UPSTREAM, World};

/// The file that each of them puts into a client's file system, and the start of its content.
pub(crate) const FILE: &str = "hello";
pub(crate) const SCRIPT: &str = "#!/bin/sh\n";

/// Schema 2 includes this type, so podman accepts it for the configuration and for layers.
const MANIFEST_V1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A COSE signature that Go's tar reader unpacks. The configuration is empty, so nothing else indicates an image.
pub(crate) fn cose_and_tar(world: &World) -> Image {
    let layer = Layer::of("application/cose", polyglot::cose_and_tar(FILE, SCRIPT.as_bytes()));
    let built = image::disguised(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &json!({}), &[layer]);
    push(world, "hostile/cose", &built)
}

/// An in-toto statement that every tar reader unpacks, with a configuration that runs it.
pub(crate) fn statement_and_tar(world: &World) -> Image {
    let layer = Layer::of("application/vnd.in-toto+json", polyglot::statement_and_tar(FILE, SCRIPT));
    let config = config(&layer);
    let built = image::disguised(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &config, &[layer]);
    push(world, "hostile/statement", &built)
}

/// A schema 2 manifest whose configuration and layer do not have image types. The layer is a compressed tar behind a
/// header that hides it. Policy admits artifacts in this repository, but no unscanned images.
pub(crate) fn artifact_of_schema_2(world: &World) -> Image {
    let layer = Layer::of(MANIFEST_V1_SIGNED, hidden_tar().bytes);
    let config = json!({"architecture": "amd64", "config": {"Entrypoint": [format!("/{FILE}")]}});
    let built = image::disguised(media_type::DOCKER_MANIFEST, MANIFEST_V1_SIGNED, &config, &[layer]);
    push(world, "unscanned/schema2", &built)
}

/// The same in an OCI manifest, with unknown types: Docker accepts all types that start with `application/vnd.docker`.
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
    /// The name of an image on a registry without a gate.
    pub(crate) fn direct_reference(&self, image: &Image) -> String {
        format!("{}/{}", self.store.address(), image.name())
    }

    /// The image is denied to a client that would accept it, the client does not use the fallback, and the gate serves
    /// none of its blobs.
    ///
    /// `check` is the check that denies it. The upstream's log cannot show the latter, because the gate itself reads
    /// supposed attachments to examine them. So this requests the blobs from the gate, as a client would.
    #[track_caller]
    pub(crate) fn withholds(&mut self, client: &impl Client, image: &Image, check: &str) {
        assert_reason_of(check, &client.pull(self, image).refusal(), &image.name());
        assert_eq!(self.fallback.requests(), [], "the fallback received requests");
        for blob in &image.blobs {
            // Denied under the name that the client used; under the other name nobody requested a manifest that
            // contains it.
            let url = |path| format!("{}/v2/{path}/{}/blobs/{blob}", self.gate.url(), image.repository);
            let mut statuses = [UPSTREAM, FALLBACK_PATH].map(|path| status(self.dir(), &url(path)));
            statuses.sort();
            assert_eq!(statuses, ["403", "404"], "{blob} of {}", image.name());
        }
    }
}
