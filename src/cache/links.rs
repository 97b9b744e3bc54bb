//! Tracks which repository has which blob, because it delivered the blob or confirms it now.

use std::sync::Arc;

use super::download::{BlobSource, said_size};
use super::{Cache, CacheError, Opened};
use crate::oci::{Digest, ImageName};
use crate::policy::Permit;
use crate::store::NewFacts;
use crate::upstream::Upstream;

impl Cache {
    /// Content that is cached or being downloaded, if the permit's repository may have it.
    pub(super) async fn at_hand(
        &self,
        permit: &Permit,
        upstream: &Arc<Upstream>,
    ) -> Result<Option<Opened>, CacheError> {
        let (name, digest) = (permit.name(), permit.digest());
        let (inner, said) = (&self.inner, said_size(permit)?);
        let key = (name.host.clone(), digest, said);
        // Checked before the links: a fill that ends in between has already recorded its link.
        let own_fill = inner.fills.follow(&key, |fill| fill.name() == name);
        if self.is_linked(name, digest).await? {
            if let Some(opened) = inner.opened_whole(digest, said).await? {
                return Ok(Some(opened));
            }
            return Ok(own_fill.or_else(|| inner.fills.follow(&key, |_| true)).map(Opened::Filling));
        }
        if let Some(follower) = own_fill {
            return Ok(Some(Opened::Filling(follower)));
        }
        // A registry's HEAD response vouches only for its own repositories, not for content that another registry
        // delivered.
        if !inner.fills.has(&key) && !self.is_of_registry(name, digest).await? {
            return Ok(None);
        }
        let size = self.confirm(permit, upstream).await?;
        if let Some(follower) = inner.fills.follow(&key, |_| true) {
            if !follower.confirmed_by(name) {
                self.link(name, digest, size).await;
            }
            return Ok(Some(Opened::Filling(follower)));
        }
        if !self.is_of_registry(name, digest).await? {
            return Ok(None);
        }
        self.link(name, digest, size).await;
        inner.opened_whole(digest, said).await
    }

    /// Whether the content is cached, and some repository of this registry delivered it.
    async fn is_of_registry(&self, name: &ImageName, digest: Digest) -> Result<bool, CacheError> {
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
            found => Err(CacheError::Size { digest, manifest, found }),
        }
    }

    async fn is_linked(&self, name: &ImageName, digest: Digest) -> Result<bool, CacheError> {
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
    async fn link(&self, name: &ImageName, digest: Digest, size: u64) {
        let now = self.inner.clock.now();
        let link = NewFacts::new(now).link(name, digest, size, now);
        if let Err(error) = self.inner.store.facts.record(link).await {
            tracing::warn!(%error, "cannot record the repository of a blob; it will be asked again");
        }
        self.links.insert((name.clone(), digest), ());
    }
}
