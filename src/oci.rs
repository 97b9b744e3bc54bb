//! The values of the registry protocol: names, digests, manifests, routes, wire errors. Values only; no I/O.
//!
//! Text becomes a value here, once, at the door; nothing downstream parses again.

mod attachment;
/// Helm charts.
pub mod chart;
mod digest;
mod error;
/// Strict JSON.
pub mod json;
/// Media types of layers and configurations.
pub mod layer_types;
mod manifest;
mod manifest_bytes;
/// Media types.
pub mod media_type;
mod name;
/// What image signatures are made over.
pub mod payload;
mod platform;
mod referrers;
mod route;
/// What bytes are, whatever is said of them.
pub mod sniff;
/// Layers as runtimes unpack them.
pub mod unpack;

pub use attachment::{NotAttachment, is_attachment};
pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use error::{ErrorCode, WireError};
pub use manifest::{Content, Descriptor, MAX_MANIFEST, Manifest, Refused};
pub use manifest_bytes::looks_like_manifest;
pub use name::{
    DOCKER_HUB, Host, ImageName, ImageReference, InvalidName, Reference, Repository, Tag, docker_hub_repository,
};
pub use platform::{InvalidPlatform, Platform};
pub use referrers::{parse_referrers, referrers_tag, write_referrers};
pub use route::{Endpoint, InvalidRoute, Page, Route};
