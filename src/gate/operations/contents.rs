//! What is on this disk, and what operators remove from it. Used by `pullgate cache list` and `cache rm`.

use super::Operations;
use crate::audit::{RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::cache::{NotRemoved, RemovedContent};
use crate::gate::GateError;
use crate::gate::operator::{NotRecorded, OperatorAct};
use crate::oci::{Digest, ImageReference, Reference};

/// What an operator removes from the cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RemovalTarget {
    /// A manifest or a blob, of all repositories.
    Digest(Digest),
    /// An image: what its tag refers to now, as far as this is known here.
    Image(ImageReference),
}

/// Why content was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemovalFailure {
    /// The audit record cannot be written, and the configuration requires it.
    #[error(transparent)]
    Audit(#[from] NotRecorded),
    /// The name is not of an image here.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The content stays.
    #[error("{what}: {why}")]
    NotRemoved {
        /// The image or the digest.
        what: String,
        /// Why it stays.
        why: NotRemoved,
    },
}

impl Operations {
    /// Removes content from the cache. Facts about it stay: tags, evidence, verdicts. `caller` is for the audit
    /// record.
    ///
    /// # Errors
    /// See [`RemovalFailure`].
    pub async fn remove_content(
        &self,
        target: &RemovalTarget,
        forced: bool,
        caller: &str,
    ) -> Result<RemovedContent, RemovalFailure> {
        let (what, digest) = match target {
            RemovalTarget::Digest(digest) => (digest.to_string(), *digest),
            RemovalTarget::Image(image) => self.digest_here(image).await?,
        };
        let reasons = [digest.to_string()].into_iter().chain(forced.then(|| "forced".to_owned())).collect();
        let (endpoint, decision) = (RecordedEndpoint::Contents, RecordedDecision::RemoveContent);
        let act = OperatorAct { endpoint, method: RecordedMethod::Delete, decision, image: what.clone(), reasons };
        act.record(&self.audit, caller, self.clock.now()).await?;
        match self.cache.remove(digest, forced, &self.router.offline_hosts()).await {
            Ok(removed) => {
                let RemovedContent { files, bytes, .. } = &removed;
                tracing::info!(image = what, %digest, files, bytes, forced, caller, "content removed from the cache");
                Ok(removed)
            }
            Err(why) => Err(RemovalFailure::NotRemoved { what, why }),
        }
    }

    /// The full name of an image, and its digest as far as it is known here.
    async fn digest_here(&self, image: &ImageReference) -> Result<(String, Digest), RemovalFailure> {
        let target = self.router.operator_target(image)?;
        let reference = image.reference();
        let name = target.describe(&reference);
        match &reference {
            Reference::Digest(digest) => Ok((name, *digest)),
            Reference::Tag(tag) => {
                let known = self.resolver.known_tag(&target.name, tag).await.map_err(GateError::from)?;
                match known {
                    Some((digest, ..)) => Ok((name, digest)),
                    None => Err(RemovalFailure::NotRemoved { what: name, why: NotRemoved::Absent }),
                }
            }
        }
    }
}
