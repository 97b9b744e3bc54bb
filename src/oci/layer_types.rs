//! Which media types clients take for layers and for configurations of images, whatever else the manifest says.
//!
//! | who | takes for a layer |
//! |---|---|
//! | image-spec (media-types.md) | `…image.layer.v1.tar`, `nondistributable`, with `+gzip` or `+zstd` |
//! | containerd (core/images/mediatypes.go, `IsLayerType`, `DiffCompression`; core/diff/stream.go) | all under `application/vnd.oci.image.layer.`, Docker's `rootfs.diff.tar` and `rootfs.foreign.diff.tar` with `.gzip` or `.zstd`, and what a stream processor is set up for (`+encrypted`) |
//! | containerd (plugins/diff/erofs), Kata, nydus-snapshotter | EROFS and nydus types, which they mount |
//! | containers/image (manifest/docker_schema2.go, manifest/oci.go) | the same; for Docker's schema 2 also manifest and configuration types, which it lets pass as "supported" |
//! | moby (distribution/pull_v2.go, `supportedMediaTypes`) | all under `application/vnd.docker.` and `application/vnd.oci.image.`; dockerd 20.10 was seen to unpack `application/vnd.docker.example` |
//! | ocicrypt (spec) | any of these with `+encrypted` |
//! | crun, wasmtime, wasmedge shims of containerd (runwasi) | `application/wasm`, `application/vnd.wasm.…`, `application/vnd.bytecodealliance.…` |
//! | Apptainer | `application/vnd.sylabs.sif.layer…`, which it runs |
//!
//! In-toto statements in BuildKit's manifests, Helm charts and other artifacts are none: their bytes decide.

use super::media_type;

/// Prefixes of types whose content some client unpacks, mounts or runs. Prefixes, because containerd and others look for
/// these and for a suffix, and a type of the future under them is meant for a layer too.
const LAYER_PREFIXES: &[&str] = &[
    "application/vnd.bytecodealliance.",
    "application/vnd.docker.",
    "application/vnd.erofs",
    "application/vnd.oci.image.",
    "application/vnd.sylabs.sif.",
    "application/vnd.w3c.wasm",
    "application/vnd.wasm.",
    "application/wasm",
];

/// Types that say no more than that a client has to look itself.
const GENERIC: &[&str] = &[
    "",
    "application/gzip",
    "application/json",
    "application/octet-stream",
    "application/tar",
    "application/tar+gzip",
    "application/tar+zstd",
    "application/x-gzip",
    "application/x-tar",
    "application/x-tgz",
    "application/zstd",
    "text/plain",
];

/// Whether some client unpacks, mounts or runs a layer of this type, so that a manifest that has one is an image's.
/// `essence` is as [`media_type::essence`] makes it.
pub fn is_layer_type(essence: &str) -> bool {
    // `+gzip`, `+zstd`, `+encrypted` and such say how it is packed; what decides stands before.
    let base = essence.split('+').next().unwrap_or_default();
    let by_prefix = LAYER_PREFIXES.iter().any(|prefix| essence.starts_with(prefix));
    let is_mounted = essence.contains("nydus") || base.ends_with(".erofs");
    by_prefix || is_mounted || essence.ends_with("+encrypted") || media_type::is_manifest(essence)
}

/// Whether some client takes a configuration of this type for an image's: an image's own types, a manifest's (which
/// podman lets pass in a schema 2 manifest), a layer's, and types that say nothing.
pub fn is_config_type(essence: &str) -> bool {
    GENERIC.contains(&essence) || is_layer_type(essence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_unpack_mount_or_run_is_a_layer() {
        for layer in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.erofs",
            "application/vnd.oci.image.layer.nydus.blob.v1",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.example",
            "application/vnd.docker.distribution.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.erofs.layer.v1",
            "application/vnd.wasm.content.layer.v1+wasm",
            "application/wasm",
            "application/vnd.sylabs.sif.layer.v1.sif",
            "application/vnd.acme.secret+encrypted",
        ] {
            assert!(is_layer_type(layer) && is_config_type(layer), "{layer}");
        }
        for other in [
            "application/vnd.in-toto+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.oci.empty.v1+json",
            "application/vnd.acme.model",
        ] {
            assert!(!is_layer_type(other) && !is_config_type(other), "{other}");
        }
        assert!(!is_layer_type("application/json") && is_config_type("application/json"));
        assert!(is_config_type("") && is_config_type("application/vnd.oci.image.config.v1+json"));
    }
}
