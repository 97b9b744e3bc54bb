//! The values of the registry protocol: names, digests, manifests, routes, wire errors. No I/O.
//!
//! Text is parsed into these values once, at the edge; no later code parses it again.

mod attachment;
/// Recognises Helm charts.
pub mod chart;
mod confidential;
mod digest;
mod error;
/// A strict JSON parser.
pub mod json;
/// Media types that clients accept for layers and image configurations.
pub mod layer_types;
mod manifest;
mod manifest_bytes;
/// Media types of manifests, indexes and configurations.
pub mod media_type;
mod name;
/// The signed payloads of image signatures.
pub mod payload;
mod platform;
mod referrers;
mod route;
/// Detects archives by content, whatever the media type says.
pub mod sniff;
/// Unpacks layers as container runtimes do.
pub mod unpack;

pub(crate) use attachment::is_cose_sign1;
pub use attachment::{NotAttachment, is_attachment};
pub use confidential::may_get_credentials;
pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error::{ErrorCode, WireError};
pub use manifest::{Content, Descriptor, MAX_MANIFEST, Manifest, Refused};
pub use manifest_bytes::looks_like_manifest;
pub use name::{
    DOCKER_HUB, DOCKER_HUB_NAMES, Host, ImageName, ImageReference, InvalidName, Reference, Repository, Tag,
    docker_hub_repository, is_registry,
};
pub use platform::{InvalidPlatform, Platform};
pub use referrers::{parse_referrers, parse_whole_referrers, referrers_tag, write_referrers};
pub use route::{Endpoint, InvalidRoute, Page, RequestedName, Route};
