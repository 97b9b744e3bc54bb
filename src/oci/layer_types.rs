//! Media types that clients accept for layers and image configurations, whatever else the manifest says.
//!
//! | who | accepted as a layer |
//! |---|---|
//! | image-spec (media-types.md) | `…image.layer.v1.tar`, `nondistributable`, with `+gzip` or `+zstd` |
//! | containerd (core/images/mediatypes.go, `IsLayerType`, `DiffCompression`; core/diff/stream.go) | everything under `application/vnd.oci.image.layer.`, Docker's `rootfs.diff.tar` and `rootfs.foreign.diff.tar` with `.gzip` or `.zstd`, and types with a configured stream processor (`+encrypted`) |
//! | containerd (plugins/diff/erofs), Kata, nydus-snapshotter | EROFS and nydus types, which they mount |
//! | containers/image (manifest/docker_schema2.go, manifest/oci.go) | the same; for Docker's schema 2 also manifest and configuration types, which it accepts as "supported" |
//! | moby (distribution/pull_v2.go, `supportedMediaTypes`) | everything under `application/vnd.docker.` and `application/vnd.oci.image.`; dockerd 20.10 has been observed to unpack `application/vnd.docker.example` |
//! | ocicrypt (spec) | any of these with `+encrypted` |
//! | crun, wasmtime, wasmedge shims of containerd (runwasi) | `application/wasm`, `application/vnd.wasm.…`, `application/vnd.bytecodealliance.…` |
//! | Apptainer | `application/vnd.sylabs.sif.layer…`, which it runs |
//!
//! In-toto statements in BuildKit's manifests, Helm charts and other artifacts are not listed: their content decides.

use super::manifest::Descriptor;
use super::media_type;

/// Prefixes of types whose content some client unpacks, mounts or runs. containerd and others compare prefixes and a
/// suffix, so future types with these prefixes will be treated as layers too.
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

/// Generic types, for which a client has to inspect the content.
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

/// Whether some client unpacks, mounts or runs a layer of this type, which makes the manifest an image. `essence` is
/// the result of [`media_type::essence`].
pub fn is_layer_type(essence: &str) -> bool {
    // Suffixes such as `+gzip`, `+zstd` and `+encrypted` name the encoding; the part before them decides.
    let base = essence.split('+').next().unwrap_or_default();
    let by_prefix = LAYER_PREFIXES.iter().any(|prefix| essence.starts_with(prefix));
    let is_mounted = essence.contains("nydus") || base.ends_with(".erofs");
    by_prefix || is_mounted || essence.ends_with("+encrypted") || media_type::is_manifest(essence)
}

/// Whether some client accepts a configuration of this type as an image's: image types, manifest types (which podman
/// accepts in a schema 2 manifest), layer types, and generic types.
pub fn is_config_type(essence: &str) -> bool {
    GENERIC.contains(&essence) || is_layer_type(essence)
}

/// Annotation prefixes that make a client read a layer partially through a separate table of contents, or read
/// something else instead: zstd:chunked (containers/storage), eStargz and SOCI (stargz-snapshotter, soci-snapshotter),
/// nydus, overlaybd. The table may be where no other reader looks: in a skippable frame, in a gzip header, in a
/// payload.
const LAZY: &[&str] = &[
    "containerd.io/",
    "estargz",
    "io.containers.",
    "io.github.containers.",
    "nydus",
    "overlaybd",
    "soci",
    "stargz",
    "zstd",
];

/// Whether annotations make some client read this layer differently, so that its bytes alone prove nothing.
pub fn is_read_lazily(layer: &Descriptor) -> bool {
    layer.annotations.iter().any(|(key, _)| is_lazy_annotation(key))
}

/// Whether an annotation of this name makes some client read a layer differently.
pub fn is_lazy_annotation(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    LAZY.iter().any(|part| key.contains(part))
}

/// Whether this is a tar type, compressed or not, that every runtime unpacks the same way (image-spec, "layer.md";
/// Docker's schema 2). Clients that know other types may mount, decrypt or run them, and interpret their bytes
/// differently.
pub fn is_tar_type(essence: &str) -> bool {
    const BASES: [&str; 4] = [
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.v1.tar",
    ];
    let packing = BASES.iter().find_map(|base| essence.strip_prefix(base));
    packing.is_some_and(|packing| matches!(packing, "" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_clients_unpack_mount_or_run_are_layers() {
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

    #[test]
    fn tar_types_that_every_runtime_unpacks_alike() {
        for tar in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
        ] {
            assert!(is_tar_type(tar) && is_layer_type(tar), "{tar}");
        }
        for other in [
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.layer.v1.erofs",
            "application/vnd.oci.image.layer.nydus.blob.v1",
            "application/vnd.sylabs.sif.layer.v1.sif",
            "application/octet-stream",
            "",
        ] {
            assert!(!is_tar_type(other), "{other}");
        }
    }

    #[test]
    fn annotations_mark_layers_that_are_read_lazily() {
        let layer = |key: &str| Descriptor {
            media_type: String::new(),
            digest: crate::oci::Digest::sha256(b"layer"),
            size: 1,
            platform: None,
            artifact_type: None,
            urls: Vec::new(),
            has_data: false,
            annotations: vec![(key.to_owned(), "x".to_owned())],
        };
        for lazy in [
            "io.containers.zstd-chunked.manifest-checksum",
            "io.github.containers.zstd-chunked.manifest-position",
            "containerd.io/snapshot/stargz/toc.digest",
            "containerd.io/snapshot/nydus-bootstrap",
            "containerd.io/snapshot/overlaybd/blob-digest",
            "com.amazon.soci.span-size",
        ] {
            assert!(is_read_lazily(&layer(lazy)), "{lazy}");
        }
        for plain in
            ["org.opencontainers.image.title", "dev.cosignproject.cosign/signature", "in-toto.io/predicate-type"]
        {
            assert!(!is_read_lazily(&layer(plain)), "{plain}");
        }
    }
}
