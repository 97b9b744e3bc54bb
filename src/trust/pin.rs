//! Pins: the digests that authorities have signed for tags. A pinned tag means the signed digest, or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::timeout;

use super::gather::MAX_TIME;
use super::scheme::PinQuestion;
use super::source::{SignatureSource, SourceError};
use super::{TROUBLE_TTL, Trust};
use crate::oci::{Digest, ImageName, Reference, Tag};
use crate::policy::{Authority, AuthorityId};

/// The digest that is signed for a tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin {
    /// The digest.
    pub digest: Digest,
    /// Until when this is known.
    pub until: Timestamp,
}

/// The digest for which authorities have signed a tag, as far as known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TagPins {
    /// The digest; `None` if no authority that answered has signed the tag.
    pub pin: Option<Pin>,
    /// Authorities about which it cannot be found out, with the reasons.
    pub unknown: Vec<(AuthorityId, SourceError)>,
    /// When this may be found out for all of them; `None` if it is known.
    pub again_at: Option<Timestamp>,
}

/// Why it is not known which digest a tag means.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PinError {
    /// Authorities have signed different digests for it.
    #[error("authorities have signed tag {tag} for different digests: {digests}")]
    Disagreement {
        /// The tag.
        tag: Tag,
        /// The digests.
        digests: String,
    },
    /// It cannot be found out what an authority has signed.
    #[error("the digest that is signed for this tag is unknown: {0}")]
    Unknown(SourceError),
}

impl Trust {
    /// The digest that authorities have signed for this tag, where one of them signs tags: the tag means this digest,
    /// whatever the registry says. Nothing for a reference by digest.
    ///
    /// # Errors
    /// Two of them have signed different digests. The tag must not be resolved then.
    pub async fn pin<S: SignatureSource + 'static>(
        &self,
        source: &Arc<S>,
        name: &ImageName,
        reference: &Reference,
        authorities: &[Arc<Authority>],
    ) -> Result<TagPins, PinError> {
        let Reference::Tag(tag) = reference else { return Ok(TagPins::default()) };
        let late = |_| SourceError::new(format!("no answer within {} s", MAX_TIME.as_secs()), true);
        let mut asked = Vec::new();
        for authority in authorities {
            let question = PinQuestion { authority, name, tag, services: &**source };
            let Some(answer) = self.inner.schemes.of(authority.scheme()).pin(question) else { continue };
            asked.push(async move { (authority.id(), timeout(MAX_TIME, answer).await.map_err(late).flatten()) });
        }
        let (mut pins, mut unknown) = (Vec::new(), Vec::new());
        for (id, answer) in join_all(asked).await {
            match answer {
                Ok(pin) => pins.extend(pin),
                Err(error) => unknown.push((id.clone(), error)),
            }
        }
        let digests: BTreeSet<Digest> = pins.iter().map(|pin| pin.digest).collect();
        if digests.len() > 1 {
            let digests: Vec<_> = digests.iter().map(Digest::to_string).collect();
            return Err(PinError::Disagreement { tag: tag.clone(), digests: digests.join(" and ") });
        }
        let pin = pins.into_iter().reduce(|one, other| Pin { until: one.until.min(other.until), ..one });
        let soon = || self.inner.clock.now().saturating_add(TROUBLE_TTL).unwrap_or(Timestamp::MAX);
        let again_at = (!unknown.is_empty()).then(soon);
        Ok(TagPins { pin, unknown, again_at })
    }
}
