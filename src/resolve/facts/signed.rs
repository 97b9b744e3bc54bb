//! Tags signed by content trust, regardless of what the registry says about them.

use std::sync::Arc;

use super::Facts;
use crate::oci::{ImageName, Manifest, Tag};

impl Facts {
    /// Learns that a tag names a manifest because it was signed for it, or because its registry is offline, so that
    /// rules for the tag apply to the digest too. Nothing is learned about what the registry says about the tag.
    pub(in crate::resolve) async fn learn_signed_tag(
        self: &Arc<Self>,
        name: &ImageName,
        tag: &Tag,
        manifest: &Arc<Manifest>,
    ) {
        let known = self.known_tags(name, manifest.digest).await;
        if known.is_ok_and(|known| known.contains(tag)) {
            return;
        }
        let at = self.clock.now();
        if self.is_stored(name, manifest.digest).await {
            self.keep(name, manifest, true, |entry| entry.signed_tag(tag, at)).await;
        } else {
            self.recent().note(name, manifest, at, |entry| entry.signed_tag(tag, at));
            self.learnt(name, manifest);
        }
    }
}
