//! Known tags, from memory and from the store.

use std::collections::HashSet;

use super::Facts;
use crate::store::{KnownImage, StoreError, TagPosition};

impl Facts {
    /// Known tags with their digests, ordered by registry, repository and tag: at most `limit` of those after a tag.
    pub(in crate::resolve) async fn images(
        &self,
        after: Option<&TagPosition>,
        limit: usize,
    ) -> Result<Vec<KnownImage>, StoreError> {
        let recent = self.recent().current_tags().into_iter();
        let recent = recent.map(|(name, tag, digest)| KnownImage { name, tag, digest });
        let mut images: Vec<_> = recent.filter(|image| after.is_none_or(|after| image.position() > *after)).collect();
        let known: HashSet<_> = images.iter().map(|image| (image.name.clone(), image.tag.clone())).collect();
        let stored = self.store.images(after, limit).await?.into_iter();
        images.extend(stored.filter(|image| !known.contains(&(image.name.clone(), image.tag.clone()))));
        images.sort_by_cached_key(KnownImage::position);
        images.truncate(limit);
        Ok(images)
    }
}
