//! Every known tag, from memory and from the store.

use super::Facts;
use crate::store::{KnownImage, StoreError};

impl Facts {
    /// All known tags with their digests.
    pub(in crate::resolve) async fn images(&self) -> Result<Vec<KnownImage>, StoreError> {
        let recent = self.recent().current_tags();
        let mut images: Vec<_> =
            recent.into_iter().map(|(name, tag, digest)| KnownImage { name, tag, digest }).collect();
        let known: std::collections::HashSet<_> =
            images.iter().map(|image| (image.name.clone(), image.tag.clone())).collect();
        let stored = self.store.images().await?.into_iter();
        images.extend(stored.filter(|image| !known.contains(&(image.name.clone(), image.tag.clone()))));
        images.sort_by(|a, b| {
            let key = |image: &KnownImage| (image.name.to_string(), image.tag.to_string());
            key(a).cmp(&key(b))
        });
        Ok(images)
    }
}
