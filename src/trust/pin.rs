//! Pins: the digests that authorities have signed for tags. A pinned tag means the signed digest, or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::time::timeout;

use super::Trust;
use super::gather::MAX_TIME;
use super::scheme::PinQuestion;
use super::source::{SignatureSource, SourceError};
use crate::oci::{Digest, ImageName, Reference, Tag};
use crate::policy::Authority;

/// The digest that is signed for a tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin {
    /// The digest.
    pub digest: Digest,
    /// Until when this is known.
    pub until: Timestamp,
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
    #[error("the digest that is signed for this tag is not known: {0}")]
    Unknown(SourceError),
}

impl Trust {
    /// The digest that authorities have signed for this tag, where one of them signs tags: the tag means this digest,
    /// whatever the registry says. `None` for a reference by digest, and when no authority has signed the tag.
    ///
    /// # Errors
    /// It cannot be found out what an authority has signed, or two of them have signed different digests. The tag must
    /// not be resolved then.
    pub async fn pin<S: SignatureSource + 'static>(
        &self,
        source: &Arc<S>,
        name: &ImageName,
        reference: &Reference,
        authorities: &[Arc<Authority>],
    ) -> Result<Option<Pin>, PinError> {
        let Reference::Tag(tag) = reference else { return Ok(None) };
        let ask = |authority| {
            let question = PinQuestion { authority, name, tag, services: &**source };
            self.inner.schemes.of(authority.scheme()).pin(question)
        };
        let asked: Vec<_> = authorities.iter().filter_map(|authority| ask(authority)).collect();
        if asked.is_empty() {
            return Ok(None);
        }
        let late = |_| SourceError::new(format!("no answer within {} s", MAX_TIME.as_secs()), true);
        let answers = timeout(MAX_TIME, try_join_all(asked)).await.map_err(late).flatten();
        let pins: Vec<Pin> = answers.map_err(PinError::Unknown)?.into_iter().flatten().collect();
        let digests: BTreeSet<Digest> = pins.iter().map(|pin| pin.digest).collect();
        if digests.len() > 1 {
            let digests: Vec<_> = digests.iter().map(Digest::to_string).collect();
            return Err(PinError::Disagreement { tag: tag.clone(), digests: digests.join(" and ") });
        }
        Ok(pins.into_iter().reduce(|one, other| Pin { until: one.until.min(other.until), ..one }))
    }
}
