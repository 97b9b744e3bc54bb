//! Facts about a repository that are known without asking its upstream.

use std::sync::Arc;

use jiff::Timestamp;

use super::{ResolveError, Resolver};
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::store::{AttachedList, KnownImage, TagPosition};

impl Resolver {
    /// A manifest that this repository delivered earlier. Does not contact the upstream.
    pub async fn known_manifest(&self, name: &ImageName, digest: Digest) -> Option<Arc<Manifest>> {
        match self.inner.manifests.get(&(name.clone(), digest)) {
            Some(manifest) => Some(manifest),
            None => self.inner.load_known(name, digest).await.ok().flatten(),
        }
    }

    /// The digest of a tag in its last lookup, and the time of that lookup.
    pub async fn known_tag(&self, name: &ImageName, tag: &Tag) -> Result<Option<(Digest, Timestamp)>, ResolveError> {
        Ok(self.inner.facts.tag(name, tag).await?)
    }

    /// Manifests that are known to be attached to this one and to the manifests that it lists: signatures,
    /// attestations, lists of referrers.
    pub async fn attached(&self, name: &ImageName, subject: Digest) -> Result<Vec<Digest>, ResolveError> {
        let known = self.known_manifest(name, subject).await;
        let children = known.iter().flat_map(|manifest| manifest.children()).map(|child| child.digest);
        let mut attached = Vec::new();
        for subject in [subject].into_iter().chain(children) {
            attached.extend(self.inner.facts.attached_by_tag(name, subject).await?);
            let list = self.inner.facts.attached_list(name, subject).await?;
            attached.extend(list.iter().flat_map(AttachedList::digests));
        }
        Ok(attached)
    }

    /// Whether this repository delivered a manifest with this digest.
    pub async fn is_known(&self, name: &ImageName, digest: Digest) -> Result<bool, ResolveError> {
        Ok(self.inner.facts.manifest(name, digest).await?.is_some())
    }

    /// The known tags of a digest: its own tags and those of the indexes that list it.
    pub async fn known_tags(&self, name: &ImageName, digest: Digest) -> Result<Arc<[Tag]>, ResolveError> {
        Ok(self.inner.facts.known_tags(name, digest).await?)
    }

    /// The manifests of the repository that reference a digest: indexes for a manifest, images for a blob.
    pub async fn naming(&self, name: &ImageName, member: Digest) -> Result<Arc<[Digest]>, ResolveError> {
        Ok(self.inner.facts.naming(name, member).await?)
    }

    /// The same, with at most this many to which a request was admitted, from the store.
    pub async fn naming_up_to(
        &self,
        name: &ImageName,
        member: Digest,
        limit: usize,
    ) -> Result<Vec<Digest>, ResolveError> {
        Ok(self.inner.facts.naming_up_to(name, member, limit).await?)
    }

    /// Children that indexes of the repository list and that were never fetched, each after its index, newest index
    /// first, at most `limit`.
    pub async fn unseen_children(&self, name: &ImageName, limit: u32) -> Result<Arc<[(Digest, Digest)]>, ResolveError> {
        Ok(self.inner.facts.unseen_children(name, limit).await?)
    }

    /// The children of an index that were served here.
    pub async fn pulled_children(&self, name: &ImageName, index: &Manifest) -> Result<Vec<Digest>, ResolveError> {
        Ok(self.inner.facts.pulled_children(name, index).await?)
    }

    /// Known tags with their digests, ordered by registry, repository and tag: at most `limit` of those after a tag.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn images(&self, after: Option<&TagPosition>, limit: usize) -> Result<Vec<KnownImage>, ResolveError> {
        Ok(self.inner.facts.images(after, limit).await?)
    }

    /// Must be called when a request is admitted to a manifest, before the manifest or the content that it references
    /// is served. Writes the references of the manifest, which were only in bounded memory before, and that the
    /// manifest was pulled, if `is_pull`. Costs a lookup in memory if they were already written.
    pub async fn admitted(&self, name: &ImageName, manifest: &Arc<Manifest>, is_pull: bool) {
        self.inner.facts.admitted(name, manifest, is_pull).await;
    }
}
