//! Pins: the calls that list, set and remove them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cache::CacheError;
use crate::gate::{Operations, PinFailure};
use crate::oci::Digest;
use crate::store::PinnedImage;

/// An image to pin.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// The image as users write it.
    pub image: String,
    /// Why it is pinned.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who pins it.
    #[serde(default)]
    pub by: Option<String>,
}

/// A pin.
///
/// ```json
/// {"image": "docker.io/library/nginx:1.27", "digest": "sha256:…", "bytes": 71234567, "reason": "base image",
///  "by": "ann", "created": "2026-11-26T10:00:00Z"}
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PinAnswer {
    /// The name by which the image was pinned, with the upstream's own host name.
    pub image: String,
    /// The digest that is kept.
    pub digest: Digest,
    /// The size of the content on disk that the pin keeps, in bytes; absent right after the image was pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who pinned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was pinned.
    pub created: Timestamp,
}

impl PinAnswer {
    fn new(pin: PinnedImage, bytes: Option<u64>) -> Self {
        let PinnedImage { image, digest, reason, by, created } = pin;
        Self { image, digest, bytes, reason, by, created }
    }
}

/// Pins an image. `caller` is for the audit record.
///
/// # Errors
/// See [`PinFailure`].
pub async fn pin(operations: &Operations, request: &PinRequest, caller: &str) -> Result<PinAnswer, PinFailure> {
    let PinRequest { image, reason, by } = request;
    let image = operations.image(image)?;
    let pin = operations.pin(&image, (reason.clone(), by.clone()), caller).await?;
    Ok(PinAnswer::new(pin, None))
}

/// All pins, in the order of their names.
///
/// # Errors
/// The database cannot be read.
pub async fn pins(operations: &Operations) -> Result<Vec<PinAnswer>, CacheError> {
    let pins = operations.pins().await?;
    Ok(pins.into_iter().map(|(pin, bytes)| PinAnswer::new(pin, Some(bytes))).collect())
}

/// Removes the pin of an image. `caller` is for the audit record.
///
/// # Errors
/// See [`PinFailure`].
pub async fn unpin(operations: &Operations, image: &str, caller: &str) -> Result<(), PinFailure> {
    let image = operations.image(image)?;
    operations.unpin(&image, caller).await
}
