//! Which manifests reference a digest.

use std::sync::Arc;

use super::Facts;
use crate::oci::{Digest, ImageName, Manifest};
use crate::store::StoreError;

/// How many manifests that reference a digest are read at first.
const FEW: usize = 100;

impl Facts {
    /// The manifests that tags name as attached to this one.
    pub(in crate::resolve) async fn attached_by_tag(
        &self,
        name: &ImageName,
        subject: Digest,
    ) -> Result<Vec<Digest>, StoreError> {
        self.store.attached_by_tag(name, subject).await
    }

    /// The manifests of the repository that reference a digest: indexes for a manifest, images for a blob. Those to
    /// which a request was admitted come first, the newest 100 of them: anyone who can push can cause any number of
    /// others to be remembered.
    pub(in crate::resolve) async fn naming(
        &self,
        name: &ImageName,
        member: Digest,
    ) -> Result<Arc<[Digest]>, StoreError> {
        let (memory, key) = (self.memory(), (name.clone(), member));
        if let Some(known) = memory.naming.get(&key) {
            return Ok(known);
        }
        let read = async { Ok(self.naming_up_to(name, member, FEW).await?.into()) };
        Box::pin(self.exact(&memory.naming, name, key, read)).await
    }

    /// The same from the store, with this many of those to which a request was admitted.
    pub(in crate::resolve) async fn naming_up_to(
        &self,
        name: &ImageName,
        member: Digest,
        limit: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        let names = |manifest: &Manifest| manifest.descriptors().any(|named| named.digest == member);
        let recent: Vec<Digest> = self.recent().manifests(name, names).iter().map(|m| m.digest).collect();
        let mut naming = self.store.naming(name, member, limit).await?;
        naming.extend(recent.into_iter().filter(|digest| !naming.contains(digest)).collect::<Vec<_>>());
        Ok(naming)
    }
}
