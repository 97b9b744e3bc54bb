//! Tracks which repository has which blob, because it delivered the blob or confirms it now.

use std::sync::Arc;

use super::download::BlobSource;
use super::{Cache, CacheError};
use crate::oci::{Digest, ImageName};
use crate::policy::Permit;
use crate::store::NewFacts;
use crate::upstream::Upstream;

impl Cache {
    /// Whether the content is cached, and some repository of this registry delivered it.
    pub(super) async fn is_of_registry(&self, name: &ImageName, digest: Digest) -> Result<bool, CacheError> {
        let has_link = self.inner.store.facts.has_link_at(&name.host, digest);
        Ok(self.inner.is_here(digest) && has_link.await.map_err(CacheError::store)?)
    }

    /// Asks the repository whether it has the blob; returns its size.
    pub(super) async fn confirm(&self, permit: &Permit, upstream: &Arc<Upstream>) -> Result<u64, CacheError> {
        let source = BlobSource::of(permit, upstream)?;
        let (key, digest, manifest) = (source.key(), source.digest, source.size);
        let work = || async move { Ok(source.confirm().await?) };
        match self.confirmations.join(key, work).await.unwrap_or(Err(CacheError::Busy))? {
            size if size == manifest => Ok(size),
            upstream => Err(CacheError::Size { digest, manifest, upstream }),
        }
    }

    pub(super) async fn is_linked(&self, name: &ImageName, digest: Digest) -> Result<bool, CacheError> {
        let key = (name.clone(), digest);
        if self.links.get(&key).is_some() {
            return Ok(true);
        }
        let linked = self.inner.store.facts.has_link(name, digest).await.map_err(CacheError::store)?;
        if linked {
            self.links.insert(key, ());
        }
        Ok(linked)
    }

    /// The link is valid while this process runs, even if it cannot be stored.
    pub(super) async fn link(&self, name: &ImageName, digest: Digest, size: u64) {
        let now = self.inner.clock.now();
        let link = NewFacts::new(now).link(name, digest, size, now);
        if let Err(error) = self.inner.store.facts.record(link).await {
            tracing::warn!(%error, "cannot record the repository of a blob; it will be asked again");
        }
        self.links.insert((name.clone(), digest), ());
    }
}
