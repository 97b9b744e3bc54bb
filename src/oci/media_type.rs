//! Media types that registry clients interpret.

use std::borrow::Cow;

/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index: a multi-platform image, or a list of referrers.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The OCI empty descriptor, used by artifacts without a configuration.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// An OCI layer, compressed with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A Docker image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list, schema 2.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// An unsigned Docker schema 1 manifest, which is refused.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// A signed Docker schema 1 manifest, which is refused.
pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The only `Accept` header sent upstream, so that a tag yields the same manifest for every client.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// The media type in lower case, without parameters: `Application/JSON; charset=utf-8` becomes `application/json`.
pub fn essence(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The manifest types in a `Content-Type` header, in lower case. There may be several, because some proxies join
/// headers with commas. All other types are ignored.
pub fn manifest_types(header: &str) -> impl Iterator<Item = String> {
    header.split(',').map(essence).filter(|one| is_manifest(one))
}

/// The same media type, without an allocation if it is that of a manifest.
pub fn constant(media_type: &str) -> Cow<'static, str> {
    let known = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];
    let constant = known.into_iter().find(|known| *known == media_type);
    constant.map_or_else(|| media_type.to_owned().into(), Cow::Borrowed)
}

/// Whether the media type is that of an index or a manifest list.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// Whether the media type is that of any manifest that clients follow: index, image, or the refused schema 1.
pub fn is_manifest(media_type: &str) -> bool {
    is_index(media_type)
        || matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST | DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED)
}
