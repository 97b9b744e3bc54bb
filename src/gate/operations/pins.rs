//! Pins of images that must never be evicted, as operators set them. Used by `pullgate cache pin`.

use super::Operations;
use crate::audit::{RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::cache::{CacheError, NotPinned};
use crate::gate::GateError;
use crate::gate::operator::{NotRecorded, OperatorAct, by_whom};
use crate::oci::{ImageReference, Reference};
use crate::store::PinnedImage;

/// Why a pin was not set or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinFailure {
    /// The audit record cannot be written, and the configuration requires it.
    #[error(transparent)]
    Audit(#[from] NotRecorded),
    /// The name is not of an image here.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The image is not completely in the cache.
    #[error("{image}: {why}")]
    NotPinned {
        /// The image.
        image: String,
        /// Why it was not pinned.
        why: NotPinned,
    },
    /// There is no such pin.
    #[error("{0} is not pinned; `pullgate cache pins` lists the names")]
    Unknown(String),
    /// The tag was never seen.
    #[error("{0} is not in the cache; fetch it first (`pullgate cache pin --fetch`)")]
    UnknownTag(String),
}

impl Operations {
    /// Pins an image that is in the cache, with its platforms and everything that is known to be attached to it. A tag
    /// is pinned to the digest that it refers to now, as far as this is known here. `caller` is for the audit record.
    ///
    /// # Errors
    /// See [`PinFailure`].
    pub async fn pin(
        &self,
        image: &ImageReference,
        (reason, by): (Option<String>, Option<String>),
        caller: &str,
    ) -> Result<PinnedImage, PinFailure> {
        let target = self.router.operator_target(image)?;
        let reference = image.reference();
        let name = target.describe(&reference);
        let digest = match &reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => {
                let known = self.resolver.known_tag(&target.name, tag).await.map_err(GateError::from)?;
                known.ok_or_else(|| PinFailure::UnknownTag(name.clone()))?.0
            }
        };
        let attached = self.resolver.attached(&target.name, digest).await.map_err(GateError::from)?;
        let pin = PinnedImage { image: name, digest, reason, by, created: self.clock.now() };
        let texts = by_whom(pin.by.as_deref(), pin.reason.as_deref());
        let reasons = [digest.to_string()].into_iter().chain(texts).collect();
        self.record_pin((RecordedDecision::Pin, RecordedMethod::Post), &pin.image, reasons, caller).await?;
        let not_pinned = |why| PinFailure::NotPinned { image: pin.image.clone(), why };
        self.cache.pin(&pin, attached).await.map_err(not_pinned)?;
        tracing::info!(image = pin.image, digest = %pin.digest, by = pin.by, caller, "image pinned");
        Ok(pin)
    }

    /// All pins, each with the size in bytes of the content that it keeps.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn pins(&self) -> Result<Vec<(PinnedImage, u64)>, CacheError> {
        self.cache.pins().await
    }

    /// Removes the pin of an image. `caller` is for the audit record.
    ///
    /// # Errors
    /// See [`PinFailure`].
    pub async fn unpin(&self, image: &ImageReference, caller: &str) -> Result<(), PinFailure> {
        // The upstream may no longer be configured.
        let target = self.router.operator_target(image);
        let name = target.map_or_else(|_| image.to_string(), |target| target.describe(&image.reference()));
        self.record_pin((RecordedDecision::Unpin, RecordedMethod::Delete), &name, Vec::new(), caller).await?;
        match self.cache.unpin(&name).await.map_err(GateError::from)? {
            true => tracing::info!(image = name, caller, "image unpinned"),
            false => return Err(PinFailure::Unknown(name)),
        }
        Ok(())
    }

    async fn record_pin(
        &self,
        (decision, method): (RecordedDecision, RecordedMethod),
        image: &str,
        reasons: Vec<String>,
        caller: &str,
    ) -> Result<(), PinFailure> {
        let endpoint = RecordedEndpoint::Pins;
        let act = OperatorAct { endpoint, method, decision, image: image.to_owned(), reasons };
        Ok(act.record(&self.audit, caller, self.clock.now()).await?)
    }
}
